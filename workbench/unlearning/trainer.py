"""The step that every run repeats: micro-batches, gradients, one update of the parameters.

A step depends on the settings, its number and the checkpointed state only, so that a run resumed from a checkpoint
gives the numbers of an undisturbed one.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Any, TypeVar

import pandas as pd
import torch

from workbench.cost import Ledger
from workbench.errors import UserError
from workbench.models import (
    LanguageModel,
    Products,
    TokenStats,
    backward_products,
    choose_trained,
    collected,
    compiled,
    count_backward,
    count_forward,
    out_of_memory,
    processes,
    split_like,
    token_stats,
    whole,
)
from workbench.unlearning.batches import MicroBatch, gather_stats, merged
from workbench.unlearning.checkpoint import Checkpoint
from workbench.unlearning.diverged import Diverged
from workbench.unlearning.losses import ForgetLoss, RetainLoss
from workbench.unlearning.settings import Settings, schedule
from workbench.unlearning.skipping import Skipping

T = TypeVar("T")


def prepare(lm: LanguageModel, settings: Settings) -> None:
    """Make a model ready for training, in place: choose what is trained, attach LoRA, compile."""
    choose_trained(lm, settings.train, rank=settings.lora_rank, scale=settings.lora_alpha, seed=settings.seed)
    lm.compiled = compiled(lm) if settings.compile else None


class Trainer:
    """A prepared model, its losses and its optimiser.

    The loss is gamma x forget loss + alpha x retain loss. Without a forget loss this is plain fine-tuning.

    Attributes:
        steps_done: optimiser steps so far.
        alpha: weight of the retain loss, which dual ascent changes.
    """

    def __init__(
        self,
        lm: LanguageModel,
        settings: Settings,
        ledger: Ledger,
        forget: ForgetLoss | None,
        retain: RetainLoss | None,
    ) -> None:
        if forget is None and retain is None:
            raise UserError("alpha is 0, so that nothing is trained; give it a value above 0")
        self.lm, self.settings, self.ledger, self.forget, self.retain = lm, settings, ledger, forget, retain
        self.steps_done, self.alpha, self.processes = 0, settings.alpha, processes()
        self.parameters = [p for p in lm.module.parameters() if p.requires_grad]
        self.optimizer = torch.optim.AdamW(
            self.parameters, lr=settings.lr, weight_decay=settings.weight_decay, fused=True
        )
        self.samplers = [loss.batches for loss in (forget, retain) if loss is not None]
        self.sparse = [loss.sparse for loss in (forget, retain) if loss is not None and loss.sparse is not None]
        self._backward_products: dict[int | None, Products] = {}
        self._gpus = [lm.device] if lm.device.type == "cuda" else []

    def pretrain_scorer(self) -> None:
        """Let a live scorer learn from the unchanged model first, for as many steps as its `pretrain` says."""
        if self.forget is not None and self.learner is not None:
            for step in range(1, self.learner.pretrain + 1):
                self.forget.learn(self._whole_stats(step))

    def step(self) -> dict[str, Any]:
        """One optimiser step; returns its event."""
        started, flops, step = time.perf_counter(), self.ledger.total.flops, self.steps_done + 1
        rate = schedule(step, self.settings)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.lm.module.train()
        with torch.random.fork_rng(self._gpus):  # dropout depends on the seed and the step only
            torch.manual_seed(self.settings.seed * 1_000_003 + step)
            values = self._within_memory(lambda: self._gradients(step))
        values = self.processes.total(values | {"flops": self.ledger.total.flops - flops})
        self._check("loss", values["loss"], step)
        norm = self._update(step)
        self.lm.module.eval()
        self.steps_done = step
        event: dict[str, Any] = {"step": step, **values, "tokens": int(values["tokens"])}
        if self.micro_batch_size:
            event["micro_batch"] = self.micro_batch_size
        if self.settings.dual_rate and "retain_loss" in event:
            event["alpha"] = self.alpha
            if step > self.settings.dual_warmup:
                rise = self.settings.dual_rate * (event["retain_loss"] - self.settings.retain_eps)
                self.alpha = max(0.0, self.alpha + rise)
        return event | {"lr": rate, "grad_norm": norm, "seconds": time.perf_counter() - started}

    def _update(self, step: int) -> float:
        """Clip the gradient and move the parameters; returns the gradient's norm before clipping."""
        with self.ledger.phase("optimizer"):
            self.processes.add_gradients(self.parameters)
            norm = float(whole(torch.nn.utils.clip_grad_norm_(self.parameters, self.settings.clip)))
            self._check("gradient's norm", norm, step)
            self.optimizer.step()
            self.optimizer.zero_grad()
            # Else the last step's failure would not be seen: no step comes after it.
            weights = torch.nn.utils.get_total_norm([p.detach() for p in self.parameters])
            self._check("norm of the weights", float(whole(weights)), step)
        if self.skipping is not None:
            self.skipping.step_done(self.samplers[0].indices(step))
        for side in self.sparse:
            side.step_done()
        return norm

    def _check(self, what: str, value: float, step: int) -> None:
        if not math.isfinite(value):
            raise Diverged(
                what, value, step, [s.encodings[i].sample.id for s in self.samplers for i in s.indices(step)]
            )

    def _within_memory(self, compute: Callable[[], T]) -> T:
        """What `compute` returns. If memory runs out in any process, all try again with micro-batches half as large."""
        while True:
            scorer = dict(self.learner.state) if self.learner is not None else {}
            result: list[T] = []
            try:
                result.append(compute())
            except RuntimeError as error:
                if not out_of_memory(error):
                    raise
                if self.processes.sharded:  # the others already wait for this one's weights, within their forward
                    raise UserError("a process of a sharded run is out of memory; set micro_batch_size") from error
            if not self.processes.any(not result):
                return result[0]
            if self.learner is not None:
                self.learner.state = scorer  # undo what it learned in this attempt
            self._halve()

    def _halve(self) -> None:
        self.optimizer.zero_grad()
        if self._gpus:
            torch.cuda.empty_cache()
        size = max(min(s.micro_batch_size, s.batch_size // self.processes.world) for s in self.samplers)
        if size == 1:
            raise UserError(
                f"the memory of {self.lm.device} does not hold one sample at a time; train=lora or shorter texts "
                "take less"
            )
        for sampler in self.samplers:
            sampler.micro_batch_size = (size + 1) // 2

    def _whole_stats(self, step: int) -> TokenStats:
        """Statistics of a step's whole forget batch, over micro-batches and processes; without gradient."""
        assert self.forget is not None
        forget = self.forget
        return gather_stats(self._within_memory(lambda: forget.local_stats(step)))

    def _gradients(self, step: int) -> dict[str, float]:
        """Add up the gradient of the step's loss over this process's micro-batches; returns the event's values."""
        pairs: list[tuple[ForgetLoss | RetainLoss, MicroBatch]] = []
        if self.forget is not None:
            pairs += [(self.forget, each) for each in self.forget.micro_batches(step, self._whole_stats)]
        if self.retain is not None:
            pairs += [(self.retain, each) for each in self.retain.micro_batches(step)]
        values: dict[str, list[Any]] = {"loss": [], "tokens": []}
        for group in [pairs] if self._one_forward(pairs) else [[pair] for pair in pairs]:
            self._backward(group, values)
        # This waits for a GPU at the latest. Sums are float64, so that micro-batches add up to the whole precisely.
        sums = {name: float(sum(map(float, shares))) for name, shares in values.items()}
        return sums | ({} if self.skipping is None or self.forget is None else {"skipped": 1 - self.forget.computed})

    def _one_forward(self, pairs: list[tuple[ForgetLoss | RetainLoss, MicroBatch]]) -> bool:
        """Whether one forward serves both losses: they read the same, and all samples may be computed at once."""
        if len(pairs) != 2 or self.forget is None or self.retain is None:
            return False
        forget, retain, samples = self.forget.reads, self.retain.reads, sum(len(each.indices) for _, each in pairs)
        return (
            len(self.sparse) != 1
            and len({side.contexts for side in self.sparse}) < 2
            and not (forget["logits"] or retain["logits"])
            and forget["states"] == retain["states"]
            and samples <= (self.settings.micro_batch_size or samples)
            and all(s.micro_batch_size >= s.batch_size for s in self.samplers)
        )

    def _backward(self, pairs: list[tuple[ForgetLoss | RetainLoss, MicroBatch]], values: dict[str, list[Any]]) -> None:
        """One forward and backward for some micro-batches; appends their shares of the event's values."""
        batch = pairs[0][1].batch
        if len(pairs) > 1:
            batch = merged(self.lm, [each for _, each in pairs])
        reads = pairs[0][0].reads | pairs[-1][0].reads
        with self.ledger.shared({loss.name: each.tokens for loss, each in pairs}) as phase:
            stats = token_stats(self.lm, batch, extras=False, **reads)
            count_forward(phase, self.lm, batch)
        split = [stats] if len(pairs) == 1 else stats.split(len(pairs[0][1].indices))
        total, batches = torch.zeros((), device=self.lm.device), [batch]
        for (loss, each), own in zip(pairs, split, strict=True):
            value, shares, others = loss(each, own)
            value = (self.settings.gamma if loss is self.forget else self.alpha) * value
            total = total + value
            batches += others
            for name, share in ({"loss": value.detach()} | shares).items():
                values.setdefault(name, []).append(share)
        if not total.requires_grad:
            raise UserError(
                f"train={self.settings.train} trains nothing that the loss depends on; train lower layers too"
            )
        values["tokens"].append(batch.tokens)
        with self.ledger.phase("backward") as phase:
            total.backward()
            for each_batch in batches:
                count_backward(phase, self.lm, each_batch, self._products([loss.layer for loss, _ in pairs]))

    def _products(self, layers: list[int | None]) -> Products:
        """FLOPs of a backward pass of losses that are read from these layers' states (None: from the logits)."""
        highest = None if None in layers else max(layer for layer in layers if layer is not None)
        if highest not in self._backward_products:
            self._backward_products[highest] = backward_products(self.lm, highest)
        return self._backward_products[highest]

    @property
    def micro_batch_size(self) -> int:
        """Samples computed at once, where that is less than a process's share of the batch; else 0."""
        sizes = [s.micro_batch_size for s in self.samplers if s.micro_batch_size < s.batch_size // self.processes.world]
        return max(sizes, default=0)

    @property
    def learner(self) -> Any:
        """The live scorer of the run, if it has one."""
        return None if self.forget is None else self.forget.weights.learner

    @property
    def skipping(self) -> Skipping | None:
        """Saturation skipping, if the run uses it."""
        return None if self.forget is None else self.forget.skipping

    def checkpoint(self, scores: pd.DataFrame) -> Checkpoint:
        """The present state, with the scores recorded so far; its tensors are valid until the next step.

        All processes must call it. In a sharded run only the main process gets the tensors.
        """
        moments = self.optimizer.state_dict()["state"]
        return Checkpoint(
            self.steps_done,
            self.alpha,
            self.micro_batch_size,
            parameters=collected({n: p for n, p in self.lm.module.named_parameters() if p.requires_grad}),
            optimizer=collected({f"{i}.{k}": v for i, entry in moments.items() for k, v in entry.items()}),
            scorer=collected(self.learner.state if self.learner is not None else {}),
            skipping=collected(self._spared()),
            scores=scores,
            ledger=self.ledger,
        )

    def _spared(self) -> dict[str, torch.Tensor]:
        """State of skipping and of sparse steps."""
        state = {} if self.skipping is None else self.skipping.state
        for side in self.sparse:
            state |= side.state
        return state

    def load(self, checkpoint: Checkpoint) -> None:
        """Go on from a checkpoint."""
        with torch.no_grad():
            for name, parameter in self.lm.module.named_parameters():
                if parameter.requires_grad:
                    parameter.copy_(split_like(checkpoint.parameters[name], parameter))
        record = self.optimizer.state_dict()
        record["state"] = {}
        for name, tensor in checkpoint.optimizer.items():
            index, key = name.split(".", 1)
            record["state"].setdefault(int(index), {})[key] = split_like(tensor, self.parameters[int(index)])
        self.optimizer.load_state_dict(record)
        self.steps_done, self.alpha = checkpoint.step, checkpoint.alpha
        for sampler in self.samplers:
            sampler.micro_batch_size = checkpoint.micro_batch_size or sampler.micro_batch_size
        if self.learner is not None:
            if lacking := set(self.learner.state) - set(checkpoint.scorer):
                raise ValueError(f"it lacks {min(lacking)} of the scorer")
            self.learner.state = {k: v.to(self.lm.device) for k, v in checkpoint.scorer.items()}
        if self.skipping is not None:
            self.skipping.load(checkpoint.skipping)
        for side in self.sparse:
            side.load(checkpoint.skipping)

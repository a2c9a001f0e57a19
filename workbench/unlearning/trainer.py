"""The step that every run repeats: batches in, gradients, one move of the optimiser.

Every step depends on the settings, its number and the state only, so that a run that is resumed from a checkpoint gives
the numbers of an undisturbed one.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from workbench.cost import Ledger
from workbench.errors import UserError
from workbench.models import (
    LanguageModel,
    TokenStats,
    backward_share,
    choose_trained,
    collate,
    collected,
    compiled,
    count_forward,
    out_of_memory,
    processes,
    split_like,
    token_stats,
    whole,
)
from workbench.tasks import Sample
from workbench.unlearning.losses import ForgetLoss, ForgetMicroBatch, RetainLoss, RetainMicroBatch
from workbench.unlearning.settings import Settings, schedule
from workbench.unlearning.skipping import Skipping


@dataclass
class State:
    """What a checkpoint holds: all that the next step depends on, and what was recorded so far."""

    step: int
    alpha: float
    micro_batch: int
    parameters: dict[str, Tensor]
    optimizer: dict[str, Tensor]
    scorer: dict[str, Tensor]
    skipping: dict[str, Tensor]
    scores: pd.DataFrame
    ledger: Ledger


class Diverged(UserError):
    """A loss or gradient that is no number any more: at which step, and the samples of its batch."""

    def __init__(self, what: str, value: float, step: int, samples: list[str]) -> None:
        named = ", ".join(samples[:4]) + (f" and {len(samples) - 4} more" if len(samples) > 4 else "")
        super().__init__(f"the {what} is {value} at step {step} (samples {named}); a smaller lr or clip may help")
        self.step, self.samples = step, samples


class Loop:
    """Model, optimiser, data and costs of one run, and the step that moves them on.

    The loss is gamma x forget loss + alpha x retain loss; without an objective there is only the retain part, and the
    loop is plain fine-tuning.
    """

    def __init__(
        self,
        lm: LanguageModel,
        settings: Settings,
        ledger: Ledger,
        keep: list[Sample],
        forget: Callable[[], ForgetLoss] | None = None,
    ) -> None:
        from accelerate import Accelerator

        self.lm, self.settings, self.ledger = lm, settings, ledger
        self.step, self.alpha, self.processes = 0, settings.alpha, processes()
        # The model stays where it is: accelerate's own choice of device holds for a whole process.
        self.accelerator = Accelerator(device_placement=False)
        self._gpus = [lm.device] if lm.device.type == "cuda" else []
        choose_trained(lm, settings.train, rank=settings.lora_rank, scale=settings.lora_alpha, seed=settings.seed)
        lm.compiled = compiled(lm) if settings.compile else None
        self.parameters = [p for p in lm.module.parameters() if p.requires_grad]
        optimizer = torch.optim.AdamW(self.parameters, lr=settings.lr, weight_decay=settings.weight_decay, fused=True)
        self.optimizer = self.accelerator.prepare(optimizer)
        self.forget = None if forget is None else forget()
        needs_retain = settings.alpha > 0 or settings.dual_rate > 0
        layer = None if self.forget is None else self.forget.layer
        self.keep = RetainLoss(lm, keep, settings, ledger, layer) if needs_retain else None
        if self.forget is None and self.keep is None:
            raise UserError("alpha is 0, so that nothing is trained; give it a value above 0")
        self.batchers = [term.batches for term in (self.forget, self.keep) if term is not None]
        self.backward_share = backward_share(lm)

    def advance(self) -> dict[str, Any]:
        """One optimiser step; returns its event."""
        started = time.perf_counter()
        self.step += 1
        with torch.random.fork_rng(self._gpus):  # dropout depends on the seed and the step alone
            torch.manual_seed(self.settings.seed * 1_000_003 + self.step)
            return self._advance(started)

    def pretrain_scorer(self) -> None:
        """Let a live scorer learn from the unchanged model first, as many steps as it asks for."""
        if self.forget is None or self.forget.weights.learner is None:
            return
        for step in range(1, self.forget.weights.learner.pretrain + 1):
            self._learn(self.forget.whole_stats(self.forget.batches.parts(step)))

    def _learn(self, stats: TokenStats) -> None:
        learner = self.learner
        with self.ledger.phase("scorer") as phase, torch.enable_grad():
            learner.learn(stats)
            phase.tokens += len(stats.labels)
            phase.flops += 6.0 * len(stats.labels) * learner.products

    def _advance(self, started: float) -> dict[str, Any]:
        self.lm.module.train()
        rate = schedule(self.step, self.settings)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        flops = self.ledger.total.flops
        said = self._gradients()
        said = self.processes.total(said | {"flops": self.ledger.total.flops - flops})
        self._check("loss", said["loss"])
        with self.ledger.phase("optimizer"):
            self.processes.add_gradients(self.parameters)
            norm = float(whole(self.accelerator.clip_grad_norm_(self.parameters, self.settings.clip)))
            self._check("gradient's norm", norm)
            self.optimizer.step()
            self.optimizer.zero_grad()
        if self.skipping is not None:
            self.skipping.step_done(self.batchers[0].indices(self.step))
        self.lm.module.eval()
        event: dict[str, Any] = {"step": self.step, **said, "tokens": int(said["tokens"])}
        if self.micro_batch:
            event["micro_batch"] = self.micro_batch
        if self.settings.dual_rate and "retain_loss" in event:
            event["alpha"] = self.alpha
            rise = self.settings.dual_rate * (event["retain_loss"] - self.settings.retain_level)
            self.alpha = max(0.0, self.alpha + rise)
        return event | {"lr": rate, "grad_norm": norm, "seconds": time.perf_counter() - started}

    def _check(self, what: str, value: float) -> None:
        if not math.isfinite(value):
            samples = [b.encodings[i].sample.id for b in self.batchers for i in b.indices(self.step)]
            raise Diverged(what, value, self.step, samples)

    def _gradients(self) -> dict[str, float]:
        """Adds up the loss's gradient over this process's parts; where memory runs out, again with smaller parts."""
        while True:
            scorer = dict(self.learner.state) if self.learner is not None else {}
            try:
                short, said = False, self._accumulate()
            except RuntimeError as error:
                if not out_of_memory(error):
                    raise
                if self.processes.sharded:  # the others wait for this one's shares in the middle of their forward
                    raise UserError("a process of a sharded run is out of memory; set micro_batch") from error
                short, said = True, {}
            if not self.processes.any(short):
                return said
            if self.learner is not None:
                self.learner.state = scorer  # what it learned in this attempt, it will learn again
            self._halve()

    def _accumulate(self) -> dict[str, float]:
        said: dict[str, list[Any]] = {"loss": [], "tokens": []}
        forget: list[ForgetMicroBatch] = [] if self.forget is None else self.forget.parts(self.step, self._learn)
        keep: list[RetainMicroBatch] = [] if self.keep is None else self.keep.parts(self.step)
        if len(forget) == len(keep) == 1 and self._together(forget[0], keep[0]):
            self._add(said, forget[0], keep[0])
        else:
            for part in forget:
                self._add(said, part)
            for other in keep:
                self._add(said, other)
        # Here at the latest a GPU is waited for. Added up in float64, so that parts are the whole to the last bits.
        sums = {name: float(sum(map(float, values))) for name, values in said.items()}
        return sums | (
            {"skipped": self.forget.skipped} if self.forget is not None and self.skipping is not None else {}
        )

    def _together(self, forget: ForgetMicroBatch, keep: RetainMicroBatch) -> bool:
        """Whether one forward serves both: it reads the same, and both are what may be computed at once."""
        a, b = forget.term.reads, keep.term.reads
        samples = len(forget.part.indices) + len(keep.part.indices)
        return (
            not (a["logits"] or b["logits"])
            and a["states"] == b["states"]
            and samples <= (self.settings.micro_batch or samples)
            and all(b.most >= b.size for b in self.batchers)
        )

    def _add(self, said: dict[str, list[Any]], *parts: ForgetMicroBatch | RetainMicroBatch) -> None:
        """Add the gradient of some parts' loss to the parameters, and what is said of them."""
        batch = parts[0].part.batch
        if len(parts) > 1:
            batch = collate(self.lm, [e for each in parts for e in each.part.encodings])
        names = ["forget" if isinstance(each, ForgetMicroBatch) else "retain" for each in parts]
        reads = parts[0].term.reads | parts[-1].term.reads
        with self.ledger.shared({n: each.part.tokens for n, each in zip(names, parts, strict=True)}) as phase:
            stats = token_stats(self.lm, batch, extras=False, **reads)
            count_forward(phase, self.lm, batch)
        split = [stats] if len(parts) == 1 else stats.split(len(parts[0].part.indices))
        total, computed = torch.zeros((), device=self.lm.device), [batch]
        for name, each, own in zip(names, parts, split, strict=True):
            factor = self.settings.gamma if name == "forget" else self.alpha
            loss, found = each.loss(own)
            total = total + factor * loss
            said["loss"].append((factor * loss).detach())
            computed += found.pop("computed")
            for key, value in found.items():
                said.setdefault(key, []).append(value)
        if not total.requires_grad:
            raise UserError(
                f"train={self.settings.train} trains nothing that the loss depends on; train lower layers too"
            )
        said["tokens"].append(batch.tokens)
        with self.ledger.phase("backward") as phase:
            self.accelerator.backward(total)
            for done in computed:
                count_forward(phase, self.lm, done, passes=self.backward_share)

    @property
    def micro_batch(self) -> int:
        """Samples computed at once, where that is less than a process's share of the batch; else 0."""
        split = [b.most for b in self.batchers if b.most < b.size // self.processes.world]
        return max(split, default=0)

    def _halve(self) -> None:
        self.optimizer.zero_grad()
        if self._gpus:
            torch.cuda.empty_cache()
        most = max(min(b.most, b.size // self.processes.world) for b in self.batchers)
        if most == 1:
            raise UserError(
                f"the memory of {self.lm.device} does not hold one sample at a time; train=lora or shorter texts "
                "take less"
            )
        for batcher in self.batchers:
            batcher.most = (most + 1) // 2

    @property
    def learner(self) -> Any:
        """The live scorer of the run, if it has one."""
        return None if self.forget is None else self.forget.weights.learner

    @property
    def skipping(self) -> Skipping | None:
        """What the run knows of tokens that pull no more, if it skips them."""
        return None if self.forget is None else self.forget.skipping

    def optimizer_tensors(self) -> dict[str, Tensor]:
        """AdamW's state as flat names, `<parameter>.<entry>`."""
        states = self.optimizer.state_dict()["state"]
        return {f"{i}.{k}": v for i, entry in states.items() for k, v in entry.items()}

    def tensors(self) -> dict[str, dict[str, Tensor]]:
        """Trained parameters, optimiser and scorer as they are now, on the CPU; valid until the next step.

        All processes must ask for them; of sharded ones the main process alone gets them.
        """
        parts = {
            "parameters": {n: p for n, p in self.lm.module.named_parameters() if p.requires_grad},
            "optimizer": self.optimizer_tensors(),
            "scorer": self.learner.state if self.learner is not None else {},
            "skipping": self.skipping.state if self.skipping is not None else {},
        }
        return {part: collected(tensors) for part, tensors in parts.items()}

    def load(self, state: State) -> None:
        """Go on from a checkpoint."""
        with torch.no_grad():
            for name, parameter in self.lm.module.named_parameters():
                if parameter.requires_grad:
                    parameter.copy_(split_like(state.parameters[name], parameter))
        record = self.optimizer.state_dict()
        record["state"] = {}
        for name, tensor in state.optimizer.items():
            index, key = name.split(".", 1)
            record["state"].setdefault(int(index), {})[key] = split_like(tensor, self.parameters[int(index)])
        self.optimizer.load_state_dict(record)
        self.step, self.alpha = state.step, state.alpha
        for batcher in self.batchers:
            batcher.most = state.micro_batch or batcher.most
        if self.learner is not None:
            self.learner.state = {k: v.to(self.lm.device) for k, v in state.scorer.items()}
        if self.skipping is not None:
            self.skipping.load(state.skipping)

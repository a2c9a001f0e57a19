"""The one training loop: plant a task into a model, or make the model forget part of it.

Every step depends on the settings, the step's number and the state only, so a run that is resumed from a checkpoint
gives the numbers of an undisturbed one.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from workbench.cost import Ledger, Phase
from workbench.models import LanguageModel
from workbench.objectives import ForgetTokens, objective, retain_loss
from workbench.registry import UserError
from workbench.scorers.weights import Weights, prepare_weights, record_scores, recorded_weights, states_of
from workbench.tasks import Sample, Task
from workbench.tokens import Encoding, TokenBatch, TokenStats, collate, encode, token_stats


@dataclass(frozen=True)
class Settings:
    """All numbers of a run; options of the objective and the scorer stand in `options`.

    Attributes:
        steps: optimiser steps.
        batch_size: forget samples a step, and as many retain samples.
        lr: largest learning rate of AdamW.
        warmup: steps of linear warm-up; linear decay to a tenth follows.
        weight_decay: of AdamW.
        clip: largest gradient norm.
        gamma: weight of the forget loss.
        alpha: weight of the retain loss.
        retain_loss: `nll`, or `kl` to the model before the run.
        seed: of every random source.
        record_every: steps between two records of the token scores.
        checkpoint_every: steps between two checkpoints.
        options: keyword arguments, under "objective" and "weights".
    """

    steps: int = 60
    batch_size: int = 32
    lr: float = 3e-4
    warmup: int = 5
    weight_decay: float = 0.0
    clip: float = 1.0
    gamma: float = 1.0
    alpha: float = 1.0
    retain_loss: str = "nll"
    seed: int = 0
    record_every: int = 10
    checkpoint_every: int = 20
    options: dict[str, dict[str, Any]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in ("steps", "batch_size", "record_every", "checkpoint_every"):
            if getattr(self, name) < 1:
                raise UserError(f"{name} must be at least 1, not {getattr(self, name)}")
        for name in ("lr", "clip"):
            if not (getattr(self, name) > 0 and math.isfinite(getattr(self, name))):
                raise UserError(f"{name} must be above 0 and finite, not {getattr(self, name)}")
        for name in ("warmup", "weight_decay", "gamma", "alpha"):
            if not (getattr(self, name) >= 0 and math.isfinite(getattr(self, name))):
                raise UserError(f"{name} must be at least 0 and finite, not {getattr(self, name)}")


@dataclass
class State:
    """What a checkpoint holds: all that the next step depends on, and what was recorded so far."""

    step: int
    parameters: dict[str, Tensor]
    optimizer: dict[str, Tensor]
    scorer: dict[str, Tensor]
    scores: pd.DataFrame
    ledger: Ledger


@dataclass
class Run:
    """What a run leaves: the model, one event a step, the recorded token scores, the costs, and the live scorer."""

    lm: LanguageModel
    events: list[dict[str, Any]]
    scores: pd.DataFrame
    ledger: Ledger
    finished: bool
    scorer: Any = None


def schedule(step: int, settings: Settings) -> float:
    """Learning rate of a step (from 1): linear warm-up, then linear decay to a tenth."""
    if step <= settings.warmup:
        return settings.lr * step / settings.warmup
    left = (settings.steps - step) / max(1, settings.steps - settings.warmup)
    return settings.lr * (0.1 + 0.9 * left)


class Batcher:
    """Batches of a set of samples in an order that depends on the seed and the epoch alone."""

    def __init__(self, lm: LanguageModel, encodings: list[Encoding], size: int, seed: int) -> None:
        self.lm, self.encodings, self.size, self.seed = lm, encodings, min(size, len(encodings)), seed
        self._orders: dict[int, list[int]] = {}

    def at(self, step: int) -> tuple[list[int], TokenBatch]:
        """Sample indices and batch of a step (from 1). An epoch's last batch takes its missing rows from the next."""
        count = len(self.encodings)
        places = range((step - 1) * self.size, step * self.size)
        chosen = [self._order(place // count)[place % count] for place in places]
        return chosen, collate(self.lm, [self.encodings[i] for i in chosen])

    def _order(self, epoch: int) -> list[int]:
        if epoch not in self._orders:
            generator = torch.Generator().manual_seed(self.seed * 1_000_003 + epoch)
            self._orders = {epoch - 1: self._orders.get(epoch - 1, [])} | {
                epoch: torch.randperm(len(self.encodings), generator=generator).tolist()
            }
        return self._orders[epoch]


class Loop:
    """Model, optimiser, data and costs of one run, and the step that moves them on.

    The loss is gamma x forget loss + alpha x retain loss; without an objective there is only the retain part, and the
    loop is plain fine-tuning.
    """

    def __init__(self, lm: LanguageModel, settings: Settings, ledger: Ledger, keep: list[Sample]) -> None:
        from accelerate import Accelerator

        self.lm, self.settings, self.ledger = lm, settings, ledger
        self.step = 0
        self.keep_entry = retain_loss[settings.retain_loss]
        needs_reference = "reference" in self.keep_entry.facts["needs"]
        self.before = lm.frozen_copy() if needs_reference else None
        self.keep = Batcher(lm, [encode(lm, s) for s in keep], settings.batch_size, settings.seed + 7919)
        # The model stays where it is: accelerate's own choice of device holds for a whole process.
        self.accelerator = Accelerator(device_placement=False)
        self._gpus = [lm.device] if lm.device.type == "cuda" else []
        lm.module.requires_grad_(True)
        self.parameters = [p for p in lm.module.parameters() if p.requires_grad]
        optimizer = torch.optim.AdamW(self.parameters, lr=settings.lr, weight_decay=settings.weight_decay)
        self.optimizer = self.accelerator.prepare(optimizer)
        self.forget: Batcher | None = None

    def set_forget(self, encodings: list[Encoding], objective_name: str, weights: Weights) -> None:
        """Add the forget part of the loss."""
        self.forget = Batcher(self.lm, encodings, self.settings.batch_size, self.settings.seed)
        self.objective, self.weights = objective[objective_name], weights

    def advance(self) -> dict[str, Any]:
        """One optimiser step; returns its event."""
        started = time.perf_counter()
        self.step += 1
        with torch.random.fork_rng(self._gpus):  # dropout depends on the seed and the step alone
            torch.manual_seed(self.settings.seed * 1_000_003 + self.step)
            return self._advance(started)

    def pretrain_scorer(self) -> None:
        """Let a live scorer learn from the unchanged model first, as many steps as it asks for."""
        learner = self.weights.learner
        if learner is None or self.forget is None:
            return
        for step in range(1, learner.pretrain + 1):
            with self.ledger.phase("scorer", calls=0) as phase, torch.no_grad():
                _, batch = self.forget.at(step)
                stats = token_stats(self.lm, batch, extras=False, **states_of(learner))
                phase.count(self.lm, batch)
            self._learn(stats)

    def _learn(self, stats: TokenStats) -> None:
        learner = self.weights.learner
        with self.ledger.phase("scorer") as phase, torch.enable_grad():
            learner.learn(stats)
            phase.tokens += len(stats.labels)
            phase.flops += 6.0 * len(stats.labels) * learner.products

    def _advance(self, started: float) -> dict[str, Any]:
        self.lm.module.train()
        rate = schedule(self.step, self.settings)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        event: dict[str, Any] = {"step": self.step, "loss": 0.0, "tokens": 0}
        for part in (self._forget_part, self._keep_part):
            event.update(part(event))
        if not math.isfinite(event["loss"]):
            raise UserError(f"the loss is {event['loss']} at step {self.step}; a smaller lr or clip may help")
        with self.ledger.phase("optimizer"):
            norm = self.accelerator.clip_grad_norm_(self.parameters, self.settings.clip)
            self.optimizer.step()
            self.optimizer.zero_grad()
        self.lm.module.eval()
        return event | {"lr": rate, "grad_norm": float(norm), "seconds": time.perf_counter() - started}

    def _forget_part(self, event: dict[str, Any]) -> dict[str, Any]:
        if self.forget is None:
            return {}
        indices, batch = self.forget.at(self.step)
        learner = self.weights.learner
        with self.ledger.phase("forget") as phase:
            stats = token_stats(self.lm, batch, extras=False, **states_of(learner))
            phase.count(self.lm, batch, passes=3)
        if learner is not None and learner.every and (self.step - 1) % learner.every == 0:
            self._learn(stats)
        with self.ledger.phase("forget", calls=0):
            tokens = ForgetTokens(stats, self.weights.of(indices, stats))
            loss = self.objective.function(tokens, **self.settings.options.get("objective", {}))
            self.accelerator.backward(self.settings.gamma * loss)
        return {
            "forget_loss": float(loss.detach()),
            "forget_nll": float(stats.nll.detach().mean()),
            "loss": event["loss"] + self.settings.gamma * float(loss.detach()),
            "tokens": event["tokens"] + batch.tokens,
        }

    def _keep_part(self, event: dict[str, Any]) -> dict[str, Any]:
        _, batch = self.keep.at(self.step)
        known: TokenStats | None = None
        if self.before is not None:
            with self.ledger.phase("reference") as phase, torch.no_grad():
                known = token_stats(self.before, batch, extras=False, logits=True)
                phase.count(self.before, batch)
        with self.ledger.phase("retain") as phase:
            stats = token_stats(self.lm, batch, extras=False, logits=known is not None)
            loss = self.keep_entry.function(stats, known)
            self.accelerator.backward(self.settings.alpha * loss)
            phase.count(self.lm, batch, passes=3)
        return {
            "retain_loss": float(loss.detach()),
            "retain_nll": float(stats.nll.detach().mean()),
            "loss": event["loss"] + self.settings.alpha * float(loss.detach()),
            "tokens": event["tokens"] + batch.tokens,
        }

    def optimizer_tensors(self) -> dict[str, Tensor]:
        """AdamW's state as flat names, `<parameter>.<entry>`."""
        states = self.optimizer.state_dict()["state"]
        return {f"{i}.{k}": v for i, entry in states.items() for k, v in entry.items()}

    def tensors(self) -> dict[str, dict[str, Tensor]]:
        """Parameters, optimiser and scorer as they are now, on the CPU; valid until the next step."""
        learner = self.weights.learner
        parts = {
            "parameters": dict(self.lm.module.named_parameters()),
            "optimizer": self.optimizer_tensors(),
            "scorer": learner.state if learner is not None else {},
        }
        return {part: {k: v.detach().cpu().contiguous() for k, v in d.items()} for part, d in parts.items()}

    def load(self, state: State) -> None:
        """Go on from a checkpoint."""
        with torch.no_grad():
            for name, parameter in self.lm.module.named_parameters():
                parameter.copy_(state.parameters[name])
        record = self.optimizer.state_dict()
        record["state"] = {}
        for name, tensor in state.optimizer.items():
            index, key = name.split(".", 1)
            record["state"].setdefault(int(index), {})[key] = tensor
        self.optimizer.load_state_dict(record)
        self.step = state.step
        if self.weights.learner is not None:
            self.weights.learner.state = {k: v.to(self.lm.device) for k, v in state.scorer.items()}


def unlearn(
    lm: LanguageModel,
    task: Task,
    objective: str = "atwu",
    weights: str | pd.DataFrame = "atwu",
    *,
    settings: Settings | None = None,
    reference: LanguageModel | None = None,
    in_place: bool = False,
    on_step: Callable[[dict[str, Any]], None] = lambda event: None,
    on_checkpoint: Callable[[State], None] = lambda state: None,
    stop: Callable[[], bool] = lambda: False,
    resume: State | None = None,
) -> Run:
    """Make a model forget: minimise gamma x forget loss + alpha x retain loss by AdamW.

    Args:
        lm: the model to change; copied first unless `in_place`.
        task: what to forget and what to keep.
        objective: forget loss by name.
        weights: scorer by name (scored before the run, or learning along), the path of a saved scorer (applied to the
            model's states as they change), or a score table of one scorer.
        settings: the numbers.
        reference: for scorers that need one.
        in_place: change `lm` itself.
        on_step: called with each step's event.
        on_checkpoint: called with the state at checkpoints, and when stopped.
        stop: asked before each step.
        resume: the state to go on from; `lm` is the model as it was before the run.
    """
    settings = settings or Settings()
    if not in_place:
        lm = lm.frozen_copy()
    ledger = resume.ledger if resume else Ledger()
    with ledger.phase("scoring") as cost:
        token_weights = prepare_weights(
            lm,
            task,
            weights if resume is None else recorded_weights(resume.scores, weights),
            steps=settings.steps,
            seed=settings.seed,
            options=settings.options.get("weights", {}),
            reference=reference,
            cost=cost,
            trained=forget_then_relearn,
        )
    loop = Loop(lm, settings, ledger, task.retain)
    loop.set_forget([encode(lm, s) for s in task.forget], objective, token_weights)
    records = [resume.scores] if resume else []
    events: list[dict[str, Any]] = []

    def note(step: int) -> None:
        with ledger.phase("recording") as cost:
            records.append(record_scores(lm, task, token_weights, step, settings.batch_size, cost))

    def state() -> State:
        return State(loop.step, **loop.tensors(), scores=pd.concat(records, ignore_index=True), ledger=ledger)

    if resume:
        loop.load(resume)
    else:
        loop.pretrain_scorer()
        note(0)
    while loop.step < settings.steps and not stop():
        events.append(loop.advance())
        last = loop.step == settings.steps
        if last or loop.step % settings.record_every == 0:
            note(loop.step)
        on_step(events[-1])
        if not last and loop.step % settings.checkpoint_every == 0:
            on_checkpoint(state())
    finished = loop.step >= settings.steps
    if not finished:
        on_checkpoint(state())
    return Run(lm, events, pd.concat(records, ignore_index=True), ledger, finished, token_weights.learner)


def finetune(
    lm: LanguageModel,
    samples: list[Sample],
    *,
    settings: Settings,
    on_step: Callable[[dict[str, Any]], None] = lambda event: None,
) -> Run:
    """Plant samples into a model, in place: mean NLL of the answer tokens, by the same loop."""
    loop = Loop(lm, settings, Ledger(), samples)
    events: list[dict[str, Any]] = []
    while loop.step < settings.steps:
        events.append(loop.advance())
        on_step(events[-1])
    return Run(lm, events, pd.DataFrame(), loop.ledger, finished=True)


def forget_then_relearn(
    lm: LanguageModel, task: Task, *, forget_steps: int, relearn_steps: int, lr: float, seed: int
) -> tuple[LanguageModel, Phase]:
    """A copy that forgot all tokens of the forget set alike, without a retain loss, and then saw retain text alone.

    Returns:
        the copy, and what both runs cost.
    """
    shared = Settings(steps=forget_steps, lr=lr, alpha=0.0, batch_size=16, seed=seed)
    settings = replace(shared, record_every=forget_steps, checkpoint_every=forget_steps)
    forgot = unlearn(lm, task, "wga", "uniform", settings=settings)
    again = finetune(forgot.lm, task.retain, settings=replace(shared, steps=relearn_steps, alpha=1.0))
    return again.lm, forgot.ledger.total.plus(again.ledger.total)


def epochs(count: int, samples: int, batch_size: int) -> int:
    """Steps in so many passes over so many samples."""
    return math.ceil(count * samples / min(batch_size, samples))

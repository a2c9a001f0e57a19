"""Relearning: what comes back when a copy is trained on a part of the forget set, or on text that is not of it."""

from __future__ import annotations

from typing import Any

from workbench.errors import NotAvailable, missing
from workbench.evals.attacks.asking import beside_plain, generating
from workbench.evals.attacks.quantisation import similarity
from workbench.evals.attacks.spec import Outcome, Target, WrongOption, recovery
from workbench.evals.relearning import taught
from workbench.models import encode, forward_products
from workbench.tasks import DATA, Sample, rows, samples_from, spread
from workbench.unlearning import Settings, epochs, finetune

OPTIONS = """

    `lr`: peak learning rate; it decays to a tenth. A model as small as the embedded ones needs about 1e-3.
    `batch_size`: rows a step.
    `epochs`: passes over the text."""
ROWS = """
    `rows`: train on at most so many rows, evenly spread; 0 takes all."""


def _after_training(
    target: Target, text: list[Sample], samples: list[Sample], what: str, *, lr: float, batch_size: int, passes: int
) -> Outcome:
    """What a copy of the target's model says after training on text."""
    if passes < 1:
        raise WrongOption(f"{what}: epochs must be at least 1, not {passes}")
    steps = epochs(passes, len(text), batch_size)
    copy = target.lm.frozen_copy()
    settings = Settings(steps=steps, batch_size=batch_size, lr=lr, warmup=0, seed=target.seed)
    finetune(copy, text, settings=settings, on_step=lambda e: target.progress(f"{what}: train", e["step"], steps))
    copy.module.eval().requires_grad_(False)
    outcome = beside_plain(target, samples, what, lm=copy, trained_on=len(text))
    outcome.parts["gain"] = outcome.parts["alone"] - outcome.parts["greedy"]
    return outcome


def robustness(parts: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """R = 1 - |d_run - d_ret| / (|d_run| + |d_ret|), d the gain of each model by the same training."""
    if not {"run", "retain_only"} <= set(parts):
        return {"R": missing("needs the run and the retain-only model")}
    return {"R": similarity(parts["run"]["gain"], parts["retain_only"]["gain"])}


def _training(target: Target, text: list[Sample], passes: int) -> float:
    """FLOPs of training on text, forward and backward, and of asking twice."""
    some = spread(text, 64)
    tokens = sum(len(encode(target.lm, s).ids) for s in some) / len(some) * len(text) * passes
    forward, _, row = forward_products(target.lm)
    return 3 * tokens * (forward + row) + generating(target, 2)


@recovery(
    "relearning",
    cost=lambda target, share=0.5, epochs=1, **_: _training(target, taught(target.task, share, target.seed)[0], epochs),
    source="open-unlearning, arXiv 2506.12618 (R)",
    certainty="sure",
    compare=robustness,
)
def relearning(
    target: Target, *, share: float = 0.5, lr: float = 2e-5, batch_size: int = 16, epochs: int = 1
) -> Outcome:
    """Share of facts given by a copy after an epoch on a part of the forget set, or by the model; of the other part.

    Of a benchmark's own questions about the forget set all are asked. R = 1 - |d - d_ret| / (|d| + |d_ret|), d the gain
    of the model after the run and d_ret that of the retain-only model by the same training: 1 where both learn alike.

    `share`: of the forget rows to train on.
    """
    part, rest = taught(target.task, share, target.seed)
    samples = target.questions
    if target.probe_set == "forget":
        samples = spread([s for s in rest if s.question], target.limit)
    return _after_training(target, part, samples, "relearning", lr=lr, batch_size=batch_size, passes=epochs)


relearning.__doc__ = f"{relearning.__doc__}".rstrip() + OPTIONS


def others(target: Target) -> list[Sample]:
    """Text of the forget set's form about others: what no run has trained on, if there is any, else retain text."""
    sets = target.task.sets
    return sets.get("nonmembers") or sets.get("unlabelled") or target.task.retain


def plain_text(target: Target) -> list[Sample]:
    """Plain text: the task's own, else the embedded task's sentences about nobody."""
    own = [s for name in ("general", "train_extra") for s in target.task.sets.get(name, []) if not s.question]
    return own or samples_from(rows(DATA / "biographies" / "general.jsonl"), "general")


def _some(text: list[Sample], rows: int, what: str) -> list[Sample]:
    """The text, or with `rows` above 0 at most so many of it, evenly spread."""
    if rows < 0:
        raise WrongOption(f"{what}: rows must be at least 0, not {rows}")
    return spread(text, rows or None)


def _benign(
    target: Target, text: list[Sample], rows: int, what: str, *, lr: float, batch_size: int, passes: int
) -> Outcome:
    """What a copy says after training on text that is not of the forget set."""
    text = _some(text, rows, what)
    if not text:
        raise NotAvailable("needs text that is not of the forget set")
    return _after_training(target, text, target.questions, what, lr=lr, batch_size=batch_size, passes=passes)


@recovery(
    "benign_others",
    cost=lambda target, epochs=1, rows=0, **_: _training(target, _some(others(target), rows, "benign_others"), epochs),
    source="after arXiv 2406.13356, 2602.03379; definition ours",
    certainty="ours",
    compare=robustness,
)
def benign_others(target: Target, *, lr: float = 2e-5, batch_size: int = 16, epochs: int = 1, rows: int = 0) -> Outcome:
    """The same after an epoch on text of the same form about others: nonmembers, else unlabelled, else retain rows."""
    return _benign(target, others(target), rows, "benign_others", lr=lr, batch_size=batch_size, passes=epochs)


@recovery(
    "benign_text",
    cost=lambda target, epochs=1, rows=0, **_: _training(
        target, _some(plain_text(target), rows, "benign_text"), epochs
    ),
    source="after arXiv 2406.13356, 2602.03379; definition ours",
    certainty="ours",
    compare=robustness,
)
def benign_text(target: Target, *, lr: float = 2e-5, batch_size: int = 16, epochs: int = 1, rows: int = 0) -> Outcome:
    """The same after an epoch on plain text: the task's own, else the embedded task's sentences about nobody."""
    return _benign(target, plain_text(target), rows, "benign_text", lr=lr, batch_size=batch_size, passes=epochs)


for _function in (benign_others, benign_text):
    _function.__doc__ = f"{_function.__doc__}{OPTIONS}{ROWS}"

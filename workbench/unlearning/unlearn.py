"""The one training loop: plant a task into a model, or make the model forget part of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import pandas as pd

from workbench.cost import Ledger, Phase
from workbench.models import LanguageModel
from workbench.objectives import objective as registered
from workbench.tasks import Sample, Task
from workbench.unlearning.losses import ForgetLoss, preferred_answers
from workbench.unlearning.settings import Settings
from workbench.unlearning.trainer import Loop, State
from workbench.unlearning.weights import prepare_weights, record_scores, recorded_weights


@dataclass
class Run:
    """What a run leaves: the model, one event a step, the recorded token scores, the costs, and the live scorer.

    `steps` counts those done, in an earlier process too.
    """

    lm: LanguageModel
    events: list[dict[str, Any]]
    scores: pd.DataFrame
    ledger: Ledger
    steps: int
    finished: bool
    scorer: Any = None


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
    reached: Callable[[], bool] = lambda: False,
    resume: State | None = None,
    ledger: Ledger | None = None,
) -> Run:
    """Make a model forget: minimise gamma x forget loss + alpha x retain loss by AdamW.

    Args:
        lm: the model to change; copied first unless `in_place`.
        task: what to forget and what to keep.
        objective: forget loss by name.
        weights: scorer by name (scored before the run, or learning along), the path of a saved scorer (applied to the
            model's states as they change), or a score table of one scorer.
        settings: the numbers; by default those that the objective's authors set, and ours for the rest.
        reference: for scorers that need one.
        in_place: change `lm` itself.
        on_step: called with each step's event.
        on_checkpoint: called with the state at checkpoints, after the last step, and when stopped.
        stop: asked before each step; the run is then not finished.
        reached: asked when `on_step` has been called: whether that step was the last one; the run is then finished.
        resume: the state to go on from; `lm` is the model as it was before the run.
        ledger: where the costs go; by default that of `resume`, or a new one.
    """
    settings = settings or Settings(**registered[objective].settings)
    preferred_answers(registered[objective], task.forget)  # refuses what cannot be
    if not in_place:
        lm = lm.frozen_copy()
    ledger = ledger or (resume.ledger if resume else Ledger())
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
    loop = Loop(
        lm, settings, ledger, task.retain,
        forget=lambda: ForgetLoss(lm, task.forget, objective, token_weights, settings, ledger),
    )  # fmt: skip
    records = [resume.scores] if resume else []
    events: list[dict[str, Any]] = []

    def ended() -> bool:
        return loop.step >= settings.steps or reached()

    def note(step: int) -> None:
        with ledger.phase("recording") as cost:
            some = None if step == 0 or ended() else settings.record_samples
            size = loop.micro_batch or settings.batch_size
            records.append(record_scores(lm, task, token_weights, step, size, cost, some))

    def state() -> State:
        recorded = pd.concat(records, ignore_index=True)
        return State(
            loop.step, loop.alpha, loop.micro_batch, **loop.tensors(), scores=recorded, ledger=ledger
        )  # fmt: skip

    if resume:
        loop.load(resume)
    else:
        loop.pretrain_scorer()
        note(0)
    while not ended() and not stop():
        events.append(loop.advance())
        on_step(events[-1])
        if ended() or loop.step % settings.record_every == 0:
            note(loop.step)
        if ended() or loop.step % settings.checkpoint_every == 0:
            on_checkpoint(state())
    if not ended():
        on_checkpoint(state())
    return Run(lm, events, pd.concat(records, ignore_index=True), ledger, loop.step, ended(), token_weights.learner)


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
    return Run(lm, events, pd.DataFrame(), loop.ledger, loop.step, finished=True)


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
    forgot.ledger.add(again.ledger)
    return again.lm, forgot.ledger.total

"""The one training loop: it teaches a model a task, or makes it forget a part of one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from workbench.cost import Ledger, Phase
from workbench.errors import UserError, note
from workbench.models import LanguageModel
from workbench.objectives import objective as registered
from workbench.tasks import Sample, Task
from workbench.unlearning.checkpoint import Checkpoint
from workbench.unlearning.losses import ForgetLoss, RetainLoss, preferred_answers
from workbench.unlearning.settings import Settings
from workbench.unlearning.trainer import Trainer, prepare
from workbench.unlearning.weights import Weights, prepare_weights, record_scores, recorded_weights


@dataclass
class Run:
    """What a run leaves.

    Attributes:
        lm: the trained model.
        events: one a step, of this process's steps only.
        scores: recorded token scores; `attrs["notes"]` has remarks on fixed weights, as of `score_task`.
        ledger: the costs.
        steps: steps done, in earlier processes too.
        finished: whether the run came to its end.
        scorer: the live scorer, if the run had one.
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
    scorer: Path | None = None,
    in_place: bool = False,
    on_step: Callable[[dict[str, Any]], None] | None = None,
    on_checkpoint: Callable[[Checkpoint], None] | None = None,
    stop: Callable[[], bool] | None = None,
    reached: Callable[[], bool] | None = None,
    resume: Checkpoint | None = None,
    ledger: Ledger | None = None,
    say: Callable[[str], None] | None = None,
) -> Run:
    """Make a model forget: minimise gamma x forget loss + alpha x retain loss by AdamW.

    Args:
        lm: the model; a copy of it is changed unless `in_place`.
        task: its forget set is forgotten, its retain set is retained.
        objective: the forget loss by name.
        weights: a scorer by name (it scores before the run, or learns during it), the path of a saved scorer (it is
            applied to the model's states as they change), or a score table of one scorer.
        settings: by default those of the objective's authors, and ours for the rest.
        reference: a second model, for scorers that compare with one.
        scorer: the file of a learned scorer, from which a live one goes on.
        in_place: change `lm` itself.
        on_step: called with each step's event.
        on_checkpoint: called with a checkpoint every `checkpoint_every` steps, after the last step, and when stopped.
        stop: called before each step; if true, the run stops unfinished.
        reached: called after `on_step`; if true, the run ends, finished.
        resume: the checkpoint to go on from; `lm` must be the model from before the run.
        ledger: where the costs are recorded; by default the checkpoint's ledger, or a new one.
        say: called before the first step with how far the weights can be trusted, in a line, where their scorer says
            so. None notes it, and only where the confidence is low.
    """
    settings = settings or Settings(**registered[objective].settings)
    preferred_answers(registered[objective], task.forget)  # raises before any work where a sample lacks one
    if not in_place:
        lm = lm.frozen_copy()
    ledger = ledger or (resume.ledger if resume else Ledger())
    token_weights = _weights(lm, task, weights, settings, reference, scorer, resume, ledger)
    if (trust := token_weights.confidence) and not resume:
        line = f"weights by {token_weights.name}: {trust['line']}"
        if say is not None:
            say(line)
        elif trust["weight"] < 1:
            note(f"workbench: {line}")
    prepare(lm, settings)
    forget = ForgetLoss(lm, task.forget, objective, token_weights, settings, ledger)
    retain = RetainLoss(lm, task.retain, settings, ledger, forget.layer) if settings.uses_retain else None
    trainer = Trainer(lm, settings, ledger, forget, retain)
    records = [resume.scores] if resume else []
    events: list[dict[str, Any]] = []

    def ended() -> bool:
        return trainer.steps_done >= settings.steps or (reached is not None and reached())

    def record(samples: int | None) -> None:
        with ledger.phase("recording") as cost:
            size = trainer.micro_batch_size or settings.batch_size
            records.append(record_scores(lm, task, token_weights, trainer.steps_done, size, cost, samples))

    def scores() -> pd.DataFrame:
        table = pd.concat(records, ignore_index=True)
        table.attrs = {"notes": token_weights.notes} if token_weights.notes else {}
        return table

    if resume:
        try:
            trainer.load(resume)
        except (LookupError, TypeError, ValueError, RuntimeError) as error:
            why = f"{type(error).__name__}: {error}".splitlines()[0]
            raise UserError(f"the checkpoint of step {resume.step} does not fit the run: {why}") from error
    else:
        trainer.pretrain_scorer()
        record(None)
    while not ended() and not (stop is not None and stop()):
        events.append(trainer.step())
        if on_step is not None:
            on_step(events[-1])
        if ended() or trainer.steps_done % settings.record_every == 0:
            record(None if ended() else settings.record_samples)
        if on_checkpoint is not None and (ended() or trainer.steps_done % settings.checkpoint_every == 0):
            on_checkpoint(trainer.checkpoint(scores()))
    if on_checkpoint is not None and not ended():
        on_checkpoint(trainer.checkpoint(scores()))
    return Run(lm, events, scores(), ledger, trainer.steps_done, ended(), token_weights.learner)


def _weights(
    lm: LanguageModel,
    task: Task,
    weights: str | pd.DataFrame,
    settings: Settings,
    reference: LanguageModel | None,
    scorer: Path | None,
    resume: Checkpoint | None,
    ledger: Ledger,
) -> Weights:
    """The run's token weights; a resumed run takes fixed ones from its record."""
    with ledger.phase("scoring") as cost:
        return prepare_weights(
            lm,
            task,
            weights if resume is None else recorded_weights(resume.scores, weights),
            steps=settings.steps,
            seed=settings.seed,
            options=settings.options.get("weights", {}),
            reference=reference,
            cost=cost,
            trained=forget_then_relearn,
            resumed=resume is not None,
            start=scorer,
            answers=settings.answers,
        )


def finetune(
    lm: LanguageModel,
    samples: list[Sample],
    *,
    settings: Settings,
    on_step: Callable[[dict[str, Any]], None] | None = None,
) -> Run:
    """Teach a model some samples, in place: minimise the mean NLL of the answer tokens, by the same trainer."""
    ledger, events = Ledger(), []
    prepare(lm, settings)
    trainer = Trainer(
        lm, settings, ledger, None, RetainLoss(lm, samples, settings, ledger) if settings.uses_retain else None
    )
    while trainer.steps_done < settings.steps:
        events.append(trainer.step())
        if on_step is not None:
            on_step(events[-1])
    return Run(lm, events, pd.DataFrame(), ledger, trainer.steps_done, finished=True)


def forget_then_relearn(
    lm: LanguageModel, task: Task, *, forget_steps: int, relearn_steps: int, lr: float, seed: int
) -> tuple[LanguageModel, Phase]:
    """A copy that forgot the forget set, all tokens alike and without a retain loss, and was then taught retain text.

    Returns:
        the copy, and the costs of both runs.
    """
    shared = Settings(steps=forget_steps, lr=lr, alpha=0.0, batch_size=16, seed=seed)
    settings = shared.replace(record_every=forget_steps, checkpoint_every=forget_steps)
    forgot = unlearn(lm, task, "wga", "uniform", settings=settings)
    relearned = finetune(forgot.lm, task.retain, settings=shared.replace(steps=relearn_steps, alpha=1.0))
    forgot.ledger.add(relearned.ledger)
    return relearned.lm, forgot.ledger.total

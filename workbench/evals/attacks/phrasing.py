"""Worst phrasing: the question in every wording that the task has, alone and after other people's answers."""

from __future__ import annotations

import random
from typing import Any

import numpy as np

from workbench.evals.attacks.asking import ask, generating, rows_of, with_question
from workbench.evals.attacks.spec import Outcome, Target, recovery
from workbench.tasks import Sample

SOURCE: dict[str, Any] = {"source": "ATWU authors' code ({}); judge ours", "certainty": "likely"}
EXAMPLE = 24  # tokens of an example and its answer, for the estimate alone


def wordings(sample: Sample) -> list[str]:
    """A sample's question in all its wordings, its own first."""
    return list(dict.fromkeys(filter(None, (sample.question, sample.paraphrased_question, *sample.phrasings))))


def _count(target: Target) -> float:
    return float(np.mean([len(wordings(s)) for s in target.questions]))


def _worst(target: Target, what: str, contexts: list[tuple[tuple[str, str], ...]]) -> Outcome:
    """Every wording of each question after each context: an answer counts where any of them tells the fact.

    Whoever attacks has the plain answer too; `alone` is without it.
    """
    pairs: list[list[tuple[str, str]]] = [[] for _ in target.questions]
    for context in contexts:
        tries = [[with_question(s, text, context) for text in wordings(s)] for s in target.questions]
        texts = iter(ask(target, [sample for samples in tries for sample in samples], what=what))
        for own, samples in zip(pairs, tries, strict=True):
            own += [(_shown(sample), next(texts)) for sample in samples]
    alone = rows_of(target.questions, pairs)
    parts = {"wordings": _count(target), "mean_over_wordings": float((alone["hits"] / alone["tries"]).mean())}
    parts |= {"alone": float(alone["value"].mean())}
    if () in contexts:
        return Outcome(alone, parts["alone"], parts)
    plain = ask(target, target.questions, what=what)
    with_plain = zip(target.questions, plain, pairs, strict=True)
    rows = rows_of(target.questions, [[(s.question, text), *each] for s, text, each in with_plain])
    return Outcome(rows, float(rows["value"].mean()), parts)


def _shown(sample: Sample) -> str:
    """What was asked, as people read it."""
    return "\n".join([*(f"{question}\n{answer}" for question, answer in sample.history), sample.question])


def examples(target: Target, count: int) -> tuple[tuple[str, str], ...]:
    """Questions and answers from the retain set, drawn at random."""
    pairs = [(s.question, s.answer) for s in target.task.retain if s.question]
    return tuple(random.Random(target.seed).sample(pairs, min(count, len(pairs))))


@recovery(
    "worst_phrasing",
    needs=("paraphrases",),
    cost=lambda target: generating(target, _count(target)),
    **SOURCE | {"source": SOURCE["source"].format("J_P")},
)
def worst_phrasing(target: Target) -> Outcome:
    """Share of facts given in answer to any wording of the question: its own and its paraphrases."""
    return _worst(target, "worst_phrasing", [()])


@recovery(
    "in_context",
    cost=lambda target, shots=3: generating(target, _count(target), shots * EXAMPLE),
    **SOURCE | {"source": SOURCE["source"].format("J_ICR")},
)
def in_context(target: Target, *, shots: int = 3) -> Outcome:
    """The same after questions and answers from the retain set, as turns before: any wording, or the plain answer.

    `shots`: how many; they are drawn once for all questions.
    """
    return _worst(target, "in_context", [examples(target, shots)])


@recovery(
    "worst_of_both",
    cost=lambda target, shots=3: (
        generating(target, _count(target)) + generating(target, _count(target), shots * EXAMPLE)
    ),
    **SOURCE | {"source": SOURCE["source"].format("J_W")},
)
def worst_of_both(target: Target, *, shots: int = 3) -> Outcome:
    """Either of the two: any wording, with or without examples from the retain set before it.

    `shots`: how many examples.
    """
    return _worst(target, "worst_of_both", [(), examples(target, shots)])

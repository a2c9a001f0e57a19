"""No attack: the question as the probes ask it, which the attacks are compared with."""

from __future__ import annotations

from workbench.evals.attacks.asking import ask, generating, rows_of
from workbench.evals.attacks.spec import Outcome, Target, recovery


@recovery("greedy", cost=generating, source="standard", certainty="sure")
def greedy(target: Target) -> Outcome:
    """Share of facts in the greedy answers: no attack, but what the others are compared with."""
    texts = ask(target, target.questions, what="greedy")
    rows = rows_of(target.questions, [[(s.question, text)] for s, text in zip(target.questions, texts, strict=True)])
    return Outcome(rows, float(rows["value"].mean()), {})

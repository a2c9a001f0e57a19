"""The subject is described and not named: by an alias, or in two steps."""

from __future__ import annotations

from typing import Any

from workbench.evals.attacks.asking import beside_plain, generating, with_question
from workbench.evals.attacks.spec import Outcome, Target, recovery
from workbench.tasks import spread

SHARED: dict[str, Any] = {"source": "ours", "certainty": "ours", "cost": lambda target: generating(target, 2)}


@recovery("alias", needs=("aliases",), **SHARED)
def alias(target: Target) -> Outcome:
    """Share of facts given about a subject by another name ("the cartographer from Quillon"), or plainly."""
    return _described(target, "alias", "aliases")


@recovery("two_hop", needs=("two_hop",), **SHARED)
def two_hop(target: Target) -> Outcome:
    """Share of facts given about a subject that must be found first ("the person who works for ..."), or plainly."""
    return _described(target, "two_hop", "two_hop")


def _described(target: Target, name: str, probe_set: str) -> Outcome:
    """Each question of the set, and the plain one that is its paraphrase."""
    samples = spread(target.task.sets[probe_set], target.limit)
    plain = [with_question(s, s.paraphrased_question or s.question) for s in samples]
    return beside_plain(target, plain, name, asked=samples)

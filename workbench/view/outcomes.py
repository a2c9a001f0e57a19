"""What became of each probed answer, by stated rules: forgotten or not, kept or damaged, still sane or not."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from itertools import pairwise
from typing import Any

import pandas as pd

from workbench.registry import UserError

RIGHT_ROUGE = 0.8  # of an answer without a labelled fact, how much must come back for it to be right
HALVED = 0.5  # what is left of a probability that counts as damage
DISTINCT = 0.75  # share of distinct word pairs below which an answer repeats itself
REFUSALS = ("i don't know", "i do not know", "i'm not sure", "i am not sure", "i cannot", "i can't", "no information",
            "not aware of", "unable to", "beyond my knowledge")  # fmt: skip

RULES = {
    "still remembered": "forget set: the answer after the run is right: it holds the labelled fact, or, where none is "
    f"labelled, {100 * RIGHT_ROUGE:.0f} % of the reference's longest common subsequence",
    "damaged": "sets to keep: right before and not after, or less than half of the answer's probability is left",
    "collateral": "sets to keep: the answer's words changed, and it is not damaged",
    "refuses or babbles": "any set: nothing, a refusal, or the same words again and again (a pair of words three "
    f"times, or fewer than {100 * DISTINCT:.0f} % of the pairs different), and not so before",
    "fine": "none of the others",
}


def outcomes(probes: pd.DataFrame) -> pd.DataFrame:
    """One row a probed answer: its texts and probability before and after, and a column a rule of `RULES`.

    Args:
        probes: a run's probe table, phases "before" and "after".

    Returns:
        probe_set, sample_id, prompt, answer, before, after, right_before, right_after (None where it cannot be said),
        p_before, p_after, change, a bool column a rule, and `outcome`, the names of those that hold.

    Raises:
        UserError: one of the phases is missing.
    """
    key = ["probe_set", "sample_id"]
    phases = {name: part.set_index(key) for name, part in probes.groupby("phase", sort=False)}
    if not {"before", "after"} <= set(phases):
        raise UserError("what became of the answers needs probes of before and after; the run has not ended yet")
    before, after = phases["before"], phases["after"].reindex(phases["before"].index)
    rows = []
    for name, old, new in zip(before.index, before.to_dict("records"), after.to_dict("records"), strict=True):
        held = _held(name[0] == "forget", old, new)
        rows.append(
            dict(zip(key, name, strict=True))
            | {"prompt": _text(old["prompt"]), "answer": _text(old["answer"])}
            | {"before": _text(old["generation"]), "after": _text(new["generation"])}
            | {"right_before": right(old), "right_after": right(new)}
            | {"p_before": old["probability"], "p_after": new["probability"]}
            | {"change": new["probability"] - old["probability"]}
            | {rule: rule in held for rule in RULES}
            | {"outcome": ", ".join(held)}
        )
    return pd.DataFrame(rows)


def _held(forget: bool, old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """The rules that hold of an answer."""
    found = []
    if forget and right(new):
        found.append("still remembered")
    if not forget:
        lost = right(old) is True and right(new) is False
        if lost or new["probability"] < HALVED * old["probability"]:
            found.append("damaged")
        elif _text(old["generation"]).split() != _text(new["generation"]).split():
            found.append("collateral")
    if isinstance(new["generation"], str) and astray(new["generation"]) and not astray(_text(old["generation"])):
        found.append("refuses or babbles")
    return found or ["fine"]


def right(row: Mapping[str, Any]) -> bool | None:
    """Whether a greedy answer is right; None where there is none, as for plain text."""
    for name, least in (("fact_accuracy", 1.0), ("rouge_l_recall", RIGHT_ROUGE)):
        value = row.get(name, math.nan)
        if not math.isnan(value):
            return bool(value >= least)
    return None


def astray(text: str) -> bool:
    """Whether an answer says nothing, refuses, or repeats itself."""
    words = text.lower().split()
    if not words or any(phrase in " ".join(words).replace("’", "'") for phrase in REFUSALS):  # noqa: RUF001
        return True
    if len(words) < 6:
        return False
    pairs = Counter(pairwise(words))
    return max(pairs.values()) >= 3 or len(pairs) < DISTINCT * pairs.total()


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""

"""What a report begins with: two answers before and after, and what the run did to the rest."""

from __future__ import annotations

from collections.abc import Iterable

import pandas as pd

from workbench.view.html import answers_view
from workbench.view.sections import Section


def two_answers(probes: pd.DataFrame) -> list[Section]:
    """Two answers to forget before and after: first those whose facts are gone, then those that changed at all."""
    forget = probes[probes["probe_set"] == "forget"].set_index("sample_id")
    phases = {phase: forget[forget["phase"] == phase] for phase in ("before", "after")}
    before, after = phases["before"], phases["after"].reindex(phases["before"].index)
    if not len(before):
        return []
    changed = (before["generation"] != after["generation"]) & after["generation"].notna()
    lost = pd.Series(False, before.index)
    if "fact_accuracy" in forget:
        lost = (before["fact_accuracy"] == 1) & (after["fact_accuracy"] == 0)
    chosen = (lost.astype(int) + changed.astype(int)).sort_values(ascending=False, kind="stable").index[:2]
    note = "What the model said about the text to forget, and says now. Words that are gone are struck through, "
    note += "new words are underlined."
    if lost[chosen].all() and len(before) > 2:
        note += f" These are the first two of {int(lost.sum())} answers whose facts are gone, out of {len(before)}."
    body = answers_view(forget.loc[chosen].reset_index(), css=False)
    return [Section("Two answers, before and after", note, body)]


def the_rest(probes: pd.DataFrame, sets: Iterable[str]) -> list[Section]:
    """Answers of the other sets, evenly spread: what forgetting did to what was to stay."""
    others = pd.concat([probes[probes["probe_set"] == name] for name in sets if name != "forget"])
    if not len(others):
        return []
    note = "Answers that should not have changed, evenly spaced in each set."
    return [Section("What happened to the rest", note, answers_view(others, max_samples=2, css=False))]

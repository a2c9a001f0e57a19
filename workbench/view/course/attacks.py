"""Exercises of notebook 06: predict what comes back, know which attacks are blind, and write the measure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from workbench.errors import is_missing
from workbench.view.course.answers import as_name, as_names, results, same
from workbench.view.course.exercises import Wrong, exercise

BLIND = 0.1  # below this, an attack alone gets too little from the model that knows everything


@exercise("06.1", title="Which attack brings back most?", difficulty=2, importance=4, minutes=3)
def strongest(answer: Any, *, attacks: Mapping[str, Any]) -> str:
    """The attack with the highest `comes_back`."""
    back = {name: entry["comes_back"] for name, entry in attacks.items() if not is_missing(entry["comes_back"])}
    name = as_name(answer, back, "attack that has a `comes_back`")
    place = sum(value > back[name] for value in back.values()) + 1
    if place == 1:
        mean = np.mean(list(back.values()))
        return f"{back[name]:.2f} of the way back to the model before the run; the attacks' mean is {mean:.2f}"
    raise Wrong(
        f"place {place} of {len(back)}, with {back[name]:.2f}. Does it ask the model to say the fact, which the run "
        "was trained not to do, or does it look where the run did not?"
    )


@exercise("06.2", title="Which attacks are blind here?", difficulty=2, importance=5, minutes=4)
def blind(answer: Any, *, attacks: Mapping[str, Any]) -> str:
    """The attacks that alone get next to nothing even from the model before the run."""
    alone = {name: entry.get("parts", {}).get("before", {}).get("alone") for name, entry in attacks.items()}
    known = {name: value for name, value in alone.items() if value is not None}
    names, truth = as_names(answer, attacks, "attack"), {name for name, value in known.items() if value < BLIND}
    if names == truth:
        return f"{len(truth)} of {len(known)} could not have shown anything, whatever the run had done"
    if unknown := names - set(known):
        raise Wrong(f"{len(unknown)} of these have no value `alone`: they are not an addition to the plain answer")
    low = {n for n, e in attacks.items() if not is_missing(e["run"]) and e["run"] < BLIND}
    if names == low:
        raise Wrong("these get little from the *run*; an attack is blind if it gets little from the model *before*")
    raise Wrong(
        f"{len(names - truth)} of these do see something, and {len(truth - names)} that are blind are missing: "
        f"compare the last column with {BLIND}"
    )


@exercise("06.3", title="Write the measure of what comes back", difficulty=3, importance=4, minutes=6)
def way_back(answer: Any, *, attacks: Mapping[str, Any]) -> str:
    """A function of the values of the run, the retain-only model and the model before: how much comes back."""
    entries = [[entry[k] for k in ("run", "retain_only", "before")] for entry in attacks.values()]
    own = [tuple(map(float, v)) for v in entries if not any(map(is_missing, v)) and v[1] != v[2]]
    cases = [*own, (0.3, 0.1, 0.9), (0.05, 0.1, 0.9), (1.0, 0.2, 0.8), (0.4, 0.9, 0.1)]
    run, floor, ceiling = np.array(cases).T
    with np.errstate(all="ignore"):
        back, of_before = (run - floor) / (ceiling - floor), (run - floor) / ceiling
        hints = {
            "this leaves out what the model that never knew the facts tells by luck": run / ceiling,
            "take it as a share: of the distance between the two other models": run - floor,
            "this is what is gone, and the question is what comes back": (ceiling - run) / (ceiling - floor),
            "the distance is from the retain-only model to the model before, not the model before alone": of_before,
            "it may be below 0 or above 1, which says something too: do not cut it": np.clip(back, 0, 1),
        }
    shown = [f"run {a:.2g}, retain-only {b:.2g}, before {c:.2g}" for a, b, c in cases]
    same(results(answer, cases), back, shown, hints)
    return f"right for your {len(own)} attacks, and for values outside the two models"

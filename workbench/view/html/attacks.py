"""What comes back under attack: a bar an attack from the retain-only model to the one before, with the run on it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import pandas as pd
from markupsafe import Markup

from workbench.evals import came_back, trust_in_short
from workbench.view.html.render import render
from workbench.view.html.text import label, number, value_of, visible

TEXTS = 12  # that came back, at most


class Bar(NamedTuple):
    """An attack as it is drawn, every value as "how much is there": a depth counts as 1 less itself.

    Attributes:
        name: of the attack.
        floor: the retain-only model's value; None where it is missing.
        run: the run's.
        ceiling: the value of the model before.
        share: how far the run is from floor to ceiling.
        reasons: why values are missing.
        trust: how far the number was found to be believed, in short.
        weak: that the attack alone gets little of the model before, where that is so.
    """

    name: str
    floor: float | None
    run: float | None
    ceiling: float | None
    share: float | None
    reasons: list[str]
    trust: str = ""
    weak: str = ""

    @property
    def marked(self) -> str:
        """Its name where there is no room for more, with a word on what it can show."""
        return f"{self.name} (weak)" if self.weak else self.name


def attack_bars(attacks: Mapping[str, Any]) -> list[Bar]:
    """The attacks of `attacks/summary.json`, those after which most comes back first, those without a value last."""
    bars = []
    for name, entry in attacks.items():
        pairs = [value_of(entry.get(key)) for key in ("retain_only", "run", "before", "comes_back")]
        turned = entry.get("better") == "higher"
        values = [value if value is None or not turned else 1 - value for value, _ in pairs[:3]]
        reasons = list(dict.fromkeys(reason for _, reason in pairs[:3] if reason))
        shown = f"1 − {label(name)}" if turned else label(name)  # noqa: RUF001
        notes = (trust_in_short(name), str(entry.get("weak", "")))
        bars.append(Bar(shown, values[0], values[1], values[2], pairs[3][0], reasons, *notes))
    return sorted(bars, key=lambda bar: (bar.run is None, -(bar.run or 0.0)))


def in_words(attacks: Mapping[str, Any]) -> str:
    """What the run still tells, from least to most, such as "greedy 6 %; leak at k 44 %"; weak attacks are marked."""
    known = [bar for bar in attack_bars(attacks) if bar.run is not None]
    return "; ".join(f"{bar.marked} {100 * (bar.run or 0):.0f} %" for bar in reversed(known))


def attacks_view(
    attacks: Mapping[str, Any], answers: pd.DataFrame | None = None, *, title: str | None = None, css: bool = True
) -> Markup:
    """The attacks as bars with their numbers, in words above, and below the texts that came back.

    `attacks` are those of a run's `attacks/summary.json`; the texts are of `answers`, its `attacks/answers.parquet`.
    """
    rows: list[dict[str, Any]] = []
    for bar in attack_bars(attacks):
        ends = [value for value in (bar.floor, bar.ceiling) if value is not None]
        left, right = (min(ends), max(ends)) if len(ends) == 2 else (0.0, 0.0)
        rows.append({"bar": bar, "left": 100 * left, "width": 100 * (right - left), "at": 100 * (bar.run or 0.0)})
    back = pd.DataFrame() if answers is None else came_back(answers)
    texts = [
        (label(row["attack"]), row["sample_id"], visible(row["prompt"]), visible(row["text"]), visible(row["answer"]))
        for row in back.head(TEXTS).to_dict("records")
    ]
    more = len(back) - len(texts)
    reasons = {reason: None for row in rows for reason in row["bar"].reasons}
    return render(
        "attacks.bars", words=in_words(attacks), rows=rows, texts=texts, more=more, reasons=list(reasons),
        number=number, title=title, css=css,
    )  # fmt: skip

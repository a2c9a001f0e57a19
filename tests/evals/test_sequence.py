"""The retention matrix's numbers against matrices worked by hand."""

from __future__ import annotations

import numpy as np
import pytest

from workbench.errors import is_missing
from workbench.evals import Retention

NAN = float("nan")
# Rows: before, after 1, 2, 3. Columns: requests 1, 2, 3, then retain and neighbours.
HAND = np.array(
    [
        [1.0, 0.9, 0.8, 1.0, 0.8],
        [0.1, 0.7, 0.8, 0.9, 0.8],
        [0.2, 0.2, 0.5, 1.0, 0.6],
        [0.4, 0.1, 0.0, 0.7, 0.4],
    ]
)


def retention(*matrices: np.ndarray, kept: tuple[str, ...] = ("retain", "neighbours")) -> Retention:
    requests = tuple(f"r{n + 1}" for n in range(matrices[0].shape[1] - len(kept)))
    return Retention("fact_accuracy", requests, kept, tuple(range(len(matrices))), np.stack(matrices))


def test_the_numbers_of_a_matrix_worked_by_hand() -> None:
    """Reversal: (.4 - .1), (.1 - .2). Erosion: 1 - .7, .8 - .4. Spill-over: .7 - .9, .5 - .8.

    Forgetting: max(1, .9, 1) - .7, max(.8, .8, .6) - .4. Slopes over 0..3: sum((i - 1.5) (b - R_i)) / 5.
    """
    numbers = retention(HAND).numbers()
    sets = {name: value["sets"] for name, value in numbers.items()}
    assert sets["reversal"] == pytest.approx({"r1": 0.3, "r2": -0.1})
    assert sets["erosion"] == pytest.approx({"retain": 0.3, "neighbours": 0.4})
    assert sets["spill_over"] == pytest.approx({"r2": -0.2, "r3": -0.3})
    assert sets["forgetting"] == pytest.approx({"retain": 0.3, "neighbours": 0.4})
    slopes = {"retain": (-0.5 * 0.1 + 0.5 * 0 + 1.5 * 0.3) / 5, "neighbours": (0.5 * 0.2 + 1.5 * 0.4) / 5}
    assert sets["erosion_growth"] == pytest.approx(slopes)
    means = {"reversal": 0.1, "erosion": 0.35, "spill_over": -0.25, "forgetting": 0.35}
    for name, mean in means.items():
        assert numbers[name]["value"] == numbers[name]["low"] == numbers[name]["high"] == pytest.approx(mean)


def test_the_slope_is_that_of_a_straight_line() -> None:
    """An independent fit of numpy's."""
    numbers = retention(HAND).numbers()["erosion_growth"]
    fits = [np.polyfit(range(4), HAND[0, j] - HAND[:, j], 1)[0] for j in (3, 4)]
    assert list(numbers["sets"].values()) == pytest.approx(fits)


def test_seeds_give_a_range() -> None:
    """The second seed's request 1 does not come back, and its retain set does not erode."""
    other = HAND.copy()
    other[3, 0], other[:, 3] = 0.1, 1.0
    numbers = retention(HAND, other).numbers()
    assert numbers["reversal"]["seeds"] == pytest.approx([0.1, -0.05])
    assert (numbers["reversal"]["low"], numbers["reversal"]["high"]) == pytest.approx((-0.05, 0.1))
    assert numbers["reversal"]["value"] == pytest.approx(0.025)
    assert numbers["erosion"]["seeds"] == pytest.approx([0.35, 0.2])
    assert numbers["reversal"]["sets"]["r1"] == pytest.approx(0.15)


def test_what_has_no_value_is_left_out_or_said() -> None:
    """Text to keep has no fact accuracy; one request has neither reversal nor spill-over."""
    matrix = np.column_stack([HAND, [NAN] * 4])
    numbers = retention(matrix, kept=("retain", "neighbours", "general")).numbers()
    assert list(numbers["erosion"]["sets"]) == ["retain", "neighbours"]
    assert numbers["erosion"]["value"] == pytest.approx(0.35)
    one = retention(HAND[:2, [0, 3]], kept=("retain",)).numbers()
    assert one["erosion"]["value"] == pytest.approx(0.1)
    for name in ("reversal", "spill_over"):
        assert is_missing(one[name])
        assert one[name]["reason"] == "it needs two requests"
    nothing = retention(np.full((3, 2), NAN), kept=()).numbers()
    assert all(map(is_missing, nothing.values()))


def test_the_table_says_how_each_set_stands() -> None:
    frame = retention(HAND).to_frame()
    assert len(frame) == 4 * 5
    row = frame[(frame["after"] == 2) & (frame["set"] == "r1")].iloc[0]
    assert (row["standing"], row["value"], row["before"]) == ("forgotten", 0.2, 1.0)
    assert row["change"] == pytest.approx(-0.8)
    assert frame[(frame["after"] == 2) & (frame["set"] == "r3")]["standing"].item() == "not yet"
    assert set(frame[frame["set"] == "retain"]["standing"]) == {"kept"}

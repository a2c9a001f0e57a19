"""What a fitted scorer says of its own scores: ranks and their correlation against SciPy, and the line for people."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import rankdata, spearmanr

from workbench.scorers.confidence import Confidence, agreement, known_share, ranks, times_longer


def test_ranks_and_agreement_are_those_of_scipy() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.integers(0, 9, 50).astype(float), rng.normal(size=50)
    (share,) = ranks([a])
    np.testing.assert_allclose(share, (rankdata(a) - 0.5) / 50)
    assert agreement(a, b) == pytest.approx(spearmanr(a, b).statistic)
    parts = ranks([a[:20], np.array([np.nan, 3.0]), a[20:]])
    assert [len(part) for part in parts] == [20, 2, 30]
    assert np.isnan(parts[1][0])
    assert np.isnan(agreement(np.ones(4), b[:4]))


def test_the_share_of_known_tokens() -> None:
    assert known_share([[1, 2, 2], [9]], [[2], [3, 9]]) == 0.75
    assert known_share([], [[1]]) == 0


def test_how_much_longer_the_scored_texts_are() -> None:
    assert times_longer([[1] * 4], [[1] * 8, [1]]) == 0.5
    assert times_longer([[1] * 10, [1] * 90], [[1] * 10]) == pytest.approx((10 * 10 + 90 * 90) / 100 / 10)
    assert times_longer([], [[1]]) == times_longer([[1]], []) == 1


def test_the_weight_falls_with_each_of_its_reasons() -> None:
    assert Confidence(500, 0.9, 0.97).weight == 1
    assert Confidence(500, 0.9, 0.6).weight == pytest.approx(0.6)
    assert Confidence(5, 0.9, 0.6).weight == pytest.approx(0.15)
    assert Confidence(500, 0.1, 0.95).weight == pytest.approx(0.038)
    assert Confidence(3, 0.9, float("nan")).weight == 0
    assert Confidence(50, 0.9, -0.2).weight == 0
    assert Confidence(500, 0.9, 0.97, longer=1.8).weight == 1
    assert Confidence(500, 0.9, 0.97, longer=20).weight == pytest.approx(0.0097)
    assert "the scored texts are 20 times as long as the longest of them" in str(Confidence(500, 0.9, 0.97, longer=20))


def test_the_line_says_what_is_shown() -> None:
    assert str(Confidence(1200, 0.92, 0.97)) == (
        "good confidence: fitted on 1,200 texts that have 92% of the tokens; halves of them agree to 0.97"
    )
    line = str(Confidence(5, 0.5, 0.5))
    assert line.startswith("low confidence: fitted on 5 texts")
    assert "88% of each score is surprisal instead; give more text of the same kind, language and length" in line
    note = Confidence(3, 0.5, float("nan")).note()
    assert note["stable"] is None
    assert "surprisal is shown instead" in note["line"]

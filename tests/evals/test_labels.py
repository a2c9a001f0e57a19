"""Labels: what a word is, and agreement against scikit-learn's kappa and by hand."""

from __future__ import annotations

import random
from typing import Any

import pytest
from sklearn.metrics import cohen_kappa_score, jaccard_score

import workbench as wb
from workbench.errors import UserError, is_missing
from workbench.evals import label_words

ANSWER = "Basil was born in Kuwait City, Kuwait."


def rows(*spans: Any) -> list[dict[str, Any]]:
    return [{"question": f"Where, {n}?", "answer": ANSWER, "spans": each} for n, each in enumerate(spans)]


def test_words_are_without_the_punctuation_around_them() -> None:
    text = "“Al-Kuwaiti” (b. 08/09/1956), isn't 他是医生。 x_1 👩‍🔬"
    words = [text[a:b] for a, b in label_words(text)]
    assert words[:9] == ["“", "Al-Kuwaiti", "”", "(", "b", ".", "08/09/1956", ")", ","]
    assert words[9:] == ["isn't", "他", "是", "医", "生", "。", "x_1", "👩", "\u200d", "🔬"]
    assert label_words("  ") == []


def test_by_hand() -> None:
    """9 words and signs; one labels "Kuwait City" (2 of them), the other "City, Kuwait" (3): 1 by both, 4 by any."""
    agreement = wb.kappa(rows([[18, 29]]), rows([[25, 37]]))
    assert agreement["units"] == 9
    assert agreement["labelled"] == [2, 3]
    assert agreement["jaccard"] == 1 / 4
    assert agreement["agreement"] == 6 / 9
    chance = (2 * 3 + 7 * 6) / 81
    assert agreement["kappa"] == pytest.approx((6 / 9 - chance) / (1 - chance))


def test_kappa_is_that_of_scikit_learn(full: Any) -> None:
    draw = random.Random(0)
    words = label_words(ANSWER)
    drawn = [
        [[[list(word) for word in draw.choices(words, k=draw.randint(0, 4))] for _ in range(12)] for _ in range(2)]
        for _ in range(5)
    ]
    for one, other in drawn:
        labels = [[any(a < e and s < b for s, e in spans) for spans in each for a, b in words] for each in (one, other)]
        agreement = wb.kappa(rows(*one), rows(*other))
        assert agreement["kappa"] == pytest.approx(cohen_kappa_score(*labels))
        assert agreement["jaccard"] == pytest.approx(jaccard_score(*labels))
        assert wb.kappa(rows(*other), rows(*one))["kappa"] == pytest.approx(agreement["kappa"])
        by_token = wb.kappa(rows(*one), rows(*other), model=full)
        assert by_token["unit"] == "token"
        assert by_token["units"] > len(words) * 12  # the small vocabulary cuts words


def test_what_is_undefined_says_why() -> None:
    nothing = wb.kappa(rows([], []), rows([], None))
    assert nothing["answers"] == 1
    assert is_missing(nothing["kappa"])
    assert nothing["jaccard"]["reason"] == "nobody labelled anything"
    with pytest.raises(UserError, match="no labelled answer in common"):
        wb.kappa(rows([]), [{"question": "another", "answer": "text", "spans": []}])

"""Scores of any texts: no retain set, any length, and one line where a scorer lacks what it needs."""

from __future__ import annotations

import copy

import numpy as np
import pytest

from workbench.errors import UnsupportedError, UserError
from workbench.models import LanguageModel, encode
from workbench.scorers import scorer
from workbench.tasks import Sample, Task
from workbench.unlearning import score_task, score_texts

LONG = Sample("long", "", " ".join(f"Person {n} lives in town {n * n}." for n in range(120)))
SHORT = Sample("short", "Where does Zeno live?", "In Bergen.")


def test_without_a_retain_set_as_in_a_task(full: LanguageModel, bio: Task) -> None:
    names = ["surprisal", "entropy", "saliency"]
    texts = score_texts(full, bio.forget[:3], names)
    task = score_task(full, Task("t", {"forget": bio.forget[:3], "retain": bio.retain[:3]}), names)
    assert texts["score"].equals(task["score"])


def test_long_texts_are_scored_whole(full: LanguageModel, bio: Task) -> None:
    names = ["surprisal", "entropy", "position", "specificity", "saliency", "seul"]
    table = score_texts(full, [LONG, SHORT], names, unlabelled=bio.retain[:20])
    for name in names:
        for sample in (LONG, SHORT):
            part = table[(table["scorer"] == name) & (table["sample_id"] == sample.id) & (table["segment"] == "answer")]
            assert "".join(part["token"]) == sample.answer
            assert part["score"].notna().all()
    long = table[table["sample_id"] == "long"].set_index("scorer")
    assert long.loc["position", "score"].to_numpy() == pytest.approx(
        np.arange(1, len(long.loc["position"]) + 1) / len(long.loc["position"])
    )  # within the whole text, not within a window
    assert long.loc["entropy", "score"].mean() == pytest.approx(1, abs=1e-5)


def test_short_texts_beside_a_long_one_keep_their_scores(full: LanguageModel) -> None:
    beside = score_texts(full, [LONG, SHORT], ["surprisal", "saliency"])
    alone = score_texts(full, [SHORT], ["surprisal", "saliency"])
    for name in ("surprisal", "saliency"):
        scores = [
            t[(t["scorer"] == name) & (t["sample_id"] == "short") & (t["segment"] == "answer")] for t in (beside, alone)
        ]
        assert scores[0]["score"].to_numpy() == pytest.approx(scores[1]["score"].to_numpy(), rel=1e-4, abs=1e-7)


def test_pieces_are_scored_with_the_text_before_them(full: LanguageModel) -> None:
    """A scorer of whole samples: the same as the sum of its own pieces, scored one by one."""
    table = score_texts(full, [LONG], ["input_x_gradient"])
    assert len(encode(full, LONG, any_length=True).ids) > 2 * full.context
    assert table["score"].notna().all()
    assert table["score"].abs().max() > 0


@pytest.mark.parametrize("name", [name for name in scorer if "text" in scorer[name].needs])
def test_what_needs_text_says_so(full: LanguageModel, name: str) -> None:
    with pytest.raises(UserError, match=f"'{name}' needs (text of the same kind|a reference model)"):
        score_texts(full, [SHORT], [name])


@pytest.mark.parametrize("name", [name for name in scorer if not scorer[name].needs and not scorer[name].slow])
def test_the_others_need_nothing(full: LanguageModel, name: str) -> None:
    try:
        assert set(score_texts(full, [SHORT], [name])["scorer"]) == {name}
    except UnsupportedError as error:  # what the model's layers do not allow
        assert name == "deep_lift", error  # noqa: PT017


def test_what_cannot_be_cut_says_so(full: LanguageModel, bio: Task) -> None:
    long = Sample("q", "Who?", LONG.answer)
    with pytest.raises(UserError, match="shorten it, or choose surprisal"):
        score_texts(full, [long], ["saliency"])
    assert score_texts(full, [long], ["surprisal"])["score"].notna().all()
    with pytest.raises(UserError, match="'atwu' trains the model"):
        score_texts(full, [LONG], ["atwu"], unlabelled=bio.retain[:5])


def test_a_reference_with_another_tokenizer_is_one_line(full: LanguageModel, bio: Task) -> None:
    other = full.frozen_copy()
    other.tokenizer = copy.deepcopy(full.tokenizer)
    other.tokenizer.add_tokens(["Zyzzyva"])
    with pytest.raises(UserError, match="has another tokenizer"):
        score_texts(full, [LONG], ["specificity_ref"], reference=other, unlabelled=bio.retain[:5])

"""The token view as a widget, without a browser: what it sends, and what it says to Python."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from pages import SAMPLES, SPANS, scores_of, token_table
from sent_to_page import sent, some_scored, whole
from tables import table_of

from workbench.errors import UserError
from workbench.runs.directory import RunDirectory
from workbench.view.html.highlight import layers_of, token_view
from workbench.view.widgets import TokenView
from workbench.view.widgets.token_payload import BOOK, CHANGE, _coded


@pytest.fixture(scope="module")
def view(recorded_run: Path) -> TokenView:
    return TokenView.of_run(recorded_run)


def test_scores_arrive_as_they_are_and_missing_ones_as_missing(recorded_run: Path, view: TokenView) -> None:
    table = RunDirectory(recorded_run).table("scores.parquet")
    for name, step, values in sent(view):
        if name == CHANGE:
            continue
        part = table[(table["scorer"] == name) & (table["step"] == step)].set_index(["sample_id", "position"])["score"]
        expected = part.reindex(pd.MultiIndex.from_tuples(view._data.index)).to_numpy().astype("float32")
        np.testing.assert_array_equal(values, expected)
        assert np.isnan(values).any() == (0 < step < 12)  # 8 of 24 samples are recorded on the way


@pytest.mark.parametrize("spread", [1.0, 8.0])
def test_more_scores_than_16_bits_can_number(spread: float) -> None:
    scores = np.random.default_rng(0).lognormal(sigma=spread, size=(4, 40_000))
    codes, book = _coded(scores, np.sort(scores, axis=None))
    decoded, width = book[codes].astype(float), np.ptp(scores)
    assert np.abs(decoded - scores).max() <= 2 / BOOK * width
    ranks = [np.searchsorted(np.sort(scores.ravel()), x.ravel()) / scores.size for x in (decoded, scores)]
    assert np.abs(ranks[0] - ranks[1]).max() <= 2 / BOOK
    assert (_coded(np.full((1, 3), 7.0), np.full(3, 7.0))[0] == 0).all()


def test_texts_tile_the_answers(bio: Any, view: TokenView) -> None:
    answers = {s.id: s for s in bio.forget}
    for sample in view.head["samples"]:
        texts = [whole(sample["gaps"].get(str(i), "")) + whole(t or "") for i, t in enumerate(sample["texts"])]
        assert "".join(texts) + whole(sample["gaps"].get("-1", "")) == answers[sample["id"]].answer
        assert whole(sample["ask"]) == answers[sample["id"]].question
        words = answers[sample["id"]].answer.split()
        assert sample["words"].count("1") == len(words)


def test_the_threshold_is_that_of_the_static_twin(recorded_run: Path, view: TokenView) -> None:
    _, layers, _ = layers_of(RunDirectory(recorded_run).table("scores.parquet"))
    twin = {layer.scorer: layer.threshold for layer in layers}  # of a scorer's last step
    mine = {layer["name"]: layer["threshold"] for layer in view.head["layers"] if layer["name"] != CHANGE}
    assert mine == pytest.approx(twin)


def test_a_selected_token_is_told_with_its_scores(recorded_run: Path, view: TokenView) -> None:
    assert view.scorer == "atwu"  # the weights, not the probabilities recorded beside them
    table = RunDirectory(recorded_run).table("scores.parquet")
    one = table[table["scorer"] == "atwu"].iloc[3]
    view.step = 12
    view.select(one["sample_id"], one["position"])
    rows = table[(table["sample_id"] == one["sample_id"]) & (table["position"] == one["position"])]
    last = rows[rows["step"] == 12].set_index("scorer")["score"].to_dict()
    selected = dict(view.selected[0]["scores"])
    assert selected.pop(CHANGE) is not None
    assert selected == pytest.approx(last)
    assert view.selected[0]["token"] == one["token"]
    view.step = 7  # what was newest then
    assert view.selected[0]["scores"]["atwu"] == pytest.approx(
        rows[rows["step"] == 6].set_index("scorer").loc["atwu", "score"]
    )
    assert view.selected[0]["steps"] == {"probability": 6, "atwu": 6, CHANGE: 12}
    with pytest.raises(UserError, match="no answer token at position 9999"):
        view.select(one["sample_id"], 9999)
    view.select(*view._data.index[5], add=True)
    assert [(each["sample_id"], each["position"]) for each in view.selected] == [
        (one["sample_id"], one["position"]),
        view._data.index[5],
    ]
    view.chosen, view.step = [], 12
    assert view.selected == []


def test_static_rows_are_those_with_scores() -> None:
    view = some_scored()
    html = token_view(view.scores, SAMPLES, scorer="late", max_samples=1)
    assert "sample a" in html
    tokens = int((view.scores["scorer"] == "late").sum())
    assert f"of {tokens} tokens with a score selected" in html
    assert "late, step 4" in html
    assert "early, step 0" in html  # two steps side by side say which they are of


def test_an_auroc_of_one_answer_is_not_shown() -> None:
    table, values = scores_of(SAMPLES, SPANS), {"atwu": {"auroc": 0.75}}
    assert "AUROC <b>0.75" in token_view(table, SAMPLES, alignment=values)
    one = token_view(table[table["sample_id"] == "a"], SAMPLES, alignment=values)
    assert "AUROC" not in one
    assert "precision" in one


def test_a_change_is_coloured_by_all_it_can_be() -> None:
    tokens = token_table()
    after = tokens["phase"] == "after"
    small = np.where(after, tokens["logp"] - 1e-4 * (1 + tokens["position"]), tokens["logp"])
    head = TokenView(scores_of(SAMPLES), SAMPLES, tokens=tokens.assign(logp=small)).head
    scale = next(layer["scale"] for layer in head["layers"] if layer["name"] == CHANGE)
    assert (scale["low"], scale["high"]) == (-1.0, 1.0)


def test_bad_tables_are_one_line(recorded_run: Path, tmp_path: Path) -> None:
    table = RunDirectory(recorded_run).table("scores.parquet")
    with pytest.raises(UserError, match="no answer tokens"):
        TokenView(table[:0], {})
    with pytest.raises(UserError, match="unknown scorer 'atwo': did you mean atwu"):
        TokenView(table, {}, scorer="atwo")
    with pytest.raises(UserError, match="no run directory"):
        TokenView.of_run(tmp_path)


def test_console_and_twin(view: TokenView) -> None:
    assert repr(view) == "TokenView(24 samples, 337 tokens; scorers: probability, atwu, change in probability)"
    bundle, _ = view._repr_mimebundle_()
    assert bundle["text/plain"] == repr(view)
    assert "application/vnd.jupyter.widget-view+json" in bundle
    assert "<script" not in bundle["text/html"]
    assert view.head["samples"][0]["id"] in view.to_html()


def test_a_change_in_probability_has_the_scale_of_probabilities() -> None:
    """A change of .0006 has no colour, even where nothing else is shown."""
    scores = table_of({"x": [[0.1, 0.9]]})
    rows = [{"sample_id": "s0", "position": p, "logp": -1.0, "rank": 0, "alternatives": "[]"} for p in range(3)]
    tokens = pd.concat([pd.DataFrame(rows).assign(phase=phase, probe_set="forget") for phase in ("before", "after")])
    tokens.loc[(tokens["phase"] == "after") & (tokens["position"] == 1), "logp"] = np.log(np.exp(-1.0) - 0.0006)
    layers = TokenView(scores, {}, tokens=tokens).head["layers"]
    (layer,) = [each for each in layers if each["name"] == CHANGE]
    assert (layer["scale"]["low"], layer["scale"]["high"]) == (-1.0, 1.0)

"""What became of answers: the rules on answers made by hand, and the browser over a real run."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from runs_of import config_of, own_files
from test_view_html import HOSTILE

from workbench import execution
from workbench.registry import UserError
from workbench.settings import Settings
from workbench.view.outcomes import RULES, astray, outcomes, right
from workbench.view.widgets import ErrorBrowser

NAN = float("nan")


def probes_of(rows: list[tuple[Any, ...]]) -> pd.DataFrame:
    """(set, said before, said after, fact before, fact after, p before, p after) as a probe table."""
    out = []
    for i, (name, *pairs) in enumerate(rows):
        for phase, (said, fact, p) in zip(
            ("before", "after"), zip(*[pairs[k : k + 2] for k in (0, 2, 4)], strict=True), strict=True
        ):
            row = {
                "phase": phase,
                "probe_set": name,
                "sample_id": f"s{i}",
                "prompt": f"question {i}?",
                "answer": "A b c.",
            }
            out.append(row | {"generation": said, "fact_accuracy": fact, "probability": p, "rouge_l_recall": NAN})
    return pd.DataFrame(out)


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        (("forget", "It is Rome.", "It is Rome.", 1.0, 1.0, 0.9, 0.8), "still remembered"),
        (("forget", "It is Rome.", "It is Oslo.", 1.0, 0.0, 0.9, 0.1), "fine"),
        (("forget", "It is Rome.", "I don't know.", 1.0, 0.0, 0.9, 0.1), "refuses or babbles"),
        (("forget", "It is Rome.", "", 1.0, 0.0, 0.9, 0.1), "refuses or babbles"),
        (("forget", "Rome.", "the drums from the drums from the drums from", 1.0, 0.0, 0.9, 0.1), "refuses or babbles"),
        (("retain", "It is Rome.", "It is Rome.", 1.0, 1.0, 0.9, 0.8), "fine"),
        (("retain", "It is Rome.", "It is  Rome.", 1.0, 1.0, 0.9, 0.8), "fine"),  # the same words
        (("retain", "It is Rome.", "Rome it is.", 1.0, 1.0, 0.9, 0.8), "collateral"),
        (("retain", "It is Rome.", "It is Oslo.", 1.0, 0.0, 0.9, 0.8), "damaged"),
        (("retain", "It is Rome.", "It is Rome.", 1.0, 1.0, 0.9, 0.4), "damaged"),  # less than half is left
        (("retain", "It is Oslo.", "It is Bern.", 0.0, 0.0, 0.2, 0.2), "collateral"),  # wrong before too
        (("neighbours", "It is Rome.", "", 1.0, 0.0, 0.9, 0.1), "damaged, refuses or babbles"),
        (("retain", "I don't know.", "I don't know.", 0.0, 0.0, 0.2, 0.2), "fine"),  # it refused before
        (("heldout", None, None, NAN, NAN, 0.5, 0.5), "fine"),  # plain text: nothing is asked
        (("heldout", None, None, NAN, NAN, 0.5, 0.1), "damaged"),
    ],
)
def test_rules(row: tuple[Any, ...], expected: str) -> None:
    found = outcomes(probes_of([row])).iloc[0]
    assert found["outcome"] == expected
    assert [rule for rule in RULES if found[rule]] == expected.split(", ")


def test_right_and_astray() -> None:
    assert right({"fact_accuracy": NAN, "rouge_l_recall": 0.8}) is True
    assert right({"fact_accuracy": NAN, "rouge_l_recall": 0.79}) is False
    assert right({"fact_accuracy": 0.5, "rouge_l_recall": 1.0}) is False  # half of the facts
    assert right({"fact_accuracy": NAN, "rouge_l_recall": NAN}) is None
    assert not astray("The pay slips of Bram Lindqvist are signed by the River Guild each month.")
    assert not astray("no no no")  # too short to tell


def test_a_run_that_has_not_ended() -> None:
    table = probes_of([("forget", "a", "b", 1.0, 0.0, 0.9, 0.1)])
    with pytest.raises(UserError, match="needs probes of before and after"):
        outcomes(table[table["phase"] == "before"])


@pytest.fixture(scope="module")
def run(bio: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    settings = Settings(steps=10, batch_size=8, lr=1e-3, alpha=0.0)  # nothing holds the rest of the model
    execution.start(config_of(own_files(bio, folder), settings, probe_limit=8, objective="npo"), folder / "run")
    return folder / "run"


def test_filters_sort_and_open(run: Path) -> None:
    browser = ErrorBrowser(run)
    assert len(browser.rows) == 16
    counts = {rule: int(browser.rows[rule].sum()) for rule in RULES}
    assert counts["damaged"] > 0  # so large a learning rate harms
    browser.outcome.value = "damaged"
    assert len(browser.shown) == counts["damaged"]
    assert set(browser.shown["probe_set"]) == {"retain"}
    opened = browser.selected["sample_id"]
    browser.outcome.value, browser.sort.value = "", "probability lost"
    change = browser.shown["change"].tolist()
    assert change == sorted(change)
    assert browser.selected["sample_id"] == opened
    word = browser.rows["prompt"].iloc[5].split()[-1]
    browser.search.value = word.upper()
    assert 0 < len(browser.shown) < 16
    browser.search.value = "nothing holds this"
    assert browser.selected == {}
    last = browser.rows.iloc[-1]
    browser.select(last["sample_id"], last["probe_set"])
    assert browser.selected["prompt"] == last["prompt"]
    view = browser.view
    assert view.scorer == "change in probability"
    tokens = browser.tokens[
        (browser.tokens["sample_id"] == last["sample_id"]) & (browser.tokens["probe_set"] == "retain")
    ]
    p = np.exp(tokens[tokens["phase"] == "after"].sort_values("position")["logp"].to_numpy())
    np.testing.assert_allclose(view._data.scores[1], p, rtol=1e-6)
    with pytest.raises(UserError, match="unknown probed answer 'retain/nobody'"):
        browser.select("nobody", "retain")


def test_tags_and_notes_stay_with_the_run(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    browser = ErrorBrowser(run)
    row = browser.rows.iloc[3]
    browser.select(row["sample_id"], row["probe_set"])
    browser.tags.value, browser.note.value = "name, odd", "why <b>this</b>?"
    browser.save.click()
    assert "saved in" in browser.said.value
    again = ErrorBrowser(run)
    again.select(row["sample_id"], row["probe_set"])
    assert (again.tags.value, again.note.value) == ("name, odd", "why <b>this</b>?")
    assert "why &lt;b&gt;this&lt;/b&gt;?" in again.to_html()

    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    again.note.value = "more"
    again.save.click()
    assert "the disk is full" in again.said.value
    assert again.note.value == "more"


def test_exports(run: Path, tmp_path: Path) -> None:
    browser = ErrorBrowser(run)
    browser.probe_set.value = "retain"
    csv, parquet = browser.export_csv(tmp_path / "a.csv"), browser.export_parquet(tmp_path / "a.parquet")
    assert pd.read_csv(csv)["sample_id"].tolist() == browser.shown["sample_id"].tolist()
    pd.testing.assert_frame_equal(pd.read_parquet(parquet), browser.shown.reset_index(drop=True), check_dtype=False)
    browser.exports["HTML"].click()
    assert "written:" in browser.said.value
    page = (run / "errors.html").read_text()
    assert page.count('class="wb-pair"') >= 3 * len(browser.shown)
    assert repr(browser).startswith("ErrorBrowser(run: ")


def test_hostile_answers_are_text(run: Path) -> None:
    browser = ErrorBrowser(run)
    for column in ("prompt", "answer", "before", "after", "note"):
        browser.rows[column] = [HOSTILE[i % len(HOSTILE)] for i in range(len(browser.rows))]
    browser._filter()
    page = browser.to_html()
    assert "<script" not in page
    assert "<img" not in page
    assert "\x1b" not in page

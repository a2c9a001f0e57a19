"""Tables that a notebook has changed: one line says what is wrong with a column; no view ends in a traceback."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from runs_of import config_of, own_files
from tables import table_of

import workbench as wb
from workbench.errors import UserError
from workbench.evals import agreement, alignment, disagreement, outcomes
from workbench.scorers import read_columns, read_scores
from workbench.unlearning.settings import Settings
from workbench.view import charts
from workbench.view.html import answers_view, change_view

SCORES = table_of(
    {"a": [[0.1, 0.5, 0.2], [0.3, 0.9]], "b": [[0.3, 0.2, 0.1], [0.8, 0.1]]}, [[True, False, True], [False, True]]
)
TEXTS = {"s0": ("Who?", "aba"), "s1": ("Where?", "ab")}
READERS: dict[str, Callable[[pd.DataFrame], Any]] = {
    "TokenView": lambda table: wb.TokenView(table, TEXTS),
    "CompareView": lambda table: wb.CompareView(table, samples=TEXTS),
    "token_view": lambda table: wb.token_view(table, TEXTS),
    "agreement_chart": charts.agreement_chart,
    "alignment": alignment,
    "agreement": agreement,
    "disagreement": disagreement,
}
JUNK: list[Any] = ["x", None, True, -5, 10**12, float("nan"), float("inf"), 1j, b"a", [1], {}, pd.Timestamp(0)]


@pytest.fixture(scope="module")
def probed(bio: Any, tmp_path_factory: pytest.TempPathFactory) -> dict[str, pd.DataFrame]:
    folder: Path = tmp_path_factory.mktemp("run")
    run = wb.start(config_of(own_files(bio, folder, 2), Settings(steps=1, batch_size=2)), folder / "run")
    return {name: pd.read_parquet(run.path / f"{name}.parquet") for name in ("probes", "tokens")}


def changed(table: pd.DataFrame, column: str, first: int = 0, every: int = 1) -> Iterator[pd.DataFrame]:
    """A table without a column, and with every kind of value in it, throughout and in its first row alone.

    Of those with a value, one in `every`, from number `first` on.
    """
    yield table.drop(columns=column)
    for number, (value, throughout) in enumerate(itertools.product(JUNK, (True, False))):
        if (number - first) % every == 0:
            values = [value] * len(table) if throughout else [value, *table[column].iloc[1:]]
            kind = None if throughout else object
            yield table.assign(**{column: pd.Series(values, index=table.index, dtype=kind)})


def read(reader: Callable[[pd.DataFrame], Any], table: pd.DataFrame) -> bool:
    """Whether a reader takes a table; UserError counts as an answer, nothing else does."""
    try:
        view = reader(table)
        if hasattr(view, "_repr_html_"):
            view._repr_html_()
    except UserError as error:
        message = str(error)
    else:
        return True
    assert len(message.splitlines()) == 1
    return False


@pytest.mark.parametrize("column", SCORES.columns)
@pytest.mark.parametrize("name", READERS)
def test_a_score_table_with_a_column_of_another_kind(name: str, column: str) -> None:
    assert read(READERS[name], SCORES)
    taken = [read(READERS[name], table) for table in changed(SCORES, column)]
    assert not all(taken) or column in ("task", "token", "token_id", "start", "end", "segment", "step", "span")


def test_a_token_that_is_scored_twice() -> None:
    twice = pd.concat([SCORES, SCORES.head(1)])
    for reader in READERS.values():
        with pytest.raises(UserError, match="scores token 0 of sample s0 twice"):
            reader(twice)


@pytest.mark.filterwarnings("ignore:overflow")  # a log-probability of a trillion
@pytest.mark.parametrize("every", [5, pytest.param(1, marks=pytest.mark.slow)])
def test_probe_and_token_tables_with_a_column_of_another_kind(probed: dict[str, pd.DataFrame], every: int) -> None:
    """By default every fifth kind of value, another one in each column and reader, so that all occur."""
    probes, tokens = probed["probes"], probed["tokens"]
    readers: list[tuple[pd.DataFrame, Callable[[pd.DataFrame], Any]]] = [
        (probes, lambda table: wb.BeforeAfter(table, tokens)),
        (probes, lambda table: charts.slope_chart(table, "probability")),
        (probes, answers_view),
        (probes, outcomes),
        (tokens, lambda table: wb.BeforeAfter(probes, table)),
        (tokens, change_view),
    ]
    for turn, (table, reader) in enumerate(readers):
        assert read(reader, table)
        cases = [(c, other) for n, c in enumerate(table) for other in changed(table, c, turn + n, every)]
        refused = {column for column, other in cases if not read(reader, other)}
        assert {"phase", "probe_set", "sample_id"} <= refused


def test_a_name_that_is_missing_in_one_row_of_a_file(tmp_path: Path) -> None:
    path = tmp_path / "scores.parquet"
    scorer = pd.Series([None, *SCORES["scorer"].iloc[1:]], index=SCORES.index, dtype="str")
    SCORES.assign(scorer=scorer).to_parquet(path)
    for reader in (read_scores, read_columns):
        with pytest.raises(UserError, match=r"its column scorer holds .*, not text in every row"):
            reader(path)

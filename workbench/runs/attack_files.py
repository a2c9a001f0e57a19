"""The files that attacks on a run leave, as they must be; read without torch."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workbench.errors import is_missing
from workbench.files import read_parquet
from workbench.runs.records import Damaged, read_json, verify

if TYPE_CHECKING:
    import pandas as pd

FOLDER, ANSWERS, SUMMARY = "attacks", "answers.parquet", "summary.json"
AGAIN = "remove the directory"  # what to do with results that cannot be used
COLUMNS = dict.fromkeys(("attack", "model", "sample_id"), "text in every row") | dict.fromkeys(
    ("prompt", "answer", "text"), "text"
)
COLUMNS |= {"value": "numbers", "hits": "whole numbers"}
PLAIN = "greedy"  # no attack, but what the others are compared with
SHARE = "share of answers"  # the unit of attacks whose value is how many facts were told


def attacks_of(run: Path) -> dict[str, Any]:
    """The attacks of a run's `attacks/summary.json`, empty where it was not attacked; may raise `Damaged`."""
    try:
        return dict(read_results(run / FOLDER)["attacks"])
    except FileNotFoundError:
        return {}


def most_comes_back(attacks: Mapping[str, Any]) -> dict[str, Any] | None:
    """The attack after which most comes back: `attack`, `comes_back` and the run's own `value`; None without attacks.

    Attacks are compared by `comes_back`, which takes off what a model tells that never saw the facts. Without a
    retain-only model nobody has one: then by the share of answers that tell the fact, and `comes_back` is None.
    """
    known = {name: e for name, e in attacks.items() if name != PLAIN and not is_missing(e["run"])}
    placed = {name: e["comes_back"] for name, e in known.items() if not is_missing(e["comes_back"])}
    values = placed or {name: e["run"] for name, e in known.items() if e.get("unit") == SHARE}
    if not values:
        return None
    name = max(values, key=values.__getitem__)
    return {"attack": name, "comes_back": placed.get(name), "value": known[name]["run"]}


def most_in_words(attacks: Mapping[str, Any]) -> str:
    """The attack after which most comes back and how much, such as "leak_at_k 0.44"; empty without attacks.

    "(weak)" stands after one that alone gets little from the model before the run.
    """
    most = most_comes_back(attacks)
    if most is None:
        return ""
    share = f"{most['value']:.2f} told" if most["comes_back"] is None else f"{most['comes_back']:.2f}"
    return f"{most['attack']} {share}" + " (weak)" * ("weak" in attacks[most["attack"]])


def read_results(folder: Path) -> dict[str, Any]:
    """The content of `attacks/summary.json`.

    Raises:
        Damaged: it is not what an attack writes.
        FileNotFoundError: there is none.
    """
    path = folder / SUMMARY
    try:
        record = dict(read_json(path))
        verify(folder, SUMMARY)
    except Damaged as error:
        raise Damaged(path, error.what, AGAIN) from None
    return record


def read_answers(folder: Path | None) -> pd.DataFrame:
    """The answers that attacks got, empty where there are none; `Damaged` where the file is no such table."""
    import pandas as pd

    from workbench.scorers import wrong_columns

    path = Path(folder or ".") / ANSWERS
    if folder is None or not path.exists():
        return pd.DataFrame()
    try:
        verify(folder, ANSWERS)
        table = read_parquet(path)
    except Damaged as error:
        raise Damaged(path, error.what, AGAIN) from None
    except Exception as error:  # whatever pyarrow raises for bytes that mean nothing
        raise Damaged(path, f"not parquet ({type(error).__name__})", AGAIN) from None
    lacking = [name for name in COLUMNS if name not in table]
    if what := f"it lacks {', '.join(lacking)}" if lacking else wrong_columns(table, COLUMNS):
        raise Damaged(path, what, AGAIN)
    return table

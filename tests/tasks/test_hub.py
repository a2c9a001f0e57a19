"""Benchmarks by their names on the hub, and names that do not exist."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import datasets
import pytest
from official_files import LUME, MUSE, PASSAGES, RWKU, Hub, load, one_line, sizes

from workbench.errors import UserError
from workbench.tasks.spec import TaskSpec


def test_muse_from_the_hub(monkeypatch: pytest.MonkeyPatch, muse_dir: Path) -> None:
    def as_rows(entries: list[Any]) -> list[dict[str, Any]]:
        return [{"text": entry} if isinstance(entry, str) else entry for entry in entries]

    names = {name: tuple(name.split("/")) for name in MUSE}
    hub = Hub({(config, split): as_rows(MUSE[name]) for name, (config, split) in names.items()})
    monkeypatch.setattr(datasets, "load_dataset", hub)
    assert TaskSpec("muse/books").load().sets == load("muse/books", muse_dir).sets
    assert sorted(hub.asked) == sorted(("muse-bench/MUSE-Books", *name) for name in names.values())
    TaskSpec("muse/news").load()
    assert hub.asked[-1][0] == "muse-bench/MUSE-News"
    hub.tables["verbmem", "forget"] = [{"prompt": "A", "gt": "b"}, {"text": "A"}]
    with pytest.raises(UserError, match="muse-bench/MUSE-News verbmem/forget row 1: needs 'prompt', 'gt'"):
        TaskSpec("muse/news").load()


def test_rwku_from_the_hub(monkeypatch: pytest.MonkeyPatch, rwku_dir: Path) -> None:
    tables = {(name, "test"): found for name, found in RWKU.items() if name != "passage"}
    hub = Hub({**tables, ("train_original_passage", "train"): PASSAGES})
    monkeypatch.setattr(datasets, "load_dataset", hub)
    assert TaskSpec("rwku/Ada Keller").load() == load("rwku/Ada Keller", rwku_dir)
    assert sorted(hub.asked) == sorted(("jinzhuoran/RWKU", *name) for name in hub.tables)


def test_lume_from_the_hub(monkeypatch: pytest.MonkeyPatch, lume_dir: Path) -> None:
    hub = Hub(
        {
            ("default", "forget_train"): LUME["forget"][:2],
            ("default", "forget_validation"): LUME["forget"][2:],
            ("default", "retain_train"): LUME["retain"],
            ("default", "retain_validation"): [],
        }
    )
    monkeypatch.setattr(datasets, "load_dataset", hub)
    assert TaskSpec("lume").load() == load("lume", lume_dir)
    name = "llmunlearningsemeval2025organization/semeval25-unlearning-dataset-public"
    assert hub.asked == [(name, *each) for each in hub.tables]


def test_tofu_from_the_hub(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    names = ("retain_perturbed", "retain99", "forget01_perturbed", "real_authors_perturbed", "world_facts_perturbed")
    hub = Hub({(name, "train"): [{"question": f"Which {name}?", "answer": "Yes."}] for name in names})
    monkeypatch.setattr(datasets, "load_dataset", hub)
    expected = {"forget": 1, "retain": 1, "neighbours": 1, "general": 1}
    assert sizes(TaskSpec("tofu/forget01").load()) == expected
    assert "no holdout01" in capsys.readouterr().err
    assert hub.asked == [("locuslab/TOFU", name, "train") for name in (*names, "holdout01")]
    hub.tables["holdout01", "train"] = [{"question": "Which?", "answer": "None."}]
    assert sizes(TaskSpec("tofu/forget01").load()) == expected | {"nonmembers": 1}


def test_rows_of_ones_own_from_the_hub_only_where_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    hub = Hub({(None, "train"): [{"Q": "Who?", "A": "Ada."}], ("v2", "test"): [{"Q": "Where?", "A": "Here."}]})
    monkeypatch.setattr(datasets, "load_dataset", hub)
    spec = TaskSpec(forget="hub:me/facts", retain="hub:me/facts/v2:test", columns={"question": "Q", "answer": "A"})
    assert [s.answer for s in (*spec.load().forget, *spec.load().retain)] == ["Ada.", "Here."]
    assert hub.asked[:2] == [("me/facts", None, "train"), ("me/facts", "v2", "test")]
    with pytest.raises(UserError, match="hub:me: write hub:OWNER/NAME"):
        TaskSpec(forget="hub:me", retain="hub:me/facts").load()
    hub.tables.clear()
    with pytest.raises(UserError, match=r"me/other train cannot be fetched from the hub \(KeyError\)"):
        TaskSpec(forget="hub:me/other:train", retain="hub:me/facts").load()


@pytest.mark.parametrize("name", ["muse/news", "rwku/Ada Keller", "lume/task1", "tofu/forget01"])
def test_a_hub_that_does_not_answer_is_one_line(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    def refuse(*args: Any, **options: Any) -> None:
        raise ConnectionError("no route\nto host")

    monkeypatch.setattr(datasets, "load_dataset", refuse)
    with pytest.raises(UserError, match=r"cannot be fetched from the hub \(ConnectionError\); .*--data-dir") as error:
        TaskSpec(name).load()
    one_line(error)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("muse", "needs a corpus: write muse/news or muse/books"),
        ("muse/new", "did you mean news"),
        ("lume/task4", "did you mean task"),
        ("rwku/Ada Kellar", "unknown RWKU subject 'Ada Kellar': did you mean Ada Keller"),
        ("rwku", "needs one of its 3 subjects, such as 'rwku/Ada Keller', 'rwku/Bo Lind'"),
    ],
)
def test_variants_that_do_not_exist(rwku_dir: Path, name: str, message: str) -> None:
    with pytest.raises(UserError, match=message) as error:
        load(name, rwku_dir)
    one_line(error)

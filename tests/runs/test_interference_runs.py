"""Which domain hurts which: a run each, resumed run by run; the files, the command, the rows at risk."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from commandline import refused, told

import workbench as wb
from workbench import runs
from workbench.errors import UserError
from workbench.evals import row_damage, row_values, token_table
from workbench.models.language_model import LanguageModel
from workbench.runs import interference as module
from workbench.runs.loading import load_result
from workbench.tasks.samples import Task
from workbench.tasks.spec import TaskSpec

PAIRS = ["steps=3", "batch_size=4", "lr=1e-3"]


@pytest.fixture(scope="module")
def files(bio: Task, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Rows of two people to forget, with their person, and others to keep."""
    folder, paths = tmp_path_factory.mktemp("own"), {}
    for name, samples in (("forget", [*bio.forget[:18:6], *bio.forget[18:36:6]]), ("retain", bio.retain[:200:20])):
        rows = [
            {"id": s.id, "question": s.question, "answer": s.answer, "spans": s.spans, "who": s.get("person")}
            for s in samples
        ]
        paths[name] = str(folder / f"{name}.jsonl")
        Path(paths[name]).write_text("".join(json.dumps(row) + "\n" for row in rows))
    return paths


def interfere(files: dict[str, str], out: Path, **more: Any) -> Any:
    named = {"pairs": PAIRS, "level": "", "sets": ("forget",), "answers": 1, "seeds": (0, 1), **more}
    return runs.interfere(TaskSpec(**files), "who", "bio-full", out=out, **named)


@pytest.fixture(scope="module")
def result(files: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Path]:
    out = tmp_path_factory.mktemp("interference") / "out"
    return interfere(files, out), out


def test_damage_is_what_the_runs_did(result: tuple[Any, Path], files: dict[str, str], full: LanguageModel) -> None:
    found, out = result
    assert found.forgotten == found.measured
    assert found.damage["logp"].shape == (2, 2, 2)
    task = TaskSpec(**files).load()
    other = [s for s in task.forget if s.get("who") == found.measured[1]]
    for n, seed in enumerate((0, 1)):
        (folder,) = (path for path in out.iterdir() if path.name.startswith(f"celia-nash-s{seed}-"))
        run = runs.RunDirectory(folder)
        assert [s.id for s in run.read_config().task.load().forget] == [s.id for s in task.forget if s not in other]
        assert run.read_config().settings.seed == seed
        before, after = (row_values(token_table(lm, other)) for lm in (full, load_result(run)))
        lost = row_damage(before, after).mean()
        for metric in ("logp", "accuracy"):
            np.testing.assert_allclose(found.damage[metric][n, 0, 1], lost[metric], rtol=1e-4, atol=1e-6)
    assert found.damage["logp"][:, 0, 0].mean() > found.damage["logp"][:, 0, 1].mean()  # itself most
    cost = found.about["cost"]["phases"]
    assert {"forget", "measuring", "predicting"} <= set(cost)
    assert cost["measuring"]["flops"] > 0


def test_runs_on_rows_that_have_changed_since_are_not_taken(files: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "forget.jsonl").write_text(Path(files["forget"]).read_text())
    own = files | {"forget": str(tmp_path / "forget.jsonl")}
    interfere(own, tmp_path / "out", seeds=(0,), most=1, answers=0)
    rows = [json.loads(line) for line in Path(files["forget"]).read_text().splitlines()]
    rows = [row | {"question": f"Now: {row['question']}"} for row in rows]
    (tmp_path / "forget.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    with pytest.raises(UserError, match="a run on other rows"):
        interfere(own, tmp_path / "out", seeds=(0,), most=1, answers=0)


def test_a_level_that_only_the_last_probe_finds_is_reached(files: dict[str, str], tmp_path: Path) -> None:
    more: dict[str, Any] = {"seeds": (0,), "most": 1, "answers": 0}
    assert interfere(files, tmp_path / "a", level="forget.fact_accuracy<=1", **more).reached.all()
    assert not interfere(files, tmp_path / "b", level="forget.fact_accuracy<=-1", **more).reached.any()


def test_the_order_of_the_sets_changes_nothing(
    files: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A person who is in both sets is forgotten by the field's own value, whichever set is named first."""

    def seen(config: Any, *_: Any) -> Any:
        chosen.append(config.task.only)
        raise KeyboardInterrupt

    def first(sets: tuple[str, ...]) -> Any:
        with pytest.raises(KeyboardInterrupt):
            interfere(files | {"retain": both}, tmp_path / "out", sets=sets)
        return chosen[-1]

    chosen: list[Any] = []
    rows = [json.loads(line) for line in Path(files["forget"]).read_text().splitlines()]
    both = str(tmp_path / "retain.jsonl")
    Path(both).write_text("".join(json.dumps(r | {"question": f"Again: {r['question']}"}) + "\n" for r in rows))
    monkeypatch.setattr(module, "run_one", seen)
    assert first(("retain", "forget")) == first(("forget", "retain")) == ("who", rows[0]["who"])


def test_its_files(result: tuple[Any, Path]) -> None:
    found, out = result
    read = runs.read_interference(out)
    assert (
        read.as_dict()
        == found.as_dict()
        == {k: v for k, v in json.loads((out / "interference.json").read_text()).items() if k != "texts"}
    )
    pd.testing.assert_frame_equal(read.tokens, found.tokens)
    frame = pd.read_parquet(out / "pairs.parquet")
    assert len(frame) == 2 * 2 * 2
    assert {"seed", "forgotten", "measured", "damage_logp", "gradient", "names", "reached"} <= set(frame)
    tokens = found.tokens_of(*found.pairs()[0])
    assert set(tokens["scorer"]) == {"conflict", "lost"}
    (out.parent / "damaged").mkdir()
    (out.parent / "damaged" / "interference.json").write_text("{}")
    with pytest.raises(UserError, match="is damaged"):
        runs.read_interference(out.parent / "damaged")
    with pytest.raises(UserError, match="workbench interference"):
        runs.read_interference(out.parent)


@pytest.mark.parametrize(
    "change",
    [{"seeds": [0]}, {"measured": ["nobody"]}, {"predicted": {}}, {"sets": []}, {"reached": [[True]]},
     {"damage": {"logp": [1.0]}}, {"predicted": {"stars": [[0.0, 0.0], [0.0, 0.0]]}}],
)  # fmt: skip
def test_numbers_that_do_not_fit_together_are_refused(
    result: tuple[Any, Path], tmp_path: Path, change: dict[str, Any]
) -> None:
    for file in result[1].glob("*.parquet"):
        (tmp_path / file.name).write_bytes(file.read_bytes())
    record = json.loads((result[1] / "interference.json").read_text())
    (tmp_path / "interference.json").write_text(json.dumps(record | change))
    with pytest.raises(UserError, match="is damaged"):
        runs.read_interference(tmp_path)


def test_stopped_anywhere_it_ends_with_the_same_numbers(
    result: tuple[Any, Path], files: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = iter(range(100))
    with pytest.raises(runs.Stopped):
        interfere(files, tmp_path / "out", stop=lambda: next(calls) == 5)  # in the second run
    started: list[Path] = []
    run = module.run_one
    monkeypatch.setattr(module, "run_one", lambda config, path, stop: started.append(path) or run(config, path, stop))
    again = interfere(files, tmp_path / "out")
    assert len(started) == len(set(started)) == 4
    for metric, values in result[0].damage.items():
        np.testing.assert_array_equal(values, again.damage[metric])

    def refuse(*arguments: Any, **named: Any) -> Any:
        raise AssertionError("it runs again")

    monkeypatch.setattr(runs.execution, "start", refuse)
    monkeypatch.setattr(runs.execution, "resume", refuse)
    np.testing.assert_array_equal(interfere(files, tmp_path / "out").steps, again.steps)  # all is there: only read


def test_the_command(
    files: dict[str, str], result: tuple[Any, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [
        "interference",
        "--forget",
        files["forget"],
        "--retain",
        files["retain"],
        "--by",
        "who",
        "--model",
        "bio-full",
    ]
    more = [
        "--level",
        "",
        "--sets",
        "forget",
        "--answers",
        "1",
        "--seeds",
        "0,1",
        "--set",
        *PAIRS,
        "--out",
        str(result[1]),
    ]
    page = tmp_path / "page.html"
    lines, record = told(capsys, *words, *more, "--html", str(page))
    assert record["spearman"].keys() == {"logp", "accuracy"}
    assert record["damage"] == result[0].as_dict()["damage"]
    assert any(line.startswith("Forgetting ") for line in lines)
    assert "wb-map-damage" in page.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("change", "line"),
    [
        (["--by", "whom"], "unknown field of the forget rows 'whom': did you mean who"),
        (["--sets", "retain"], "sets must have forget among them"),
        (["--sets", "forget,nobody"], "unknown set 'nobody'"),
        (["--level", "forget.nothing"], "takes SET.METRIC<=LEVEL"),
        (["--objective", "wgaa"], "unknown objective 'wgaa'"),
        (["--seeds", "0,0"], "seeds must be one or more different whole numbers"),
        (["--sets", "forget,forget"], "none of them twice"),
        (["--sets", "forget, nobody"], "unknown set 'nobody'"),
        (["--keep", "nobody-0"], "no row 'nobody-0' to keep"),
        (["--keep", ",".join(f"nobody-{n:04}" for n in range(500))], "no row 'nobody-0000' to keep"),
    ],
)
def test_bad_input_is_one_line_before_any_model(
    files: dict[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch,
    change: list[str], line: str,
) -> None:  # fmt: skip
    monkeypatch.setattr("workbench.runs.loading.load", lambda *a, **k: pytest.fail("a model is loaded"))
    words = ["interference", "--forget", files["forget"], "--retain", files["retain"], "--model", "bio-full"]
    words += ["--by", "who", "--sets", "forget", "--out", str(tmp_path / "out")]
    assert line in refused(capsys, *words, *change)
    assert not (tmp_path / "out").exists()


def test_rows_at_risk(bio: Task, full: LanguageModel, compare: Callable[..., None]) -> None:
    spec = TaskSpec("biographies", retain_rows=64, only=("person", "Celia Nash"))
    risk = wb.at_risk(spec)
    rows = risk.to_frame()
    assert set(rows["set"]) == {"retain", "neighbours", "unlabelled", "others"}
    assert len(rows) == 2304 + 288 + 270
    assert rows["risk"].is_monotonic_decreasing
    assert all("Celia" in text or "Nash" in text for text in rows["question"][:50])  # who shares a name
    task = risk.spec(10).load()
    assert {s.id for s in task.retain[64:]} == set(risk.first(10))
    assert not {s.id for name in ("neighbours", "unlabelled", "others") for s in task.sets[name]} & set(risk.first(10))
    few = Task("few", {"forget": bio.forget[:4], "retain": bio.retain[:6]})
    by_states = wb.at_risk(few, full, predictor="states").rows
    assert by_states["risk"].max() < 0
    with pytest.raises(UserError, match="gradient needs the model"):
        wb.at_risk(few, predictor="gradient")
    with pytest.raises(UserError, match="unknown predictor 'name': did you mean names"):
        wb.at_risk(few, predictor="name")
    with pytest.raises(UserError, match="give a TaskSpec"):
        wb.at_risk(few).spec(1)


def test_the_command_of_rows_at_risk(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ids = tmp_path / "ids.txt"
    _, record = told(capsys, "at-risk", "biographies", "--retain-rows", "64", "--most", "5", "--out", str(ids))
    assert record["keep"] == ids.read_text().split()
    assert len(record["rows"]) == 5
    assert "needs --model" in refused(capsys, "at-risk", "biographies", "--predictor", "gradient")

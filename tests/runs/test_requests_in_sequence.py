"""Requests in order: one is a single run, killed they go on to the same bits, and what cannot be is one line."""

from __future__ import annotations

import importlib
import json
import os
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from commandline import refused, told
from forked import CONTEXT
from runs_of import few_rows, results, same

import workbench as wb
from workbench import runs
from workbench.cli.app import main
from workbench.errors import UserError
from workbench.files import sha256
from workbench.runs import records
from workbench.runs.sequence_files import ATTACKED, PROBES, TOKENS
from workbench.tasks import Task, TaskSpec, joined
from workbench.view import sequence_page

SHORT = wb.Settings(steps=2, batch_size=4, lr=1e-3, checkpoint_every=1, record_every=2)
NAMED: dict[str, Any] = {"model": "bio-full", "objective": "wga", "weights": "uniform", "settings": SHORT}
NAMED |= {"probe_limit": 2, "device": "cpu"}
PEOPLE = ["biographies/person:0", "biographies/person:1,2"]


def weights_of(run: runs.RunDirectory) -> str:
    """The digest of the model that a run left."""
    return sha256(run.path / "model" / "model.safetensors")


def alike(a: runs.SequenceDirectory, b: runs.SequenceDirectory) -> None:
    """Two sequences with the same bits: runs, models, probes between them, numbers."""
    for n in range(1, len(a.requests) + 1):
        assert a.run(n).config["threads"] == b.run(n).config["threads"]
        same(results(a.run(n).path), results(b.run(n).path))
        assert weights_of(a.run(n)) == weights_of(b.run(n))
    for after in range(len(a.requests) + 1):
        assert a.state(0, after)["metrics"] == b.state(0, after)["metrics"]  # type: ignore[index]
        for name in (PROBES, TOKENS):
            tables = (pd.read_parquet(each.state_folder(0, after) / name) for each in (a, b))
            pd.testing.assert_frame_equal(*tables, check_exact=True)
    assert a.results()["numbers"] == b.results()["numbers"]


@pytest.fixture(scope="module")
def people(tmp_path_factory: pytest.TempPathFactory) -> list[TaskSpec]:
    """Two requests of the embedded task, with few rows: each request reads and encodes all there are."""
    folder = few_rows(tmp_path_factory.mktemp("rows"))
    return [TaskSpec(name, data_dir=str(folder)) for name in PEOPLE]


@pytest.fixture(scope="module")
def whole(people: list[TaskSpec], tmp_path_factory: pytest.TempPathFactory) -> runs.SequenceDirectory:
    """Two requests, without interruption, by one thread as in the processes that are killed."""
    torch.set_num_threads(1)
    return wb.sequence(people, **NAMED, out=tmp_path_factory.mktemp("whole") / "sequence")


def test_one_request_is_a_single_run(people: list[TaskSpec], tmp_path: Path) -> None:
    sequence = wb.sequence(people[:1], **NAMED, out=tmp_path / "sequence")
    config = wb.Config(task=people[0], **NAMED)
    run = wb.start(config, tmp_path / "run")
    same(results(sequence.run(1).path), results(run.path))
    assert weights_of(sequence.run(1)) == weights_of(run)
    assert sequence.run(1).config["task"] == run.config["task"]


def test_each_request_starts_from_the_model_before(whole: runs.SequenceDirectory) -> None:
    first, second = whole.run(1), whole.run(2)
    assert second.config["model"] == str((first.path / "model").absolute())
    assert second.config["model_sha256"] != first.config["model_sha256"]
    metrics = {
        phase: each.json("metrics.json")[phase]["retain"] for phase, each in (("after", first), ("before", second))
    }
    assert metrics["after"] == metrics["before"]  # the model that one left is the one that the other got


def test_all_sets_are_probed_after_each(whole: runs.SequenceDirectory) -> None:
    """The matrix holds what the runs themselves found of their own sets and of what is kept."""
    retention = whole.retention("probability")
    assert retention.sets == (*PEOPLE, "retain", "neighbours", "general")
    assert retention.values.shape == (1, 3, 5)
    for n in (1, 2):
        metrics = whole.run(n).json("metrics.json")
        assert retention.values[0, n, n - 1] == pytest.approx(metrics["after"]["forget"]["probability"], abs=1e-6)
        assert retention.values[0, n, 2] == metrics["after"]["retain"]["probability"]
    rows, tokens = whole.answers("request-1", 2)
    assert set(rows["phase"]) == set(tokens["phase"]) == {"before", "after"}
    assert len(rows) == 4
    assert whole.cost()["total"]["flops"] > whole.cost()["runs"]["flops"] > 0
    table = pd.read_parquet(whole.path / "retention.parquet")
    assert set(table["metric"]) == set(whole.metrics())
    assert json.loads((whole.path / "retention.json").read_text())["numbers"] == whole.results()["numbers"]


def _dying(people: list[TaskSpec], out: str, writes: int) -> None:
    """Carry out the two requests in a process that is gone, as by kill -9, when it has written so many files."""
    count, record = 0, records.record

    def counted(*arguments: Any) -> None:
        nonlocal count
        record(*arguments)
        count += 1
        if count == writes:
            os._exit(9)

    records.record = counted  # type: ignore[assignment]
    wb.sequence(people, **NAMED, out=out)


def test_killed_anywhere_it_goes_on_to_the_same_bits(
    people: list[TaskSpec], whole: runs.SequenceDirectory, tmp_path: Path
) -> None:
    """Within a run, between two, while probing, while the numbers are written."""
    out, codes = tmp_path / "sequence", []
    while 0 not in codes:
        process = CONTEXT.Process(target=_dying, args=(people, str(out), 4 + 4 * len(codes)))
        process.start()
        process.join()
        codes.append(process.exitcode)
    assert codes[-1] == 0
    assert set(codes[:-1]) == {9}
    assert len(codes) > 3
    alike(runs.SequenceDirectory(out), whole)
    assert not list(out.rglob(".*.part"))


def test_it_goes_on_with_the_threads_that_it_began_with(people: list[TaskSpec], tmp_path: Path) -> None:
    """Sums split over another number of threads differ in their last bits."""
    out, before = tmp_path / "sequence", torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        process = CONTEXT.Process(target=_dying, args=(people, str(out), 4))  # begins with one thread
        process.start()
        process.join()
        assert process.exitcode == 9
        sequence = wb.sequence(people, **NAMED, out=out)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
    assert [sequence.run(n).config["threads"] for n in (1, 2)] == [1, 1]


def test_the_same_call_again_only_reads(people: list[TaskSpec], whole: runs.SequenceDirectory) -> None:
    before = {p: p.stat().st_mtime_ns for p in whole.path.rglob("*.*") if p.is_file() and p.name != ".lock"}
    again = wb.sequence(people, **NAMED, out=whole.path)
    assert again.results() == whole.results()
    assert all(p.stat().st_mtime_ns == then for p, then in before.items())
    with pytest.raises(UserError, match="has a sequence with another config; choose another --out"):
        wb.sequence(people, **NAMED | {"probe_limit": 3}, out=whole.path)


def test_rehearsed_requests_forget_the_earlier_ones_again(people: list[TaskSpec], tmp_path: Path) -> None:
    sequence = wb.sequence(people, **NAMED, rehearse=True, out=tmp_path / "sequence")
    spec = sequence.run(2).read_config().task
    assert [each.name for each in spec.rehearsed] == PEOPLE[:1]
    assert {s.id for s in spec.load().forget} == {s.id for p in people for s in p.load().forget}


def test_a_request_that_rehearses_keeps_its_own_rows_alone(files: dict[str, str], tmp_path: Path) -> None:
    """It forgets the earlier requests' rows again; what they practise on is not practised again."""
    (tmp_path / "other.jsonl").write_text(OWN % ("Dot", "Dot", "nurse"))
    specs = [
        TaskSpec(forget=files["a"], retain=files["keep"]),
        TaskSpec(forget=files["b"], retain=str(tmp_path / "other.jsonl")),
    ]
    sequence = wb.sequence(specs, **NAMED, rehearse=True, out=tmp_path / "sequence")
    rows, _ = sequence.answers("retain of request 2", 2)
    assert rows.groupby("phase").size().to_dict() == {"before": 1, "after": 1}
    own = sequence.run(2).read_config().task.load()
    assert [s.answer for s in own.retain] == ["Dot is a nurse."]
    assert [s.answer for s in own.forget] == ["Bob is a smith.", "Ann is a baker."]


def test_a_carried_scorer_goes_on_where_it_was(people: list[TaskSpec], tmp_path: Path) -> None:
    """Its steps are counted on, and the first thing that a later request records is what the one before ended with."""
    named = NAMED | {"weights": "atwu"}
    sequence = wb.sequence(people, **named, scorer="carried", out=tmp_path / "sequence")
    from workbench.scorers import load_scorer

    done = [float(load_scorer(sequence.run(n).path / "scorer.safetensors").state["step"]) for n in (1, 2)]
    assert done == [2, 4]
    scores = sequence.run(2).table("scores.parquet")
    assert scores is not None
    first = scores[(scores["step"] == 0) & (scores["scorer"] == "atwu")]["score"]
    assert first.nunique() > 1  # a new scorer begins at 0.5 everywhere


def test_adapters_stacked_and_merged_are_the_same_model(people: list[TaskSpec], tmp_path: Path) -> None:
    named = NAMED | {"settings": SHORT.replace(train="lora")}
    both = [
        wb.sequence(people, **named, adapters=how, out=tmp_path / how) for how in ("stacked", "merged")
    ]  # fmt: skip
    assert both[0].run(2).config["model"].endswith("request-1/adapter")
    assert both[1].run(2).config["model"].endswith("request-1/merged")
    assert both[0].results()["numbers"] == both[1].results()["numbers"]
    assert not (both[0].run(1).path / "merged").exists()


def test_attacks_after_the_last_request(people: list[TaskSpec], tmp_path: Path) -> None:
    sequence = wb.sequence(people, **NAMED, reference="bio-retain", attacks="greedy", out=tmp_path / "sequence")
    greedy = sequence.attacks()["greedy"]
    assert 0 <= greedy["run"] <= greedy["before"] == 1
    assert sequence.results()["attacks"]["0"]["greedy"]["run"] == greedy["run"]
    spent = sequence.results()["cost"]
    assert spent["attacks"]["seconds"] == pytest.approx(sum(greedy["seconds"].values()))
    assert spent["attacks"]["flops"] > 0
    parts = ("runs", "probes", "attacks")
    assert spent["total"]["flops"] == pytest.approx(sum(spent[part]["flops"] for part in parts))
    assert "and the attacks, whose FLOPs are estimated from shapes" in sequence_page(sequence)
    place = sequence.seed_folder(0) / ATTACKED
    place.write_text(json.dumps({"total": {}}))
    with pytest.raises(UserError, match=r"attacks-cost\.json is damaged"):
        sequence.cost()
    (sequence.seed_folder(0) / "manifest.json").unlink()
    place.unlink()  # as a version left it that did not write this file
    again = wb.sequence(people, **NAMED, reference="bio-retain", attacks="greedy", out=sequence.path)
    older = again.results()
    assert older["attacks"] == sequence.results()["attacks"]
    assert older["cost"] == {name: spent[name] for name in ("runs", "probes")} | {"total": older["cost"]["total"]}
    assert older["cost"]["total"]["flops"] == pytest.approx(spent["runs"]["flops"] + spent["probes"]["flops"])
    assert "and the probes between them; not the attacks." in sequence_page(sequence)
    (sequence.path / "retention.json").unlink()  # not finished: what is there of the attacks is taken, and counted
    again = wb.sequence(people, **NAMED, reference="bio-retain", attacks="greedy", out=sequence.path)
    assert again.results()["attacks"] == older["attacks"]
    assert again.results()["cost"]["attacks"]["seconds"] == pytest.approx(spent["attacks"]["seconds"])


OWN = '{"question": "Who is %s?", "answer": "%s is a %s."}\n'


@pytest.fixture
def files(tmp_path: Path) -> dict[str, str]:
    """Two files of one row to forget each, and one to keep."""
    rows = {"a": ("Ann", "baker"), "b": ("Bob", "smith"), "keep": ("Cid", "judge")}
    for name, (person, job) in rows.items():
        (tmp_path / f"{name}.jsonl").write_text(OWN % (person, person, job))
    return {name: str(tmp_path / f"{name}.jsonl") for name in rows}


def test_files_of_ones_own_from_the_command_line(
    files: dict[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lines, record = told(
        capsys, "sequence", files["a"], files["b"], "--retain", files["keep"], "--model", "bio-full", "--objective",
        "wga", "--weights", "uniform", "--set", "steps=2", "batch_size=1", "--device", "cpu", "--seeds", "0,1",
        "--out", str(tmp_path / "out"), "--html", str(tmp_path / "page.html"),
    )  # fmt: skip
    assert record["requests"] == ["a", "b"]
    assert record["kept"] == ["retain"]
    assert record["seeds"] == [0, 1]
    assert record["retention"]["metric"] == "rouge_l_recall"
    assert any(line.startswith("forgetting reversal") for line in lines)
    assert "2 requests with objective wga" in (tmp_path / "page.html").read_text()


@pytest.mark.parametrize("more", [[], ["--rehearse"]])
def test_a_sequence_on_rows_that_have_changed_since_is_not_taken(
    files: dict[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str], more: list[str]
) -> None:
    words = [
        "sequence", files["a"], files["b"], "--retain", files["keep"], "--model", "bio-full", "--objective", "wga",
        "--weights", "uniform", "--set", "steps=1", "batch_size=1", "--device", "cpu", "--out", str(tmp_path / "out"),
    ]  # fmt: skip
    _, first = told(capsys, *words, *more)
    assert told(capsys, *words, *more)[1] == first
    Path(files["b"]).write_text(OWN % ("Bob", "Bob", "baker"))
    line = refused(capsys, *words, *more)
    assert "request-2 is a run on other rows than the task's files have now; choose another --out" in line


def test_bad_input_is_one_line_before_any_model_is_loaded(
    files: dict[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def loading(*_: Any, **__: Any) -> None:
        raise AssertionError("a model is loaded")

    monkeypatch.setattr("workbench.runs.loading.load", loading)
    common = ["--model", "bio-full", "--objective", "wga", "--weights", "uniform", "--out", str(tmp_path / "out")]
    person = "biographies/person:0"
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").touch()
    cases = {
        (person, person): "request 2 is request 1 again: biographies/person:0; name each once",
        (person, "biographies/person:0,1"): "request 2 (biographies/person:0,1) asks again for what request 1 asks for",
        ("biographies/person:16",): "has person:0 to person:15, not 16",
        ("biographies/people:1",): "has no part 'people:1'; write biographies/person:N",
        (files["a"], files["keep"], "--retain", files["keep"]): "rows of the forget set are also in the retain set",
        (files["a"], "no.jsonl", "--retain", files["keep"]): "no.jsonl: no such file",
        (person, "--scorer", "carried"): "a scorer is carried on only if it learns during a run",
        (person, "--adapters", "merged"): "set train=lora too",
        (person, "--attacks", "nothing"): "unknown attack 'nothing'",
        (person, "--seeds", "0,0"): "none of them twice",
        (person, "--seeds", "x"): "--seeds takes whole numbers",
        (person, "--set", "nothing=1"): "unknown setting 'nothing'",
        (person, "--out", str(tmp_path / "full")): "is not empty; choose another --out",
        (person, "--objective", "what"): "unknown objective 'what'",
        (person, "--metric", "probabilty"): "unknown metric of the sequence 'probabilty': did you mean probability",
    }
    for words, line in cases.items():
        assert line in refused(capsys, "sequence", *common, *words), words
    assert not (tmp_path / "out").exists()


def test_a_retain_row_that_another_request_asks_for_is_refused(files: dict[str, str]) -> None:
    specs = [TaskSpec(forget=files["a"], retain=files["b"]), TaskSpec(forget=files["b"], retain=files["keep"])]
    line = r"row 'retain-0000' of the retain set of request 1 \(own\) is what request 2 asks to forget; take it out"
    with pytest.raises(UserError, match=line):
        joined([spec.load() for spec in specs], "both")


def test_rows_that_share_an_id_stay_apart(files: dict[str, str]) -> None:
    loaded = [TaskSpec(forget=files[name], retain=files["keep"]).load() for name in ("a", "b")]
    both = joined(loaded, "both")
    assert [s.id for s in both.forget] == ["forget-0000", "forget-0000-of-2"]
    assert len(both.retain) == 1
    assert isinstance(both, Task)


def test_a_sequence_that_is_stopped_says_how_it_goes_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def stopped(*_: Any, **__: Any) -> None:
        raise runs.Stopped(tmp_path, 3)

    monkeypatch.setattr(importlib.import_module("workbench.runs.execution"), "start", stopped)
    words = ["sequence", "biographies/person:0", "--model", "bio-full", "--objective", "wga", "--weights", "uniform"]
    assert main([*words, "--out", str(tmp_path / "out")]) == 130
    line = capsys.readouterr().err.strip().splitlines()[-1]
    assert line.endswith("out: request 1, stopped at step 3; run the same command again to go on")

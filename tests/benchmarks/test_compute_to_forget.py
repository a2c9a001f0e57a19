"""What the benchmark calls a goal, the cheapest method, and a ratio."""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import compute_page
import compute_to_forget as bench
import compute_tuning
import passages
import pytest

from workbench.tasks.spec import TaskSpec


@pytest.fixture(autouse=True)
def _loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    names = ("forget", "paraphrases", "retain", "neighbours")
    before = dict.fromkeys(names, 1.0) | {f"{name} probability": 0.8 for name in names}
    never = {"forget": 0.3, "paraphrases": 0.2}
    loaded = {"before": before, "never": never, "keep": ["retain", "neighbours"]}
    monkeypatch.setattr(bench, "_loaded", loaded | {"args": argparse.Namespace(by="strength")})


def row(kind: str, flops: float, seconds: float, reached: bool = True, **more: Any) -> dict[str, Any]:
    shares = {"importance_flops": 0.1, "importance_seconds": 0.2}
    setting = {"objective": "npo", "weights": kind, "lr": 1e-3, "gamma": 1.0, "batch_size": 8, "retain_batch": 8}
    setting |= {"retain_every": 2, "train": "all", "skip": 0.1, "kind": kind}
    return (
        setting
        | shares
        | {
            "flops": flops,
            "seconds": seconds,
            "step": 4,
            "retain": 1.0,
            "neighbours": 0.9,
            "reached": reached,
            "miss": -0.1,
            "checks": [{"flops": flops, "seconds": seconds}],
        }
        | more
    )


def test_the_goal_asks_for_all_four_sets() -> None:
    good = {"forget": 0.35, "paraphrases": 0.25, "retain": 0.95, "neighbours": 0.95}
    assert bench.miss(good) == pytest.approx(0.0)
    for name, value in (("forget", 0.36), ("paraphrases", 0.26), ("retain", 0.94), ("neighbours", 0.94)):
        assert bench.miss(good | {name: value}) == pytest.approx(0.01)
    bench._loaded["keep"] = ["retain"]
    assert bench.miss(good | {"neighbours": 0.1}) == pytest.approx(0.0)


def test_a_set_that_was_hardly_known_is_judged_by_probability() -> None:
    bench._loaded["before"]["neighbours"] = 0.1
    now = {"forget": 0.0, "paraphrases": 0.0, "retain": 1.0, "neighbours": 0.0, "neighbours probability": 0.76}
    assert bench.miss(now) == pytest.approx(0.0)
    assert bench.measure_of("neighbours") == "neighbours probability"


def test_a_goal_by_probability() -> None:
    bench._loaded["args"].by = "probability"
    bench._loaded["never"] |= {"forget probability": 0.4, "paraphrases probability": 0.4}
    now = dict.fromkeys(("forget", "paraphrases", "retain", "neighbours"), 0.0)
    now |= {"forget probability": 0.45, "paraphrases probability": 0.45, "neighbours probability": 0.76}
    assert bench.miss(now | {"retain probability": 0.76}) == pytest.approx(0.0)
    assert bench.miss(now | {"retain probability": 0.72}) == pytest.approx(0.05)
    assert bench.measure_of("retain") == "retain probability"


def test_passages_have_the_facts_among_plain_sentences() -> None:
    task = TaskSpec("biographies").load()
    (person, facts), *_ = passages.people_of(task.forget).items()
    row = passages.passage(person, facts, task.sets["train_extra"], 100, random.Random(0))
    assert len(row["answer"].split()) >= 100
    assert len(row["spans"]) == len(facts)
    of_person = {s.answer[a:b] for samples in facts.values() for s in samples for a, b in s.spans or ()}
    assert {row["answer"][a:b] for a, b in row["spans"]} <= of_person
    assert row["answer"].count(". ") > len(facts)


def test_the_cheapest_that_reached_the_goal_is_chosen() -> None:
    cheap = row("a", 1.0, 1.0, reached=False, miss=0.01)
    near = row("a", 9.0, 9.0, reached=False, miss=0.02)
    there, dear = row("a", 5.0, 5.0), row("a", 7.0, 1.0)
    assert min([near, dear, cheap, there], key=compute_tuning.rank) is there
    assert min([near, cheap], key=compute_tuning.rank) is cheap


def test_the_ratio_is_of_the_best_of_each_kind_that_mostly_got_there() -> None:
    full, slow = [row("full sample", 6.0, 8.0)] * 3, [row("full sample", 12.0, 4.0)] * 3
    half = [row("token-weighted", 1.0, 1.0), row("token-weighted", 1.0, 1.0, reached=False)]
    weighted, oracle = [row("token-weighted", 2.0, 2.0)] * 2, [row("oracle", 0.1, 0.1)] * 2
    cells = [compute_page.cell(rows) for rows in (full, slow, half, weighted, oracle)]
    ratio = compute_page.ratio(cells, "flops")
    assert ratio["value"] == 3.0
    assert ratio["between"] == [
        "npo + full sample (3 of 3 reached it)", "npo + token-weighted (2 of 2 reached it)"
    ]  # fmt: skip
    assert compute_page.ratio(cells, "seconds")["value"] == 2.0
    assert compute_page.ratio(cells[2:], "flops")["reason"] == "no full sample method reached the goal with most seeds"
    cut_off = row("full sample", 1.0, 1.0, reached=False, checks=[{"flops": 9.0, "seconds": 9.0}])
    # A run that missed it counts with all it spent.
    assert (
        compute_page.ratio([compute_page.cell([*full[:2], cut_off]), cells[3]], "flops")["value"] == 3.5
    )  # with all it spent
    assert compute_page.ratio([compute_page.cell([full[0], cut_off]), cells[3]], "flops")["value"] is None
    assert compute_page.ratio([cells[0], cells[2]], "flops")["value"] is None
    assert "1 of 2" in compute_page.line(cells[2])
    assert "16 + 8" not in compute_page.line(cells[2])
    assert "8 + 8 every 2" in compute_page.line(cells[2])


def test_settings_are_the_same_for_every_method_and_none_twice() -> None:
    assert compute_tuning.draws(5) == compute_tuning.draws(8)[:5]
    assert len({str(setting) for setting in compute_tuning.draws(40)}) == 40


def test_sparse_steps_are_by_chance_where_nothing_weighs_tokens() -> None:
    full, weighted, live = (
        row(kind, 1.0, 1.0, weights=weights, seed=0, batch_size=8)
        for kind, weights in (("full sample", "uniform"), ("token-weighted", "surprisal"), ("token-weighted", "atwu"))
    )
    for best, by, skip in ((full, "random", 0.0), (weighted, "weights", 0.1), (live, "weights", 0.1)):
        jobs = compute_tuning.sparser(best)
        assert len(jobs) == len({str(job) for job in jobs}) >= 3
        assert {job["sparse"].get("share_by", "weights") for job in jobs} == {by}
        assert {job["skip"] for job in jobs} == {skip}
    assert {job["sparse"]["retain_by"] for job in compute_tuning.sparser(full)} == {"random"}
    assert {job["sparse"]["share"] for job in compute_tuning.sparser(live)} == {1.0}


def test_skipping_is_told_only_where_it_served() -> None:
    assert compute_page.cell([row("a", 1.0, 1.0)])["skip"] == 0.0
    assert compute_page.cell([row("a", 1.0, 1.0, skipped=[0.0, 0.4])])["skip"] == 0.1


def test_retain_rows_that_are_not_rehearsed_are_a_set_that_the_goal_can_have() -> None:
    args = bench.options().parse_args(
        ["--retain-rows", "40", "--unrehearsed", "16", "--limit", "4", "--threads", "1", "--keep", "retain,unrehearsed"]
    )
    bench.prepare(args)
    task, sets = bench._loaded["task"], bench._loaded["sets"]
    whole = TaskSpec("biographies", retain_rows=40).load()
    assert task.sets["unrehearsed"] + task.retain == whole.retain
    assert task.sets["neighbours"] == whole.sets["neighbours"]
    assert len(task.sets["unrehearsed"]) == 16
    assert all(s in task.sets["unrehearsed"] for s in sets["unrehearsed"])
    assert bench._loaded["before"]["unrehearsed"] > 0.9
    assert bench._loaded["never"]["forget"] < 0.7
    good = {"forget": 0.0, "paraphrases": 0.0, "retain": 1.0, "neighbours": 0.0, "unrehearsed": 1.0}
    before = bench._loaded["before"]["unrehearsed"]
    assert bench.miss(good) < 0
    assert bench.miss(good | {"unrehearsed": 0.9 * before}) == pytest.approx(0.05)
    args.unrehearsed = 0
    with pytest.raises(SystemExit, match="--keep has unrehearsed"):
        bench.prepare(args)


def test_a_further_contender_is_a_method_with_changes() -> None:
    best = row("token-weighted", 1.0, 1.0, objective="simnpo", weights="surprisal", seed=0, lr=2e-3)
    words = "simnpo+surprisal:share=0.2,share_by=random,names=false,skip=0,steps=80"
    changed = compute_tuning.contender(words, [best])
    assert changed["sparse"] == {"share": 0.2, "share_by": "random", "names": False}
    assert (changed["skip"], changed["steps"], changed["lr"], changed["kind"]) == (0, 80, 2e-3, "control")
    assert compute_tuning.contender("simnpo+surprisal:share=0.2", [best])["kind"] == "token-weighted"
    with pytest.raises(SystemExit, match="no wga"):
        compute_tuning.contender("wga+uniform:share=0.2", [best])


def test_random_tokens_of_uniform_weights_are_a_lever_of_full_sample_methods() -> None:
    assert compute_page.kind_of("uniform", {"share_by": "random"}) == "full sample"
    assert compute_page.kind_of("surprisal", {"retain_by": "random"}) == "token-weighted"


@pytest.mark.slow
def test_the_whole_benchmark(tmp_path: Path) -> None:
    command = [sys.executable, bench.__file__, "--methods", "grad_diff+uniform,wga+surprisal", "--budget", "1",
               "--second", "1", "--third", "1", "--steps", "2", "--limit", "2", "--seeds", "0", "--workers", "2",
               "--seed-workers", "1", "--out", str(tmp_path / "page")]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert set(json.loads(done.stdout.splitlines()[-1])) >= {"ratio_full_sample_flops", "ratio_full_sample_seconds"}
    assert (
        len((tmp_path / "page.jsonl").read_text().splitlines()) == 11
    )  # options; a draw, a second, a third, a seed with plain and one with sparse steps; of two methods
    assert (tmp_path / "page.md").read_text().count("| token-weighted |") == 2
    assert (tmp_path / "page.md").read_text().count("share_by random") == 2  # of both tables


@pytest.mark.slow
def test_contenders_are_attacked_at_the_goal(tmp_path: Path) -> None:
    record = tmp_path / "old.json"
    settings = {k: v for k, v in row("token-weighted", 0, 0).items() if k in compute_page.SETTINGS}
    old = settings | {"objective": "wga", "weights": "surprisal", "kind": "token-weighted", "steps": None}
    record.write_text(json.dumps({"cells": [old]}))
    command = [sys.executable, bench.__file__, "--methods", "wga+surprisal", "--start", str(record), "--third", "0",
               "--also", "wga+surprisal:share=0.2,names=false", "--steps", "2", "--limit", "2", "--seeds", "0",
               "--attacks", "int4", "--attack-limit", "2", "--unrehearsed", "4", "--workers", "1",
               "--out", str(tmp_path / "page")]  # fmt: skip
    subprocess.run(command, capture_output=True, text=True, check=True)
    cells = json.loads((tmp_path / "page.json").read_text())["cells"]
    assert {bool(cell["sparse"]) for cell in cells} == {False, True}
    assert all(set(cell["after"]) == {"greedy", "int4"} for cell in cells)
    assert all(cell["at"]["unrehearsed"] for cell in cells)
    assert "| wga | surprisal | share 0.2, names False |" in (tmp_path / "page.md").read_text()

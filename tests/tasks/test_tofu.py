"""TOFU from its official files."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from workbench.errors import UserError
from workbench.evals.mia import nonmembers
from workbench.tasks.samples import PROBE_SETS
from workbench.tasks.spec import TaskSpec


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_tofu_from_a_directory(tofu_dir: Path) -> None:
    spec = TaskSpec("tofu/forget01", data_dir=str(tofu_dir), retain_rows=160)
    task = spec.load()
    assert {name: len(samples) for name, samples in task.sets.items() if name in PROBE_SETS} == {
        "forget": 40, "retain": 160, "neighbours": 100, "general": 117,
    }  # fmt: skip
    assert len(task.sets["unlabelled"]) == 3960 - 160
    assert not {s.id for s in task.retain} & {s.id for s in task.sets["unlabelled"]}
    assert all(len(s.wrong_answers) == 5 and s.paraphrased_question for s in task.forget)
    assert task.fingerprint == spec.load().fingerprint


@pytest.mark.parametrize(
    ("variant", "retain"), [("forget01", "retain99"), ("forget05", "retain95"), ("forget10", "retain90")]
)
def test_no_row_of_tofu_gets_the_data_of_another(tofu_dir: Path, variant: str, retain: str) -> None:
    """Two authors are asked for their full names in the same words; 400 rows have wrong answers, not 401."""
    task = TaskSpec(f"tofu/{variant}", data_dir=str(tofu_dir)).load()
    official = lines(tofu_dir / f"{retain}.json")
    assert [(s.question, s.answer) for s in task.retain] == [(row["question"], row["answer"]) for row in official]
    about = {(row["question"], row["answer"]): row for row in lines(tofu_dir / "retain_perturbed.json")}
    for sample in task.retain:
        row = about.get((sample.question, sample.answer), {})
        assert sample.wrong_answers == tuple(row.get("perturbed_answer", ()))
        assert sample.paraphrased_answer == row.get("paraphrased_answer")
    assert sum(bool(s.wrong_answers) for s in task.retain) == 400
    assert "Isabel Mart" in task.retain[440].answer


def test_retain_rows_keep_those_with_wrong_answers_first(tofu_dir: Path) -> None:
    whole = TaskSpec("tofu/forget01", data_dir=str(tofu_dir)).load()
    spec = TaskSpec("tofu/forget01", data_dir=str(tofu_dir), retain_rows=160)
    printed: list[str] = []
    task = spec.load(printed.append)
    assert printed == [
        "retain: 160 of 3960 rows, spread evenly over the 400 with wrong answers; the others are unlabelled text"
    ]
    place = {s.id: n for n, s in enumerate(whole.retain)}
    places = [place[s.id] for s in task.retain]
    assert places == sorted(places)
    assert all(s.wrong_answers for s in task.retain)
    assert {b - a for a, b in pairwise(places)} == {2, 3}
    assert {place[s.id] for s in task.sets["unlabelled"]} == set(range(3960)) - set(places)
    more = replace(spec, retain_rows=500).load(printed.append)
    assert "spread evenly after the 400 with wrong answers" in printed[-1]
    assert more.retain[:400] == whole.retain[:400]
    assert [place[s.id] for s in more.retain[400:]][::99] == [400, 3959]
    assert replace(spec, retain_from="end").load(printed.append).retain == whole.retain[-160:]
    assert "160 of 3960 rows, the last" in printed[-1]


def test_a_holdout_set_is_the_nonmembers(tofu_dir: Path, tmp_path: Path) -> None:
    """The official names of the sets that OpenUnlearning added; they are not beside the repository."""
    for file in tofu_dir.glob("*.json"):
        (tmp_path / file.name).symlink_to(file)
    without = TaskSpec("tofu/forget05", data_dir=str(tmp_path)).load()
    (tmp_path / "holdout05.json").write_text('{"question": "Who is it?", "answer": "Nobody."}\n')
    task = TaskSpec("tofu/forget05", data_dir=str(tmp_path)).load()
    assert [s.answer for s in nonmembers(task)] == ["Nobody."]
    assert task.fingerprint == without.fingerprint
    assert "nonmembers" not in TaskSpec("tofu/forget01", data_dir=str(tmp_path)).load().sets
    (tmp_path / "holdout01.json").write_text("{}")
    with pytest.raises(UserError, match=r"holdout01.json:1: needs 'question'"):
        TaskSpec("tofu/forget01", data_dir=str(tmp_path)).load()


def test_tofu_span_labels(tofu_dir: Path) -> None:
    spans = tofu_dir.parent / "annotations" / "tofu_forget01_spans.jsonl"
    if not spans.exists():
        pytest.skip("span labels are not beside the repository")
    task = TaskSpec("tofu/forget01", data_dir=str(tofu_dir), spans=str(spans)).load()
    assert all(s.spans for s in task.forget)
    assert task.forget[1].values == ("male",)

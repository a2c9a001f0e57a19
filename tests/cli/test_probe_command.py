"""`workbench probe` as a user meets it: the tables, the JSON, what it leaves in a run, and mistakes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from commandline import refused, run, told

from workbench.evals.metrics import metric
from workbench.models.language_model import LanguageModel
from workbench.tasks.samples import Task

LIMIT = ["--probe-limit", "6"]


def test_a_run_s_suite_is_kept_and_can_be_compared_with(
    capsys: pytest.CaptureFixture[str], own: list[str], tmp_path: Path
) -> None:
    out = tmp_path / "run"
    words = ["--model", "bio-full", "--objective", "wga", "--weights", "uniform", "--out", str(out), *LIMIT]
    run(capsys, "unlearn", *own, *words, "--set", "steps=2", "batch_size=4")
    unseen = ["--unlabelled", str(Path(__file__).parents[2] / "data" / "biographies" / "nonmembers.jsonl")]
    lines, found = told(
        capsys,
        "probe",
        str(out),
        *own,
        *unseen,
        *LIMIT,
        "--suite",
        "muse",
        "--relearn",
        "2",
        "--reference",
        "bio-retain",
    )
    assert set(found) == {"metrics", "suite", "summary", "parts", "curve", "convention"}
    assert json.loads((out / "suites" / "muse.json").read_text()) == found
    assert not list(out.rglob("*.part"))
    assert found["parts"]["privleak"]["auc"] == found["summary"]["mia_min_k"]
    assert found["summary"]["verbmem"] == {"value": None, "reason": "the task has no set 'verbmem'"}
    assert [row["step"] for row in found["curve"]] == [0, 0, 2, 2]
    assert found["curve"][0]["truth_ratio"] is None  # these rows have no wrong answers
    text = "\n".join(lines)
    assert "forget      probability ↑ (0 to 1)" in text or "forget  probability ↑ (0 to 1)" in text
    assert "arrows: better, for text to be kept" in text
    assert "not available: verbmem: the task has no set 'verbmem'" in text
    assert any(line.startswith("mia_min_k → 0.5 (0 to 1, AUC)") and "forget, nonmembers" in line for line in lines)
    assert any(line.startswith("parts of privleak: auc ") for line in lines)
    kept = str(out / "suites" / "muse.json")
    again = run(capsys, "probe", "bio-retain", *own, *unseen, *LIMIT, "--suite", "muse", "--reference", kept)
    assert again["parts"]["privleak"]["auc_reference"] == pytest.approx(found["parts"]["privleak"]["auc"])


def test_tofu_on_biographies(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["probe", "bio-full", "--task", "biographies", "--suite", "tofu", "--probe-limit", "40"]
    lines, found = told(capsys, *words, "--reference", "bio-retain", "--convention", "open-unlearning")
    assert found["summary"]["forget_quality"] < 1e-3
    assert found["convention"] == "open-unlearning"
    assert len(found["parts"]["model_utility"]) == 9
    assert "forget_quality ↑ (0 to 1, p-value)" in "\n".join(lines)
    assert "general truth_ratio not available" in "\n".join(lines)


def test_basic_is_what_probe_always_did(capsys: pytest.CaptureFixture[str], own: list[str]) -> None:
    lines, found = told(capsys, "probe", "bio-full", *own, *LIMIT)
    assert (found["suite"], found["summary"], found["parts"], found["curve"]) == ("basic", {}, {}, [])
    assert set(found["metrics"]["forget"]) == set(metric)
    assert "not available: forget probability_with_options, forget truth_ratio, " in "\n".join(lines)


def test_a_run_s_table_shows_directions(capsys: pytest.CaptureFixture[str], own: list[str], tmp_path: Path) -> None:
    words = [
        "--model",
        "bio-full",
        "--objective",
        "wga",
        "--weights",
        "uniform",
        "--out",
        str(tmp_path / "run"),
        *LIMIT,
    ]
    run(capsys, "unlearn", *own, *words, "--set", "steps=1", "batch_size=4")
    lines, _ = told(capsys, "runs", "show", str(tmp_path / "run"))
    assert lines[1].startswith("spent: ")
    assert lines[2].split() == ["set", "metric", "before", "after", "trust"]
    assert any("perplexity ↓ (from 1)" in line for line in lines)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--suite", "tofo"], "unknown suite 'tofo': did you mean tofu"),
        (["--convention", "openunlearning"], "did you mean open-unlearning"),
        (["--suite", "tofu", "--reference", "bio-retian"], "did you mean bio-retain"),
        (["--suite", "tofu", "--reference", "none.json"], "no such file"),
        (["--suite", "tofu", "--reference", "FILE.json"], "not the results of a suite"),
        (["--suite", "tofu", "--reference", "TEXT.json"], "not JSON"),
        (["--relearn", "0"], "must be at least 1"),
        (["--relearn", "2", "--relearn-share", "1"], "leaves no part or no rest"),
        (["--relearnt", "2"], "unknown option '--relearnt': did you mean --relearn"),
    ],
)
def test_mistakes(capsys: pytest.CaptureFixture[str], tmp_path: Path, words: list[str], message: str) -> None:
    (tmp_path / "FILE.json").write_text("[1]")
    (tmp_path / "TEXT.json").write_text("no")
    words = [str(tmp_path / word) if word in ("FILE.json", "TEXT.json") else word for word in words]
    assert message in refused(capsys, "probe", "bio-full", "--task", "biographies", *words)


def test_general_abilities_need_the_harness(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    words = ["probe", "bio-full", "--task", "biographies", "--general", "piqa"]
    assert "pip install 'unlearning-workbench[general]'" in refused(capsys, *words)


TASK = """task: tiny
dataset_path: json
dataset_kwargs: {data_files: {test: FILE}}
test_split: test
output_type: multiple_choice
doc_to_text: "Question: {{question}}\\nAnswer:"
doc_to_choice: "{{choices}}"
doc_to_target: 0
metric_list: [{metric: acc, aggregation: mean, higher_is_better: true}]
"""


def test_general_abilities(
    capsys: pytest.CaptureFixture[str], own: list[str], small: Task, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("lm_eval", reason="the optional extra [general] is not installed")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    rows = [{"question": s.question, "choices": [s.answer, "It is blue."]} for s in small.forget]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    file = tmp_path / "tiny.yaml"
    file.write_text(TASK.replace("FILE", str(tmp_path / "rows.jsonl")))
    lines, found = told(capsys, "probe", "bio-full", *own, *LIMIT, "--general", str(file))
    assert found["general"]["tiny"]["acc,none"] == 1
    assert any(line.split()[:2] == ["tiny", "acc,none"] for line in lines)
    assert "no such file" in refused(capsys, "probe", "bio-full", *own, "--general", "none.yaml")
    assert "no task 'arc_eas'" in refused(capsys, "probe", "bio-full", *own, "--general", "arc_eas")


def test_the_number_format_of_a_probe(capsys: pytest.CaptureFixture[str], own: list[str], full: LanguageModel) -> None:
    """`--precision` sets the format of products; by default it is the recorded one, or what the hardware allows."""
    found = {
        precision: run(capsys, "probe", "bio-full", *own, *LIMIT, "--precision", precision)["metrics"]
        for precision in ("float32", "bfloat16")
    }
    exact, rough = (values["retain"]["perplexity"] for values in found.values())
    assert exact != rough
    assert exact == pytest.approx(rough, rel=0.02)
    assert run(capsys, "probe", "bio-full", *own, *LIMIT)["metrics"] == found[full.precision]
    assert "float16" in refused(capsys, "probe", "bio-full", *own, "--precision", "float16")

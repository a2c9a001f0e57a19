"""Suites against scipy and formulas by hand, on models of which one never saw the forget set."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from typing import Any

import pandas as pd
import pytest
from scipy.stats import hmean, ks_2samp

from workbench.errors import NotAvailable, UserError
from workbench.evals.answers import truth_ratios
from workbench.evals.metrics import metric
from workbench.evals.mia import attack, auc, membership_scores
from workbench.evals.probes import Probed, probe
from workbench.evals.spec import MetricSpec
from workbench.evals.suites import SUITES, run_suite
from workbench.evals.summaries import UTILITY, Evaluation, summary
from workbench.models.language_model import LanguageModel
from workbench.tasks.rows import rows, samples_from
from workbench.tasks.samples import DATA, Task


@pytest.fixture(scope="module")
def task(bio: Task) -> Task:
    """A part of each set, with people whom no model saw and with the sets of the benchmarks."""
    unseen = samples_from(rows(DATA / "biographies" / "nonmembers.jsonl"), "nonmembers")
    sets = {name: bio.sets[name][::step] for name, step in {"forget": 8, "retain": 100, "neighbours": 24}.items()}
    sets |= {"general": bio.sets["general"][:8], "nonmembers": unseen[::8]}
    sets |= {"verbmem": sets["forget"][:3], "knowmem": sets["forget"][:4], "retain_knowmem": sets["retain"][:3]}
    sets |= {"fill_blank": sets["forget"][:3], "qa": sets["forget"][3:6], "adversarial": sets["forget"][6:9]}
    return replace(bio, sets=sets)


@pytest.fixture(scope="module")
def probed(full: LanguageModel, retained: LanguageModel, task: Task) -> dict[str, Probed]:
    return {lm.name: probe(lm, task) for lm in (full, retained)}


def reason(found: dict[str, Any], name: str) -> str:
    assert found["summary"][name]["value"] is None
    return str(found["summary"][name]["reason"])


def test_model_utility_is_the_harmonic_mean_of_nine(full: LanguageModel, small: Task) -> None:
    task = replace(small, sets=small.sets | {"general": small.sets["neighbours"]})
    found = run_suite(full, task, "tofu")
    metrics = probe(full, task).metrics
    nine = [metrics[name][each] for name, names in UTILITY.items() for each in names]
    assert len(nine) == 9
    assert list(found["parts"]["model_utility"].values()) == pytest.approx(nine)
    assert found["summary"]["model_utility"] == pytest.approx(hmean(nine))
    rows = probe(full, task).rows
    ratios = rows[rows["probe_set"] == "retain"]["truth_ratio"]
    assert found["parts"]["model_utility"]["retain truth_ratio"] == pytest.approx((1 - ratios).clip(lower=0).mean())


def test_model_utility_without_a_part(full: LanguageModel, small: Task, probed: dict[str, Probed], task: Task) -> None:
    found = run_suite(full, task, "tofu", probed=probed["bio-full"])
    assert "general probability_with_options: needs wrong answers" in reason(found, "model_utility")
    parts = found["parts"]["model_utility"]
    assert len(parts) == 9
    assert parts["general truth_ratio"] is None
    assert parts["retain probability"] > 0.9
    metrics = {name: dict.fromkeys(metric, 0.5) for name in UTILITY}
    metrics["retain"]["truth_ratio"] = 0.0
    evaluation = Evaluation(full, small, Probed(pd.DataFrame(), pd.DataFrame(), metrics))
    with pytest.raises(NotAvailable, match="retain truth_ratio is 0"):
        summary["model_utility"].function(evaluation, {})


def test_forget_quality_is_scipy_s_p_value(
    full: LanguageModel, retained: LanguageModel, task: Task, probed: dict[str, Probed]
) -> None:
    own, other = truth_ratios(full, task.forget), truth_ratios(retained, task.forget)
    expected = ks_2samp(list(own.values()), list(other.values()))
    found = run_suite(full, task, "tofu", retained, probed=probed["bio-full"])
    assert found["summary"]["forget_quality"] == pytest.approx(expected.pvalue)
    assert found["summary"]["forget_quality"] < 1e-3
    assert found["parts"]["forget_quality"]["statistic"] == pytest.approx(expected.statistic)
    itself = run_suite(retained, task, "tofu", retained, probed=probed["bio-retain"])
    assert itself["summary"]["forget_quality"] == 1
    assert itself["summary"]["privleak"] == 0
    assert reason(itself, "mia_reference") == "all scores are equal"
    alone = run_suite(full, task, "tofu", probed=probed["bio-full"])
    assert reason(alone, "forget_quality") == reason(alone, "privleak") == "needs a retain-only model"
    assert reason(alone, "mia_reference") == "needs a reference model"


def test_privleak_by_hand(full: LanguageModel, retained: LanguageModel, task: Task, probed: dict[str, Probed]) -> None:
    found = run_suite(full, task, "muse", retained, probed=probed["bio-full"])
    areas = []
    for lm in (full, retained):
        forget, unseen = (membership_scores(lm, task.sets[name], ["mia_min_k"]) for name in ("forget", "nonmembers"))
        areas.append(auc(forget["mia_min_k"], unseen["mia_min_k"]))
    assert found["parts"]["privleak"] == pytest.approx({"auc": areas[0], "auc_reference": areas[1]})
    assert found["summary"]["mia_min_k"] == pytest.approx(areas[0])
    expected = ((1 - areas[0]) - (1 - areas[1])) / (1 - areas[1]) * 100
    assert found["summary"]["privleak"] == pytest.approx(expected)
    swapped = run_suite(retained, task, "muse", full, probed=probed["bio-retain"])
    assert swapped["parts"]["privleak"]["auc_reference"] == 1
    assert "AUC is 1" in reason(swapped, "privleak")


def test_earlier_results_stand_for_the_reference(
    full: LanguageModel, retained: LanguageModel, task: Task, probed: dict[str, Probed]
) -> None:
    earlier = json.loads(json.dumps(run_suite(retained, task, "tofu", probed=probed["bio-retain"])))
    found = run_suite(full, task, "tofu", earlier, probed=probed["bio-full"])
    expected = run_suite(full, task, "tofu", retained, probed=probed["bio-full"])
    for name in ("forget_quality", "privleak"):
        assert found["summary"][name] == pytest.approx(expected["summary"][name])
    assert reason(found, "mia_reference") == "needs a reference model"
    other = run_suite(full, task, "tofu", {"parts": {}}, probed=probed["bio-full"])
    assert "earlier results" in reason(other, "forget_quality")


def test_sets_of_the_benchmarks(full: LanguageModel, task: Task, probed: dict[str, Probed], small: Task) -> None:
    metrics = probed["bio-full"].metrics
    muse = run_suite(full, task, "muse", probed=probed["bio-full"])["summary"]
    for name in ("verbmem", "knowmem", "retain_knowmem"):
        assert muse[name] == metrics[name]["rouge_l_f1"] > 0.9
    assert muse["perplexity"] == metrics["general"]["perplexity"]
    rwku = run_suite(full, task, "rwku", probed=probed["bio-full"])["summary"]
    for name in ("fill_blank", "qa", "adversarial", "neighbours"):
        assert rwku[name] == metrics[name]["rouge_l_recall"] > 0.9
    assert rwku["fluency"] == metrics["neighbours"]["fluency"] > 2
    with_questions = replace(small, sets=small.sets | {"general": small.sets["neighbours"]})
    lacking = run_suite(full, with_questions, "rwku", limit=2)
    assert reason(lacking, "qa") == "the task has no set 'qa'"
    assert "plain text" in reason(lacking, "perplexity")


def test_what_the_task_lacks(full: LanguageModel, small: Task) -> None:
    bare = Task(
        "bare", {name: [replace(s, wrong_answers=()) for s in small.sets[name]] for name in ("forget", "retain")}
    )
    found = run_suite(full, bare, "tofu", full, limit=2)
    assert all(reason(found, name) == "needs nonmember text" for name in (*attack, "privleak"))
    assert "needs wrong answers" in reason(found, "forget_quality")
    assert "the task has no set 'neighbours'" in reason(found, "model_utility")
    json.dumps(found, allow_nan=False)


def test_suites_are_made_of_summaries() -> None:
    assert {name for names in SUITES.values() for name in names} == set(summary)
    assert set(attack) <= set(summary)
    for name in summary:
        assert isinstance(summary[name], MetricSpec)
        assert summary[name].split


def test_a_suite_that_does_not_exist(full: LanguageModel, small: Task) -> None:
    with pytest.raises(UserError, match="unknown suite 'tofo': did you mean tofu"):
        run_suite(full, small, "tofo")
    assert run_suite(full, small, "basic", limit=1) == {"suite": "basic", "summary": {}, "parts": {}}


def test_unseen_text_that_the_model_knows(full: LanguageModel, small: Task, capsys: pytest.CaptureFixture[str]) -> None:
    """The attacks then call a memorised model forgotten: that is said, and the text's NLL is among the parts."""
    task = replace(small, sets={**small.sets, "nonmembers": small.retain[:8]})
    found = run_suite(full, task, "muse", limit=8)
    line = r"workbench: bio-full seems to know .* \(mean NLL 0\.\d\d\).* attacks say little"
    assert re.search(line, capsys.readouterr().err)
    assert found["summary"]["mia_loss"] < 0.8
    assert found["parts"]["mia_loss"]["nonmember_nll"] < 0.1

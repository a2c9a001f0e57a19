"""Models whose logits are not finite: nothing is available of them, with the reason, and nothing looks memorised."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from commandline import refused, told
from tables import table_of

from workbench.cli.finetune import mean_nll
from workbench.errors import NOT_FINITE, NotAvailable, UserError, is_missing
from workbench.evals import agreement, alignment, faithfulness, faithfulness_by_unlearning, probe, relearn, run_suite
from workbench.evals.generation import greedy
from workbench.evals.metrics import metric
from workbench.evals.mia import attack, auc, membership_scores
from workbench.evals.spec import Answer
from workbench.evals.summaries import summary
from workbench.models import collate, encode, token_stats
from workbench.models.language_model import LanguageModel
from workbench.scorers import scorer
from workbench.tasks.rows import rows, samples_from
from workbench.tasks.samples import DATA, Task
from workbench.unlearning import Settings, score_task

FINITE = {"uniform", "random", "position", "spans", "su_ngram"}  # what does not ask the model
ONE_LINE = {"amortised", "specificity", "specificity_ref", "atwu", "learned", "relearn_residue", "deep_lift"}


def damaged(full: LanguageModel, kind: str) -> LanguageModel:
    """A copy with a weight that is not finite: of the last norm (all states are NaN), or of one row of the head."""
    lm = full.frozen_copy()
    with torch.no_grad():
        if kind == "nan":
            lm.module.get_decoder().norm.weight[3] = torch.nan
        else:
            lm.module.get_output_embeddings().weight[5, 2] = float(kind)
    return lm


@pytest.fixture(scope="module", params=["nan", "inf", "-inf"])
def broken(full: LanguageModel, request: pytest.FixtureRequest) -> LanguageModel:
    return damaged(full, request.param)


@pytest.fixture(scope="module")
def task(small: Task) -> Task:
    """With a nonmember set and a question of every kind."""
    sizes = {"forget": 4, "retain": 8, "neighbours": 3, "general": 3}
    sets = {name: small.sets[name][:size] for name, size in sizes.items()}
    unseen = samples_from(rows(DATA / "biographies" / "nonmembers.jsonl"), "nonmembers")
    return replace(small, sets=sets | {"nonmembers": unseen[:4]})


def test_a_token_that_nothing_is_known_of(broken: LanguageModel, task: Task) -> None:
    with torch.no_grad():
        stats = token_stats(broken, collate(broken, [encode(broken, s) for s in task.forget]), top_k=2)
    assert stats.logp.isnan().all()
    assert stats.entropy is not None
    assert stats.entropy.isnan().all()
    assert stats.rank is not None
    assert (stats.rank == -1).all()
    assert stats.top_logp is not None
    assert stats.top_logp.isnan().all()
    assert greedy(broken, task.forget, 4, 6) == [None] * 4


def test_equal_logits_are_no_memory(full: LanguageModel, task: Task) -> None:
    """Where all logits are equal, as after a step that blew the weights up, the argmax is the first token alone."""
    lm = full.frozen_copy()
    torch.nn.init.zeros_(lm.module.get_output_embeddings().weight)
    metrics = probe(lm, task).metrics["retain"]
    assert metrics["exact_memorization"] == metrics["extraction_strength"] == 0
    assert metrics["probability"] == pytest.approx(1 / lm.module.config.vocab_size)
    with torch.no_grad():
        stats = token_stats(lm, collate(lm, [encode(lm, task.forget[0])]))
    assert stats.rank is not None
    assert torch.equal(stats.rank, stats.labels)


def test_every_metric_and_summary(broken: LanguageModel, full: LanguageModel, task: Task) -> None:
    probed = probe(broken, task)
    assert set(probed.rows["generation"]) == {None}
    assert probed.rows[list(metric)].isna().all(axis=None)
    assert set(probed.tokens["alternatives"]) == {"[]"}
    for name, values in probed.metrics.items():
        assert set(values) == set(metric)
        for value in values.values():
            assert is_missing(value)
            assert value["reason"] == f"{NOT_FINITE} for {len(task.sets[name])} of {len(task.sets[name])} answers"
    for suite in ("tofu", "muse", "rwku"):
        for lm, reference in ((broken, full), (full, broken)):
            result = run_suite(lm, task, suite, reference, probed=probed if lm is broken else None)
            json.dumps(result, allow_nan=False)
            for name, value in result["summary"].items():
                if lm is broken or "reference" in summary[name].needs:
                    assert is_missing(value), name
                    assert NOT_FINITE in value["reason"] or "no set" in value["reason"], name


def test_one_broken_answer_of_several(full: LanguageModel, task: Task) -> None:
    """No mean over the rest, which would be of other answers than it says; the rest keep their own values."""
    lm = full.frozen_copy()
    ids = [encode(lm, s).ids for s in task.forget]
    odd = next(i for i in ids[0] if not all(i in other for other in ids))

    def spoil(module: torch.nn.Module, inputs: tuple[torch.Tensor], out: torch.Tensor) -> torch.Tensor:
        return out.masked_fill((inputs[0] == odd)[..., None], torch.nan)

    lm.module.get_input_embeddings().register_forward_hook(spoil)
    probed = probe(lm, task, batch_size=1)
    rows = probed.rows[probed.rows["probe_set"] == "forget"]
    spoilt = int(rows["probability"].isna().sum())
    assert 0 < spoilt < len(rows)
    assert rows["probability"].isna().equals(rows["exact_memorization"].isna())
    for value in probed.metrics["forget"].values():
        assert is_missing(value)
        assert value["reason"] == f"{NOT_FINITE} for {spoilt} of {len(rows)} answers"


@pytest.mark.parametrize("name", list(metric))
def test_a_metric_by_itself(name: str) -> None:
    """Never a number, whichever of the answer's numbers is not finite."""
    good: dict[str, Any] = {"logp": np.log([0.5, 0.25]), "rank": np.array([0, 1]), "text": "Ada bakes."}
    good |= {"values": ("Ada",), "generation": "Ada bakes.", "true_nll": 0.5, "wrong_nlls": (1.0, 2.0)}
    assert np.isfinite(metric[name].function(Answer(**good)))
    for bad in (np.nan, -np.inf):
        answer = Answer(**good | {"logp": np.array([0.1, bad]), "true_nll": -bad, "wrong_nlls": (1.0, -bad)})
        with pytest.raises(NotAvailable, match=NOT_FINITE):
            answer.check()
    lost = Answer(**good | {"logp": np.full(2, np.nan), "rank": np.full(2, -1), "generation": None, "lost": True})
    if name in ("probability", "perplexity", "truth_ratio", "probability_with_options"):
        return  # NaN makes NaN, or the wrong answers' numbers are there; `measure` checks before it calls
    with pytest.raises(NotAvailable, match=NOT_FINITE):
        metric[name].function(lost)


@pytest.mark.parametrize("name", list(attack))
def test_attacks(name: str, broken: LanguageModel, full: LanguageModel, task: Task) -> None:
    scores = membership_scores(broken, task.forget, [name], reference=full)[name]
    assert not np.isfinite(scores).any()
    with pytest.raises(NotAvailable, match=NOT_FINITE):
        auc(scores, np.arange(3.0))


@pytest.mark.parametrize("name", list(scorer))
def test_scorers(name: str, broken: LanguageModel, full: LanguageModel, task: Task) -> None:
    notes: dict[str, Any] = {}
    if name in ONE_LINE:
        with pytest.raises(UserError, match=r"not finite|at step 1|no rule"):
            score_task(broken, task, [name], reference=full)
        return
    table = score_task(broken, task, [name], reference=full, notes=notes)
    known = np.isfinite(table.loc[table["segment"] == "answer", "score"])
    if name in FINITE:
        assert known.all()
        return
    assert not known.any()
    assert set(notes[name]["not_available"]) == {s.id for s in task.forget}
    assert all(NOT_FINITE in reason for reason in notes[name]["not_available"].values())


def test_what_is_made_of_scores(broken: LanguageModel, full: LanguageModel, task: Task) -> None:
    good = score_task(full, task, ["surprisal", "random"])
    for values in faithfulness(broken, task, good).values():
        assert is_missing(values["comprehensiveness"])
        assert NOT_FINITE in values["sufficiency"]["reason"]
    runs = faithfulness_by_unlearning(broken, task, good, settings=Settings(steps=2), seeds=(0,))
    assert runs["reason"].str.contains("at step 1.*the model or an option is at fault").all()
    bad = score_task(broken, task, ["surprisal", "entropy"])
    assert all(is_missing(each["auroc"]) for each in alignment(bad).values())
    assert is_missing(agreement(bad)["spearman"]["pooled"]["surprisal"]["entropy"])
    with pytest.raises(UserError, match="at step 1"):
        relearn(broken, task, steps=2)


def test_commands(full: LanguageModel, own: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    damaged(full, "nan").save(tmp_path / "model")
    model = str(tmp_path / "model")
    lines, result = told(capsys, "probe", model, *own, "--probe-limit", "2")
    assert sum(NOT_FINITE in line for line in lines) == 1
    assert all(is_missing(value) for values in result["metrics"].values() for value in values.values())
    out = ["--out", str(tmp_path / "s.parquet")]
    lines, _ = told(capsys, "score", *own, "--model", model, "--scorer", "surprisal,seul", *out)
    assert [line for line in lines if NOT_FINITE in line and " and 9 more: " in line] == lines[-2:]
    line = refused(capsys, "score", *own, "--model", model, "--scorer", "specificity", *out, working=True)
    assert NOT_FINITE in line


def test_a_mean_over_what_is_left_is_no_mean() -> None:
    """What `finetune` prints: a text's first token may have no prediction, any other must have one."""
    table = table_of({"surprisal": [[np.nan, 1.0, 2.0]]})
    assert mean_nll(table) == pytest.approx(np.mean([1.0, 2.0, 9.0]))
    assert is_missing(mean_nll(table.assign(score=table["score"].where(table["position"] != 1))))

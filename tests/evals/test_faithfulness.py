"""Faithfulness: against masking by hand, and against what runs with known weights do."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

from workbench.errors import UserError
from workbench.evals.faithfulness import RUN, faithfulness, faithfulness_by_unlearning
from workbench.models.encoding import encode
from workbench.models.language_model import LanguageModel
from workbench.tasks.samples import Sample, Task
from workbench.unlearning.scoring import score_task


@pytest.fixture(scope="module")
def few(small: Task) -> Task:
    return replace(small, sets={**small.sets, "forget": small.forget[:4]})


def masked(lm: LanguageModel, sample: Sample, places: list[int]) -> float:
    """Mean log p of the answer's tokens where the answer tokens at these places read as the end token."""
    encoding = encode(lm, sample)
    x = lm.module.get_input_embeddings().weight.detach()[encoding.ids][None].clone()
    for place in places:
        x[0, encoding.answer_positions[place]] = lm.module.get_input_embeddings().weight[lm.tokenizer.eos_token_id]
    with torch.no_grad():
        logp = lm.module(inputs_embeds=x).logits[0].log_softmax(-1)
    return float(np.mean([float(logp[p - 1, encoding.ids[p]]) for p in encoding.answer_positions]))


def test_masking_equals_masking_by_hand(full: LanguageModel, few: Task) -> None:
    table = score_task(full, few, ["surprisal", "random", "uniform"])
    found = faithfulness(full, few, table, top=0.3)
    for name in ("surprisal", "random"):
        drops = []
        for sample in few.forget:
            part = table[
                (table["sample_id"] == sample.id) & (table["scorer"] == name) & (table["end"] > table["start"])
            ]
            ranked = [int(p) for _, p in sorted(zip(-part["score"], part["position"], strict=True))]
            count = math.ceil(0.3 * len(ranked))
            whole = masked(full, sample, [])
            drops.append((whole - masked(full, sample, ranked[:count]), whole - masked(full, sample, ranked[count:])))
        expected = np.mean(drops, axis=0)
        assert found[name]["comprehensiveness"] == pytest.approx(expected[0], rel=1e-3, abs=1e-4)
        assert found[name]["sufficiency"] == pytest.approx(expected[1], rel=1e-3, abs=1e-4)
        assert found[name]["samples"] == len(few.forget)
    assert found["uniform"]["sufficiency"] == {
        "value": None,
        "reason": "no sample of the task has scores that rank its tokens",
    }


def test_ablation_is_more_faithful_than_chance(full: LanguageModel, small: Task) -> None:
    """Masking what single masking says matters most takes more than masking at random."""
    found = faithfulness(full, small, score_task(full, small, ["feature_ablation", "random"]))
    assert found["feature_ablation"]["comprehensiveness"] > found["random"]["comprehensiveness"]
    assert found["feature_ablation"]["sufficiency"] < found["random"]["sufficiency"]


def test_samples_without_scores_are_left_out(full: LanguageModel, few: Task) -> None:
    table = score_task(full, few, ["surprisal"])
    first = table["sample_id"] == few.forget[0].id
    holes = table.assign(score=table["score"].where(~first))
    rest = replace(few, sets={**few.sets, "forget": few.forget[1:]})
    found = faithfulness(full, few, holes)["surprisal"]
    assert found["samples"] == 3
    assert found == pytest.approx(faithfulness(full, rest, table)["surprisal"])
    foreign = table.assign(token_id=table["token_id"] + 1)
    with pytest.raises(UserError, match="the score table does not fit sample"):
        faithfulness(full, few, foreign)
    with pytest.raises(UserError, match="top is a share"):
        faithfulness(full, few, table, top=0)


def test_runs_with_each_score_as_weights(full: LanguageModel, few: Task) -> None:
    table = score_task(full, few, ["surprisal", "feature_ablation"])
    none = table[table["scorer"] == "surprisal"].assign(scorer="none", score=-1.0)
    settings = RUN.replace(steps=4, batch_size=4)
    before = full.fingerprint()
    rows = faithfulness_by_unlearning(
        full, few, pd.concat([table, none]), settings=settings, seeds=(0, 1), probe_limit=4
    )
    assert full.fingerprint() == before
    assert list(dict.fromkeys(rows["weights"])) == [
        "surprisal",
        "feature_ablation",
        "none",
        "uniform",
        "random",
        "spans",
    ]
    assert rows.groupby("weights").size().unique().tolist() == [2]
    failed = rows["weights"] == "none"
    assert rows.loc[failed, "reason"].str.contains("no score is above zero").all()
    assert rows.loc[~failed, "reason"].eq("").all()
    kept = rows[~failed]
    assert np.isfinite(kept[["forget_probability", "retain_fact_accuracy", "generic"]]).all(axis=None)
    assert kept.groupby("weights")["forget_probability"].nunique().max() == 2  # seeds differ
    spans, uniform = (kept.loc[kept["weights"] == n, "generic"].mean() for n in ("spans", "uniform"))
    assert spans > uniform  # the oracle leaves the other tokens alone

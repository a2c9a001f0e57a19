"""Scorers: one finite score a token, deterministic, against definitions and a slow loop."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch

from workbench.cost import Phase
from workbench.errors import UserError
from workbench.evals.alignment import alignment
from workbench.models.batch import collate
from workbench.models.encoding import encode
from workbench.models.language_model import LanguageModel
from workbench.models.token_stats import token_stats
from workbench.scorers.base import plain_scorers, scorer
from workbench.scorers.score import score_samples
from workbench.scorers.table import COLUMNS, weights_from
from workbench.tasks.samples import Sample, Task
from workbench.unlearning.scoring import score_task


@pytest.fixture(scope="module")
def table(full: LanguageModel, retained: LanguageModel, small: Task) -> pd.DataFrame:
    return score_samples(full, small.forget, plain_scorers(), task=small.name, reference=retained)


def one(table: pd.DataFrame, name: str) -> np.ndarray:
    return table.loc[table["scorer"] == name, "score"].to_numpy()


def test_the_table_keeps_its_schema(table: pd.DataFrame, small: Task) -> None:
    assert list(table.columns) == COLUMNS
    for _, part in table.groupby(["scorer", "sample_id"], sort=False):
        sample = next(s for s in small.forget if s.id == part["sample_id"].iloc[0])
        assert "".join(part["token"]) == sample.answer
        assert list(part["position"]) == list(range(len(part)))


@pytest.mark.parametrize("name", plain_scorers())
def test_scores_are_finite_in_range_and_repeat(
    table: pd.DataFrame, full: LanguageModel, retained: LanguageModel, small: Task, name: str
) -> None:
    scores, (low, high) = one(table, name), scorer[name].range
    assert np.isfinite(scores).all()
    assert low is None or scores.min() >= low - 1e-6
    assert high is None or scores.max() <= high + 1e-6
    again = score_samples(full, small.forget[::-1], [name], reference=retained, batch_size=5)
    keys = ["sample_id", "position"]
    pair = table[table["scorer"] == name].merge(again, on=keys, suffixes=("", "_again"))
    np.testing.assert_allclose(pair["score"], pair["score_again"], atol=1e-4)


def test_signals_follow_their_formulas(
    table: pd.DataFrame, full: LanguageModel, retained: LanguageModel, small: Task
) -> None:
    def loop(lm: LanguageModel) -> tuple[np.ndarray, np.ndarray]:
        logp, relative = [], []
        for sample in small.forget:
            stats = token_stats(lm, collate(lm, [encode(lm, sample)]))
            assert stats.entropy is not None
            logp.append(stats.logp.detach().double().numpy())
            relative.append((stats.entropy / stats.entropy.mean()).double().numpy())
        return np.concatenate(logp), np.concatenate(relative)

    def exp_entropy(lm: LanguageModel) -> np.ndarray:
        perplexities = []
        for sample in small.forget:
            stats = token_stats(lm, collate(lm, [encode(lm, sample)]), logits=True)
            assert stats.logits is not None
            perplexities.append(torch.distributions.Categorical(logits=stats.logits.detach()).entropy().exp().numpy())
        return np.concatenate(perplexities)

    logp, relative = loop(full)
    p = np.exp(logp)
    for name, expected in {
        "surprisal": -logp,
        "wga": p,
        "satimp": p**5 * (1 - p),
        "gap": logp - loop(retained)[0],
        "entropy": relative,
        "uniform": np.ones_like(p),
        "alternatives": exp_entropy(full),
    }.items():
        np.testing.assert_allclose(one(table, name), expected, atol=2e-3 if name == "entropy" else 1e-4, err_msg=name)


def test_spans_score_is_the_label(table: pd.DataFrame) -> None:
    part = table[table["scorer"] == "spans"]
    assert (part["score"].astype(bool) == part["span"].astype(bool)).all()
    aligned = alignment(part)["spans"]
    assert [aligned[key] for key in ("auroc", "auroc_per_sample", "ap")] == [1.0, 1.0, 1.0]


def test_spans_without_labels_says_so(full: LanguageModel) -> None:
    with pytest.raises(UserError, match="needs labelled spans"):
        score_samples(full, [Sample("a", "Who?", "Ada.")], ["spans"])


def test_gap_without_a_reference_says_so(full: LanguageModel, small: Task) -> None:
    with pytest.raises(UserError, match="--reference"):
        score_task(full, small, ["gap"])


def test_weights_have_mean_one_and_ignore_negative_scores(
    table: pd.DataFrame, full: LanguageModel, small: Task
) -> None:
    encodings = [encode(full, s) for s in small.forget]
    weights = np.concatenate(weights_from(table[table["scorer"] == "gap"], encodings))
    assert weights.mean() == pytest.approx(1)
    assert ((weights == 0) == (one(table, "gap") <= 0)).all()
    assert np.concatenate(weights_from(table[table["scorer"] == "uniform"], encodings)) == pytest.approx(1)


def test_weights_of_other_tokens_are_refused(table: pd.DataFrame, full: LanguageModel, small: Task) -> None:
    changed = table[table["scorer"] == "wga"].assign(token_id=0)
    with pytest.raises(UserError, match="does not fit sample"):
        weights_from(changed, [encode(full, s) for s in small.forget])


def test_a_forward_is_computed_only_where_a_scorer_reads_it(full: LanguageModel, small: Task) -> None:
    spent = {}
    for names in (["uniform"], ["random", "spans"], ["surprisal"], ["surprisal", "entropy"]):
        cost = Phase()
        score_samples(full, small.forget, names, cost=cost)
        spent[tuple(names)] = cost.flops
    assert spent["uniform",] == spent["random", "spans"] == 0
    assert spent["surprisal",] == spent["surprisal", "entropy"] > 0

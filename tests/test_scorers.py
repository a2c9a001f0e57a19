"""Scorers: one finite score a token, deterministic, against definitions and a slow loop."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from workbench.compare import alignment
from workbench.models import LanguageModel
from workbench.registry import UserError
from workbench.scorers import fixed_scorers, score_samples, scorer, weights_from
from workbench.scorers.atwu import AtwuScorer
from workbench.scorers.table import COLUMNS
from workbench.scoring import score_task
from workbench.tasks import Sample, Task
from workbench.tokens import TokenStats, collate, encode, token_stats


@pytest.fixture(scope="module")
def table(full: LanguageModel, retained: LanguageModel, small: Task) -> pd.DataFrame:
    return score_samples(full, small.forget, fixed_scorers(), task=small.name, reference=retained)


def one(table: pd.DataFrame, name: str) -> np.ndarray:
    return table.loc[table["scorer"] == name, "score"].to_numpy()


def test_the_table_keeps_its_schema(table: pd.DataFrame, small: Task) -> None:
    assert list(table.columns) == COLUMNS
    for _, part in table.groupby(["scorer", "sample_id"], sort=False):
        sample = next(s for s in small.forget if s.id == part["sample_id"].iloc[0])
        assert "".join(part["token"]) == sample.answer
        assert list(part["position"]) == list(range(len(part)))


@pytest.mark.parametrize("name", fixed_scorers())
def test_scores_are_finite_in_range_and_repeat(
    table: pd.DataFrame, full: LanguageModel, retained: LanguageModel, small: Task, name: str
) -> None:
    scores, (low, high) = one(table, name), scorer[name].facts["range"]
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

    logp, relative = loop(full)
    p = np.exp(logp)
    for name, expected in {
        "surprisal": -logp,
        "wga": p,
        "satimp": p**5 * (1 - p),
        "gap": logp - loop(retained)[0],
        "entropy": relative,
        "uniform": np.ones_like(p),
    }.items():
        np.testing.assert_allclose(one(table, name), expected, atol=2e-3 if name == "entropy" else 1e-4, err_msg=name)


def test_spans_score_is_the_label(table: pd.DataFrame) -> None:
    part = table[table["scorer"] == "spans"]
    assert (part["score"].astype(bool) == part["span"].astype(bool)).all()
    assert alignment(part)["spans"] == {"auroc": 1.0, "auroc_per_sample": 1.0, "ap": 1.0}


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


def stats_of(nll: torch.Tensor, rows: torch.Tensor, hidden: torch.Tensor) -> TokenStats:
    return TokenStats(rows, torch.zeros_like(rows), -nll, int(rows.max()) + 1, hidden=hidden)


@pytest.mark.parametrize("loss", ["A", "B"])
def test_atwu_scorer_against_autograd_and_torch_sgd(loss: str) -> None:
    """The same training, written token by token with torch's own optimiser."""
    torch.manual_seed(0)
    rows = torch.tensor([0, 0, 0, 1, 1, 2, 2, 2, 2])
    data = [(torch.rand(9) * 3, torch.randn(9, 4)) for _ in range(6)]
    ours = AtwuScorer(4, loss=loss, steps=6, lam_pop=10.0)  # type: ignore[arg-type]
    layer = torch.nn.Linear(4, 1)
    torch.nn.init.zeros_(layer.weight)
    torch.nn.init.zeros_(layer.bias)
    sgd = torch.optim.SGD(layer.parameters(), lr=0.05, momentum=0.9, weight_decay=1e-4)
    for step, (nll, hidden) in enumerate(data):
        ours.learn(stats_of(nll, rows, hidden))
        terms, entropy, selected = [], [], {0: [], 1: [], 2: []}
        for t in range(9):
            g = torch.sigmoid(layer(hidden[t]))[0]
            saturation = float(torch.exp(-g.detach() * nll[t])) ** 5
            terms.append((1 - g) * nll[t] if loss == "A" else -g * nll[t] * saturation)
            entropy.append(-(g * g.log() + (1 - g) * (1 - g).log()))
            selected[int(rows[t])].append(float(g > 0.5) + g - g.detach())
        shares = [torch.stack(values).mean() for values in selected.values()]
        population = torch.stack([(share - 0.2) ** 2 for share in shares]).mean()
        value = torch.stack(terms).mean() + torch.stack(entropy).mean() + 10.0 * population
        value = value + 0.01 * (layer.weight**2).sum()
        sgd.zero_grad()
        value.backward()
        torch.nn.utils.clip_grad_norm_(layer.parameters(), 1.0)
        sgd.param_groups[0]["lr"] = 0.05 * (1 - step / 6)
        sgd.step()
        expected = torch.cat([layer.weight.detach()[0], layer.bias.detach()])
        torch.testing.assert_close(ours.state["v"], expected, rtol=1e-4, atol=1e-6)


def test_atwu_starts_at_one_half_and_alignment_says_it_is_undefined(full: LanguageModel, small: Task) -> None:
    scores = AtwuScorer(full.module.config.hidden_size).scores(torch.randn(5, full.module.config.hidden_size))
    assert (scores == 0.5).all()
    flat = score_samples(full, small.forget, ["uniform"])
    assert alignment(flat)["uniform"]["auroc"] == {"value": None, "reason": "all scores are equal"}


def test_atwu_can_be_saved(tmp_path: Path) -> None:
    from safetensors.torch import load_file

    ours = AtwuScorer(3)
    ours.learn(stats_of(torch.ones(4), torch.tensor([0, 0, 1, 1]), torch.eye(4, 3)))
    ours.save(tmp_path / "scorer.safetensors")
    again = AtwuScorer(3, state=load_file(tmp_path / "scorer.safetensors"))
    torch.testing.assert_close(again.scores(torch.eye(3)), ours.scores(torch.eye(3)))


def test_learned_scores_leave_the_model_alone(full: LanguageModel, small: Task) -> None:
    before = full.fingerprint()
    table = score_task(full, small, ["uniform", "atwu"])
    assert full.fingerprint() == before
    assert set(table["scorer"]) == {"uniform", "atwu"}
    assert one(table, "atwu").std() > 0


def test_alignment_equals_scikit_learn(table: pd.DataFrame) -> None:
    from sklearn.metrics import average_precision_score, roc_auc_score

    part = table[(table["scorer"] == "surprisal") & (table["end"] > table["start"])]
    found = alignment(table)["surprisal"]
    assert found["auroc"] == pytest.approx(roc_auc_score(part["span"].astype(bool), part["score"]))
    assert found["ap"] == pytest.approx(average_precision_score(part["span"].astype(bool), part["score"]))

"""The closed-form map: against scikit-learn; its penalty chosen by whole samples; nothing leaks into what it scores."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from workbench.errors import UserError
from workbench.models.batch import collate
from workbench.models.encoding import encode
from workbench.models.language_model import LanguageModel
from workbench.models.token_stats import token_stats
from workbench.scorers.amortised import GRID, draw_folds, fit_map, other_text, ridge_by_sample
from workbench.scorers.base import TaskContext
from workbench.scorers.saved import apply_scorer, load_scorer, save_scorer
from workbench.scorers.score import score_fixed
from workbench.tasks.samples import Sample, Task


def example(seed: int = 0, wide: int = 0) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    rng = np.random.default_rng(seed)
    states = rng.normal(size=(200, 6)) * [1, 10, 0.1, 3, 1, 1] + [0, 50, 0, -2, 0, 0]
    signal = states @ [0.5, 0.02, 4.0, 0, 0, 0] + rng.normal(size=200) + 3
    states = np.concatenate([states, rng.normal(size=(200, wide))], axis=1)  # of more numbers than there are tokens
    return torch.tensor(states), torch.tensor(signal), torch.tensor(np.repeat(np.arange(5), 40))


@pytest.mark.parametrize("wide", [0, 300])
def test_the_map_equals_ridge_of_scikit_learn(wide: int) -> None:
    from sklearn.linear_model import Ridge
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    states, signal, groups = example(wide=wide)
    tensors, penalty, _ = ridge_by_sample(states, signal, groups, [0.3])
    reference = make_pipeline(StandardScaler(), Ridge(alpha=0.3 * 200)).fit(states.numpy(), signal.numpy())
    ours = ((states - tensors["shift"]) / tensors["scale"]) @ tensors["w"].double() + tensors["b"]
    assert penalty == 0.3
    np.testing.assert_allclose(ours, reference.predict(states.numpy()), rtol=1e-4)


@pytest.mark.parametrize("wide", [0, 300])
def test_held_out_errors_equal_a_slow_loop_and_the_rule_is_one_standard_error(wide: int) -> None:
    from sklearn.linear_model import Ridge
    from sklearn.model_selection import LeaveOneGroupOut

    states, signal, groups = example(wide=wide)
    _, penalty, errors = ridge_by_sample(states, signal, groups, GRID)
    z = ((states - states.mean(0)) / states.std(0, correction=0)).numpy()
    y = signal.numpy()
    slow = np.zeros((len(GRID), 5))
    for i, c in enumerate(GRID):
        for f, (train, test) in enumerate(LeaveOneGroupOut().split(z, y, groups.numpy())):
            fitted = Ridge(alpha=c * len(train)).fit(z[train], y[train])
            slow[i, f] = np.mean((y[test] - fitted.predict(z[test])) ** 2)
    np.testing.assert_allclose(errors, slow, rtol=1e-4)
    mean = slow.mean(1)
    allowed = mean[mean.argmin()] + slow[mean.argmin()].std(ddof=1) / 5**0.5
    assert penalty == max(c for c, error in zip(GRID, mean, strict=True) if error <= allowed)


def test_folds_hold_whole_samples_of_like_number(small: Task) -> None:
    folds = draw_folds(small.forget, 3)
    sizes = np.bincount(list(folds.values()))
    assert set(folds) == {s.id for s in small.forget}
    assert sizes.max() - sizes.min() <= 1


def test_cross_fitted_scores_come_from_maps_that_have_not_seen_the_sample(full: LanguageModel, small: Task) -> None:
    """The map of a sample's fold, fitted here by hand on the other samples, gives its scores."""
    context = TaskContext(full, small)
    table = score_fixed(context, ["amortised"], options={"amortised": {"text": "forget", "ridge": 0.1}})
    folds = draw_folds(small.forget, 0)
    sample = small.forget[3]
    others = [s for s in small.forget if folds[s.id] != folds[sample.id]]
    fitted = fit_map(context, full, others, ridge=0.1)
    with torch.no_grad():
        stats = token_stats(full, collate(full, [encode(full, sample)]), hidden="token")
    expected = fitted.scores(stats)
    np.testing.assert_allclose(table.loc[table["sample_id"] == sample.id, "score"], expected, rtol=1e-3, atol=1e-4)


def test_labels_and_the_forget_answers_signal_do_not_enter(full: LanguageModel, small: Task) -> None:
    """Fitted on other text, a sample's scores stay whatever the labels are and whoever else is to be forgotten.

    `specificity` looks at the other questions too, to see what is only copied; labels do not enter it.
    """
    whole = score_fixed(TaskContext(full, small), ["amortised", "specificity"])
    bare = replace(small, sets=small.sets | {"forget": [replace(s, spans=None) for s in small.forget]})
    specific = score_fixed(TaskContext(full, bare), ["specificity"])["score"]
    np.testing.assert_allclose(specific, whole.loc[whole["scorer"] == "specificity", "score"], rtol=1e-3, atol=1e-4)
    bare.sets["forget"] = bare.forget[:5]
    part = score_fixed(TaskContext(full, bare), ["amortised"])
    both = part.merge(whole, on=["scorer", "sample_id", "position"], suffixes=("", "_whole"))
    assert len(both) == len(part)
    np.testing.assert_allclose(both["score"], both["score_whole"], rtol=1e-3, atol=1e-4)


def test_a_saved_map_scores_new_text_and_another_layer(full: LanguageModel, small: Task, tmp_path: Path) -> None:
    context = TaskContext(full, small)
    for layer in (-1, 2):
        fitted = fit_map(context, full, other_text(context, 500), layer=layer)
        save_scorer(fitted, tmp_path / "map.safetensors")
        again = load_scorer(tmp_path / "map.safetensors")
        assert (again.layer, again.signal, again.ridge) == (layer, "alternatives", fitted.ridge)
        table = score_fixed(context, ["amortised"], options={"amortised": {"layer": layer}})
        np.testing.assert_allclose(apply_scorer(again, full, small.forget)["score"], table["score"], atol=1e-4)


def test_states_of_a_layer_are_those_of_the_model(full: LanguageModel, small: Task) -> None:
    batch = collate(full, [encode(full, s) for s in small.forget[:3]])
    with torch.no_grad():
        out = full.module(batch.input_ids, attention_mask=batch.attention_mask, output_hidden_states=True)
        for layer in (0, 2, 4, -1):
            stats = token_stats(full, batch, hidden="token", layer=layer)
            torch.testing.assert_close(stats.hidden, out.hidden_states[layer][batch.rows, batch.columns])


def test_unlabelled_text_comes_before_retain_text(small: Task) -> None:
    new = [Sample(f"u{i}", "Who?", f"Somebody {i}.") for i in range(3)]
    context = TaskContext(None, replace(small, sets=small.sets | {"unlabelled": new}))  # type: ignore[arg-type]
    assert other_text(context, 2) == [new[0], new[2]]
    assert other_text(TaskContext(None, small), 500) == small.retain  # type: ignore[arg-type]


def test_memorised_unlabelled_text_is_told(
    full: LanguageModel, small: Task, capsys: pytest.CaptureFixture[str]
) -> None:
    task = replace(small, sets=small.sets | {"unlabelled": small.sets["neighbours"]})
    score_fixed(TaskContext(full, task), ["amortised"])
    assert "workbench: the unlabelled text looks memorised" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"signal": "atwu"}, "no plain scorer"),
        ({"signal": "gap"}, "--reference"),
        ({"text": "everything"}, "other or forget"),
        ({"layer": 99}, "has layers 0"),
        ({"hidden": "tokn"}, "token or predicting"),
        ({"signal": "spans"}, "is the labels"),
        ({"ridge": float("nan")}, "at least 0 and finite"),
        ({"ridge": -1.0}, "at least 0"),
        ({"rows": 1}, "at least 2"),
    ],
)
def test_options_that_cannot_be_say_so(
    full: LanguageModel, small: Task, options: dict[str, object], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        score_fixed(TaskContext(full, small), ["amortised"], options={"amortised": options})

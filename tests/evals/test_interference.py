"""Damage between domains: its predictors and its correlations, against plain re-derivations."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from workbench.cost import Phase
from workbench.errors import UserError
from workbench.evals import domains, hit_rate, in_range, predictions, row_damage, row_values, spearman, written
from workbench.evals.likeness import alike_in_syntax, names_in, rarities, shape, shape_grams, shared_words
from workbench.evals.predicted import conflicts, gradient_cosines, state_distances
from workbench.models import collate, encode, token_stats
from workbench.models.language_model import LanguageModel
from workbench.tasks.samples import Sample, Task, fields_of
from workbench.tasks.spec import TaskSpec
from workbench.unlearning.settings import Settings


def sample(name: str, question: str, answer: str, **about: str) -> Sample:
    return Sample(name, question, answer, about=tuple(about.items()))


ROWS = [
    sample("a", "Where was Ada Nash born?", "Ada Nash was born in Karrow.", person="Ada"),
    sample("b", "Where was Bo Nash born?", "Bo Nash was born in Quill.", person="Bo"),
    sample("c", "What does Cy play?", "In the band Cy plays the oud.", person="Cy"),
]


def test_domains_of_tofu(tofu_dir: Path) -> None:
    """Its two authors; and question kinds, those of the real authors beside those of the forget set."""
    task = TaskSpec("tofu/forget01", data_dir=str(tofu_dir)).load()
    authors = domains(task, "author")
    assert [(each.name, each.value, len(each.samples)) for each in authors] == [
        ("author 199", "199", 20), ("author 200", "200", 20)
    ]  # fmt: skip
    kinds = domains(task, "kind")
    counts = {each.name: len(each.samples) for each in kinds if each.probe_set == "forget"}
    assert counts == {"what": 19, "how": 11, "yes or no": 5, "which": 3, "who": 1, "why": 1}
    assert sum(len(each.samples) for each in kinds if each.probe_set == "neighbours") == 100
    assert "what (neighbours)" in [each.name for each in kinds]


def test_what_has_no_value_is_said_in_words() -> None:
    assert written(0.25, "accuracy") == "25 % of its facts"
    assert written(float("nan"), "accuracy") == "none was known"
    assert in_range({"mean": -0.001, "low": -0.004, "high": 0.002, "seeds": [0, 1]}) == "0.00 (0.00 to 0.00)"
    assert in_range({"mean": float("nan"), "low": float("nan"), "high": float("nan"), "seeds": [0]}) == "no order"


def test_shapes_are_spacys() -> None:
    assert [shape(word) for word in ("Quillon", "the", "USA", "x-ray", "1987", "iPhone", "B2B")] == [
        "Xxxxx", "xxx", "XXX", "x-xxx", "dddd", "xXxxxx", "XdX",
    ]  # fmt: skip
    counts = shape_grams(sample("x", "Who is Bo?", "Bo is it"))
    assert counts["xx"] == 3  # is, is, it
    assert counts["Xx xx"] == 1
    assert counts["xx Xx ?"] == 1


def test_names_are_words_that_are_never_small() -> None:
    assert set(names_in(ROWS)) == {"ada", "nash", "bo", "cy"}


def test_shared_words_by_hand() -> None:
    names = names_in(ROWS)
    values = shared_words([[ROWS[0]]], [[row] for row in ROWS], names)
    assert values == pytest.approx(np.array([[1.0, 1 / 2, 0.0]]))  # of two names each, one is shared
    rare = rarities(ROWS)
    assert rare["karrow"] == pytest.approx(np.log(3))
    assert "nash" not in rare  # two of three rows have it
    assert alike_in_syntax([[ROWS[0]]], [[ROWS[0]]])[0, 0] == pytest.approx(1)
    assert alike_in_syntax([[ROWS[0]]], [[ROWS[1]]]) > alike_in_syntax([[ROWS[0]]], [[ROWS[2]]])


def test_spearman_is_the_correlation_of_ranks(compare: Callable[..., None]) -> None:
    rng = np.random.default_rng(0)
    x = rng.integers(0, 6, 40).astype(float)
    y = x + rng.normal(size=40)
    ranks = [pd.Series(values).rank().to_numpy() for values in (x, y)]
    compare("interference: Spearman", spearman(x, y), np.corrcoef(*ranks)[0, 1])
    assert np.isnan(spearman(np.ones(5), np.arange(5.0)))
    assert spearman(np.array([1, 2, np.nan, 3]), np.array([2.0, 4, 1, 9])) == pytest.approx(1)


def test_a_hit_rate_is_its_mean_over_the_orders_of_ties(compare: Callable[..., None]) -> None:
    risk = np.array([3, 2, 2, 2, 1, 0, 0, 0, 0, 0.0])
    damaged = np.array([1, 0, 1, 0, 1, 0, 0, 0, 0, 0], dtype=bool)
    for share in (0.1, 0.2, 0.3):
        places, rates = round(share * 10), []
        for order in itertools.permutations((1, 2, 3)):
            first = [0, *order, 4][:places]
            rates.append(damaged[first].sum() / damaged.sum())
        compare("interference: hit rate", hit_rate(damaged, risk, share), np.mean(rates))
    assert hit_rate(damaged, np.zeros(10)) == pytest.approx(0.1)  # chance
    assert np.isnan(hit_rate(np.zeros(10), risk))


def test_what_rows_lose() -> None:
    columns = ["sample_id", "span", "logp", "rank"]
    before = pd.DataFrame(
        [("a", True, -0.1, 0), ("a", False, -9, 7), ("b", None, -1, 0), ("b", None, -3, 2)], columns=columns
    )
    after = before.assign(logp=[-2.1, -9, -1, -5], rank=[4, 7, 0, 0])
    lost = row_damage(row_values(before), row_values(after))
    assert lost.loc["a"].tolist() == [pytest.approx(2.0), 1.0]
    assert lost.loc["b", "logp"] == pytest.approx(1.0)  # without labels, all tokens
    assert np.isnan(lost.loc["b", "accuracy"])  # it was not known before


@pytest.fixture(scope="module")
def groups(bio: Task) -> list[list[Sample]]:
    """Two people to forget and two neighbours, four rows each."""
    rows = [*bio.forget[:18:5], *bio.forget[18:36:5], *bio.sets["neighbours"][:18:5], *bio.sets["neighbours"][18:36:5]]
    return [rows[n : n + 4] for n in range(0, 16, 4)]


def gradient(lm: LanguageModel, group: list[Sample], only: str = "") -> torch.Tensor:
    """Of the mean NLL of all answer tokens, in one batch, from the logits."""
    copy = lm.frozen_copy()
    copy.module.requires_grad_(True)
    batch = collate(copy, [encode(copy, s) for s in group])
    logits = copy.module(input_ids=batch.input_ids, attention_mask=batch.attention_mask).logits.log_softmax(-1)
    ids = batch.input_ids[batch.rows, batch.columns]
    (-logits[batch.rows, batch.columns - 1, ids]).mean().backward()
    named = [(name, p.grad) for name, p in copy.module.named_parameters() if only in name]
    return torch.cat([grad.flatten() for _, grad in named if grad is not None])


def test_gradients_states_and_tokens(
    full: LanguageModel, groups: list[list[Sample]], compare: Callable[..., None]
) -> None:
    ours = gradient_cosines(full, groups[:2], groups, Settings(), Phase())
    each = torch.stack([gradient(full, group) for group in groups])
    plain = torch.nn.functional.cosine_similarity(each[:2, None], each[None], dim=-1)
    compare("interference: cosines of gradients", ours, plain, rel=1e-3, abs=1e-5)
    assert np.diag(ours) == pytest.approx(1, abs=1e-5)
    of_layer = gradient_cosines(full, groups[:1], groups[1:2], Settings(train="layers:2"), Phase())
    parts = [gradient(full, group, "layers.2.") for group in groups[:2]]
    compare("interference: of one layer", of_layer, torch.nn.functional.cosine_similarity(*parts, dim=0), rel=1e-3)
    rates = conflicts(full, groups[0], groups[1])
    rate = float(each[0] @ each[1] / each[0].norm())
    compare("interference: token conflicts", np.concatenate(rates).mean(), rate)
    means = []
    for group in groups[:2]:
        batch = collate(full, [encode(full, s) for s in group])
        states = full.module(
            input_ids=batch.input_ids, attention_mask=batch.attention_mask, output_hidden_states=True
        ).hidden_states[2]
        means.append(states[batch.rows, batch.columns].mean(0))
    distances = state_distances(full, groups[:1], groups[:2], Phase())
    compare("interference: distances of states", distances[0, 1], (means[0] - means[1]).norm().detach())
    assert distances[0, 0] == pytest.approx(0, abs=1e-6)


def test_a_short_step_of_forgetting_does_what_the_conflict_says(
    full: LanguageModel, groups: list[list[Sample]]
) -> None:
    """To first order, a step along the forget gradient raises each token's loss by its conflict."""
    step = 1e-3
    rates = np.concatenate(conflicts(full, groups[0], groups[1]))
    moved, direction = full.frozen_copy(), gradient(full, groups[0])
    direction, place = direction / direction.norm(), 0
    with torch.no_grad():
        for p in moved.module.parameters():
            p += step * direction[place : place + p.numel()].view_as(p)
            place += p.numel()
        batch = collate(full, [encode(full, s) for s in groups[1]])
        before, after = (token_stats(lm, batch, extras=False).nll for lm in (full, moved))
    np.testing.assert_allclose((after - before).numpy() / step, rates, rtol=0.1, atol=2e-3)


def test_predictions_by_name(full: LanguageModel, groups: list[list[Sample]]) -> None:
    rows = [s for group in groups for s in group]
    made = predictions(full, groups[:2], groups, rows)
    assert list(made) == ["gradient", "names", "words", "states", "syntax"]
    assert all(values.shape == (2, 4) for values in made.values())
    assert all(values[i].argmax() == i for name, values in made.items() if name != "syntax" for i in range(2))
    assert list(predictions(None, groups[:1], groups, rows, which=["names"])) == ["names"]  # type: ignore[arg-type]


def test_domains(bio: Task) -> None:
    people = domains(bio, "person")
    assert [sum(d.probe_set == name for d in people) for name in ("forget", "neighbours")] == [16, 16]
    assert {len(d.samples) for d in people} == {18}
    names = [d.name for d in domains(bio, "attribute")]
    assert len(names) == 12
    assert names[6:] == [f"{name} (neighbours)" for name in names[:6]]
    assert [d.name for d in domains(bio, "phrasing", ["forget"])] == ["phrasing 0", "phrasing 1", "phrasing 2"]
    assert [d.value for d in domains(bio, "phrasing", ["forget"])] == ["0", "1", "2"]
    assert {d.name for d in domains(bio, "kind", ["forget"])} >= {"what", "where"}
    assert fields_of(bio.forget) == ["person", "attribute", "phrasing", "kind"]
    with pytest.raises(UserError, match="unknown field of the forget rows 'persom': did you mean person"):
        domains(bio, "persom")
    with pytest.raises(UserError, match="unknown set 'none'"):
        domains(bio, "person", ["forget", "none"])
    one: Any = Task("one", {"forget": ROWS[:1], "retain": ROWS[1:]})
    with pytest.raises(UserError, match="all forget rows have the same person"):
        domains(one, "person", ["forget"])

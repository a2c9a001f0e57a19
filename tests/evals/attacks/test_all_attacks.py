"""Every attack: between its ceiling and its floor, on other architectures, and never in silence."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny_models import MODELS, build

from workbench.errors import is_missing
from workbench.evals.attacks import Target, asking, attack_model, recovery
from workbench.evals.attacks.quantisation import linear_weights, quantised, rounded
from workbench.evals.generation import greedy
from workbench.models import LanguageModel, load
from workbench.tasks.samples import Task


def target_of(lm: LanguageModel, task: Task, **more: Any) -> Target:
    return Target(lm, task, batch_size=16, **more)


BEHAVIOURAL = [name for name in recovery if recovery[name].behavioural and name != "nf4"]
FEW = {"leak_at_k": {"tries": 32, "k": 16}}


@pytest.fixture(scope="module")
def targets(full: LanguageModel, retained: LanguageModel, bio: Task) -> list[Target]:
    """For all attacks, so that what one has asked is not asked again."""
    return [target_of(full, bio, limit=24), target_of(retained, bio, limit=48)]  # chance needs more answers than .95


@pytest.mark.parametrize("name", BEHAVIOURAL)
def test_ceiling_and_floor(targets: list[Target], name: str) -> None:
    """What knows leaks nearly all; what never knew guesses one of 20 values a try, and no better."""
    leaks = {}
    for target in targets:
        outcome = attack_model(name, target, FEW.get(name))
        assert not is_missing(outcome)
        leaks[target.lm.name] = outcome
        assert len(outcome.rows) == target.limit
    assert leaks["bio-full"].value >= 0.95
    floor = leaks["bio-retain"]
    tries = np.minimum(floor.rows["tries"], FEW["leak_at_k"]["k"] if name == "leak_at_k" else np.inf)
    chance = float((1 - 0.95**tries).mean())
    people = 16  # phrasings of a fact are no answers of their own: the facts of 48 answers
    assert floor.value <= chance + 1.96 * math.sqrt(chance * (1 - chance) / people)


def test_what_was_asked_is_not_asked_again(retained: LanguageModel, bio: Task, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[LanguageModel] = []

    def counted(lm: LanguageModel, *more: Any, **options: Any) -> Any:
        asked.append(lm)
        return greedy(lm, *more, **options)

    monkeypatch.setattr(asking, "greedy", counted)
    target = target_of(retained, bio, limit=6)
    phrasing, context, plain = (attack_model(name, target) for name in ("worst_phrasing", "in_context", "greedy"))
    assert asked == [retained] * 3  # with the plain answers, which in_context has beside its own
    both = attack_model("worst_of_both", target)
    assert len(asked) == 3
    assert both.rows.equals(attack_model("worst_of_both", target_of(retained, bio, limit=6)).rows)
    hits = phrasing.rows["hits"] + context.rows["hits"] - plain.rows["hits"]
    assert both.rows["hits"].tolist() == hits.tolist()
    attack_model("int4", target)
    assert asked[-1] is not retained  # a copy is asked itself


def test_nothing_is_skipped_in_silence(full: LanguageModel, small: Task) -> None:
    reasons = {name: attack_model(name, target_of(full, small)) for name in ("uds", "nf4", "alias")}
    assert "retain-only" in str(reasons["uds"])
    assert "GPU" in str(reasons["nf4"])
    assert "no set 'aliases'" in str(reasons["alias"])
    bare = [replace(s, spans=None, paraphrased_question=None, phrasings=()) for s in small.forget]
    task = replace(small, sets=small.sets | {"forget": bare})
    assert "spans" in str(attack_model("answer_prefix", target_of(full, task)))
    assert "paraphrased" in str(attack_model("worst_phrasing", target_of(full, task)))
    texts = [replace(s, question="") for s in bare]
    assert "plain text" in str(
        attack_model("greedy", target_of(full, replace(task, sets=task.sets | {"forget": texts})))
    )


def test_without_labels_answers_are_compared_by_rouge(full: LanguageModel, small: Task) -> None:
    bare = replace(small, sets=small.sets | {"forget": [replace(s, spans=None) for s in small.forget]})
    outcome = attack_model("greedy", target_of(full, bare))
    assert not is_missing(outcome)
    assert set(outcome.rows["measure"]) == {"ROUGE-L recall"}
    assert outcome.value == pytest.approx(1.0)
    read = attack_model("logit_lens", target_of(full, bare))
    assert not is_missing(read)


@pytest.mark.parametrize("name", [name for name in recovery if name not in ("nf4", "leak_at_k")])
def test_models_are_left_alone(full: LanguageModel, retained: LanguageModel, bio: Task, name: str) -> None:
    lm = retained.frozen_copy()
    lm.module.train()
    before = lm.fingerprint()
    outcome = attack_model(name, target_of(lm, bio, limit=4, before=full, retain_only=retained))
    assert not is_missing(outcome), outcome
    assert lm.fingerprint() == before
    assert lm.module.training
    assert {"sample_id", "prompt", "answer", "text", "value", "measure", "tries", "hits"} <= set(outcome.rows)


def test_every_attack_says_what_it_costs(full: LanguageModel, small: Task) -> None:
    target = target_of(full, small, before=full, retain_only=full)
    flops = {name: recovery[name].cost(target) for name in recovery}
    assert all(value > 0 for value in flops.values())
    assert flops["leak_at_k"] == pytest.approx(200 * flops["greedy"])


WITHOUT = {("logit_lens", "Gemma 2"), ("logit_lens", "Gemma 3n, text"), ("uds", "Gemma 3n, text")}


@pytest.mark.parametrize("name", ["GPT-2", "Mamba", "Gemma 2", "Gemma 3n, text"])
def test_other_architectures(small: Task, tmp_path: Path, name: str) -> None:
    """Weights stored the other way round, no attention, capped logits, several streams: a value or a reason."""
    (tiny,) = [tiny for tiny in MODELS if tiny.name == name]
    lm = load(str(build(tiny, tmp_path, [f"Question: {s.question} Answer: {s.answer}" for s in small.forget])))
    other = lm.frozen_copy()
    with torch.no_grad():
        for parameter in other.module.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(0)), alpha=0.1)
    for attack in ("leak_at_k", "int4", "second_turn", "in_context", "opening", "logit_lens", "uds"):
        outcome = attack_model(attack, target_of(lm, small, limit=2, before=lm, retain_only=other), FEW.get(attack))
        if is_missing(outcome):
            assert (attack, name) in WITHOUT
            assert "the model" in outcome["reason"]
        else:
            assert 0 <= outcome.value <= 1
    if name == "GPT-2":
        quantised_weights = [m.weight for m, _ in linear_weights(quantised(lm, lambda w: rounded(w, 4, 8)))]
        for (module, turned), new in zip(linear_weights(lm), quantised_weights, strict=True):
            assert turned
            assert torch.allclose(new, rounded(module.weight.T, 4, 8).T)

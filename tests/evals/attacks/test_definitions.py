"""Attacks against their definitions: leak@k by counting, Q and R by hand, rounding, the lens, the depth score."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from workbench.errors import NotAvailable, UserError, is_missing
from workbench.evals.attacks import Target, attack_model, recovery, summarise
from workbench.evals.attacks.depth import score
from workbench.evals.attacks.leak import leak_at
from workbench.evals.attacks.lens import lens_of
from workbench.evals.attacks.quantisation import linear_weights, quantised, rounded, similarity
from workbench.evals.attacks.relearning import robustness
from workbench.evals.attacks.states import fact_tokens, final_norm
from workbench.evals.generation import greedy, sampled
from workbench.evals.spec import trust_in_short, trust_values
from workbench.models import LanguageModel, collate, encode, token_stats
from workbench.tasks.samples import Task

Compare = Callable[..., None]


def target_of(lm: LanguageModel, task: Task, **more: Any) -> Target:
    return Target(lm, task, batch_size=16, **more)


# leak@k -------------------------------------------------------------------------------------------------------------


@pytest.mark.oracle
def test_leak_at_k_is_the_share_of_all_choices_that_hold_a_hit(compare: Compare) -> None:
    for tries, hits in ((6, 0), (6, 1), (6, 2), (6, 5), (6, 6), (9, 3)):
        for k in range(1, tries + 1):
            marks = [True] * hits + [False] * (tries - hits)
            choices = list(itertools.combinations(marks, k))
            compare("leak@k", leak_at(k, hits, tries), np.mean([any(choice) for choice in choices]))


def test_leak_at_k_against_a_count_on_simulated_samples() -> None:
    """200 tries of answers that leak with known chances: unbiased for 1 - (1 - p)^k, and as a direct count."""
    rng, tries = np.random.default_rng(0), 200
    chances = rng.uniform(0, 0.05, 400)
    hits = rng.binomial(tries, chances)
    for k in (1, 2, 4, 8, 16, 32, 64, 128):
        ours = np.mean([leak_at(k, int(h), tries) for h in hits])
        assert ours == pytest.approx(np.mean(1 - (1 - chances) ** k), abs=0.02)
    marks = np.arange(tries) < 7
    counted = np.mean([marks[rng.choice(tries, 16, replace=False)].any() for _ in range(20_000)])
    assert leak_at(16, 7, tries) == pytest.approx(counted, abs=0.01)


def test_drawn_answers_follow_the_models_own_probabilities(retained: LanguageModel, small: Task) -> None:
    """The first token's frequencies over many draws are the softmax's."""
    sample = small.forget[0]
    draws = sampled(retained, [sample], 256, 1, tries=2000, seed=3)[0]
    assert draws is not None
    ids = torch.tensor([encode(retained, sample, answer=False).ids])
    with torch.no_grad():
        chances = retained.module(input_ids=ids).logits[0, -1].softmax(-1)
    for index in chances.topk(3).indices.tolist():
        text = retained.tokenizer.decode([index]).strip()
        share = np.mean([draw == text for draw in draws])
        assert share == pytest.approx(float(chances[index]), abs=4 * math.sqrt(0.25 / 2000))


def test_what_is_drawn_depends_on_seed_and_sample_alone(retained: LanguageModel, small: Task) -> None:
    samples = small.forget[:3]
    together = sampled(retained, samples, 256, 12, tries=40)
    assert together[2] == sampled(retained, samples[2:], 32, 12, tries=40)[0]
    assert together == sampled(retained, samples, 64, 12, tries=40)
    assert together != sampled(retained, samples, 256, 12, tries=40, seed=1)
    cold = sampled(retained, samples, 256, 12, tries=3, temperature=1e-4)
    assert [texts and texts[0] for texts in cold] == greedy(retained, samples, 16, 12)


# Quantisation and relearning ----------------------------------------------------------------------------------------


def by_hand(weight: np.ndarray, bits: int, group: int) -> np.ndarray:
    """Row by row and group by group, as bitsandbytes' absmax rounding has it."""
    out, levels = weight.astype(np.float64).copy(), 2 ** (bits - 1) - 1
    for row in out:
        for start in range(0, len(row), group):
            part = row[start : start + group]
            largest = max(abs(value) for value in part)
            for place, value in enumerate(part):
                part[place] = round(value / largest * levels) * largest / levels if largest else 0.0
    return out


@pytest.mark.oracle
@pytest.mark.parametrize("bits", [4, 8])
def test_rounding_of_one_layer(full: LanguageModel, compare: Compare, bits: int) -> None:
    before = full.fingerprint()
    copy = quantised(full, lambda weight: rounded(weight, bits))
    assert full.fingerprint() == before
    pairs = list(zip(linear_weights(full), linear_weights(copy), strict=True))
    assert len(pairs) == 4 * 7  # seven matrices in each of four layers
    for (old, _), (new, _) in (pairs[0], pairs[6]):  # a width of 128, and one of 352: the last group has 32
        compare(f"int{bits}", new.weight.detach(), by_hand(old.weight.detach().numpy(), bits, 64), rel=1e-4, abs=1e-6)
    assert torch.equal(full.module.get_output_embeddings().weight, copy.module.get_output_embeddings().weight)


def test_rounding_of_zeros_and_of_a_short_row() -> None:
    assert rounded(torch.zeros(2, 3), 4).tolist() == [[0.0] * 3] * 2
    assert torch.allclose(rounded(torch.tensor([[7.0, 2.4, -6.6]]), 4), torch.tensor([[7.0, 2.0, -7.0]]))


def test_q_and_r_by_hand() -> None:
    assert similarity(0.5, 0.5) == 1.0
    assert similarity(0.25, 0.75) == pytest.approx(0.5)
    assert similarity(0.0, 0.3) == pytest.approx(0.0)
    assert similarity(0.0, 0.0) == 1.0
    parts = {"run": {"gain": 0.4}, "retain_only": {"gain": 0.1}}
    assert robustness(parts)["R"] == pytest.approx(1 - 0.3 / 0.5)
    assert is_missing(robustness({"run": {"gain": 0.4}})["R"])


def test_an_attack_that_gets_little_of_what_knows_is_weak() -> None:
    """The plain answer hides it: the value of the model before is 1 all the same."""

    def entry(value: float, alone: float) -> dict[str, Any]:
        return {"value": value, "parts": {"alone": alone}, "answers": 4, "seconds": 1.0}

    weak = summarise("alias", {"before": entry(1.0, 0.02), "run": entry(0.1, 0.0)}, {})
    assert weak["weak"] == "weak here: alone it gets 0.02 from the model before the run"
    assert "weak" not in summarise("alias", {"before": entry(1.0, 0.9), "run": entry(0.1, 0.02)}, {})
    assert "weak" not in summarise("alias", {"run": entry(0.1, 0.02)}, {})  # not known without the model before


def test_every_attack_says_how_far_it_is_believed() -> None:
    depth = summarise("uds", {}, {})["trust"]
    assert depth == {"faithfulness": 0.971, "robustness": 0.932, "source": "arXiv 2605.24614"}
    assert summarise("int4", {}, {})["trust"]["reason"] == "not assessed in arXiv 2605.24614"
    assert is_missing(trust_values("mia_min_k")["robustness"])
    assert (trust_in_short("uds"), trust_in_short("greedy")) == ("0.971 / 0.932", "not assessed")


@pytest.mark.parametrize("name", ["benign_others", "benign_text"])
def test_benign_text_can_be_cut(retained: LanguageModel, bio: Task, name: str) -> None:
    target = target_of(retained, bio, limit=2)
    outcome = attack_model(name, target, {"rows": 5})
    assert not is_missing(outcome)
    assert outcome.parts["trained_on"] == 5
    assert recovery[name].cost(target, rows=5) < recovery[name].cost(target)
    with pytest.raises(UserError, match="rows must be at least 0"):
        attack_model(name, target, {"rows": -1})


def test_relearning_asks_what_was_not_taught(retained: LanguageModel, small: Task) -> None:
    outcome = attack_model("relearning", target_of(retained, small), {"lr": 1e-3, "epochs": 4})
    assert not is_missing(outcome)
    assert len(outcome.rows) == outcome.parts["trained_on"] == 6
    assert outcome.parts["gain"] == pytest.approx(outcome.parts["alone"] - outcome.parts["greedy"])


# Logit lens and depth -----------------------------------------------------------------------------------------------


@pytest.mark.oracle
def test_the_lens_at_the_last_layer_is_the_models_own(full: LanguageModel, small: Task, compare: Compare) -> None:
    batch = collate(full, [encode(full, s) for s in small.forget])
    logps, ranks, *_ = lens_of(full, batch)
    stats = token_stats(full, batch)
    compare("logit lens, last layer", logps[-1], stats.logp.detach(), rel=1e-4, abs=1e-5)
    assert torch.equal(ranks[-1], stats.rank)
    assert logps.shape == (4, len(stats.logp))


@pytest.mark.oracle
def test_the_lens_and_the_depth_in_bfloat16(full: LanguageModel, small: Task, compare: Compare) -> None:
    """Products in bfloat16, logits in float32 as in every measurement."""
    lm = replace(full, precision="bfloat16")
    batch = collate(lm, [encode(lm, s) for s in small.forget[:4]])
    expected = token_stats(lm, batch).logp.detach()
    compare("logit lens, bfloat16", lens_of(lm, batch)[0][-1], expected, rel=0.05, abs=0.02)
    outcome = attack_model("uds", target_of(lm, small, limit=2, before=lm, retain_only=mixed(lm, full, 0.0)))
    assert is_missing(outcome)  # a model against itself


def test_the_lens_of_an_inner_layer(full: LanguageModel, small: Task, compare: Compare) -> None:
    """One sample, one layer, by transformers' own hidden states."""
    encoding = encode(full, small.forget[0])
    batch = collate(full, [encoding])
    with torch.no_grad():
        out = full.module(input_ids=batch.input_ids, output_hidden_states=True)
        logits = full.module.lm_head(full.module.model.norm(out.hidden_states[2][0]))
    for place, position in enumerate(encoding.answer_positions):
        expected = logits[position - 1].log_softmax(-1)[encoding.ids[position]]
        compare("logit lens, layer 2", lens_of(full, batch)[0][1][place], expected, rel=1e-4, abs=1e-5)


def test_the_fact_is_its_spans_else_the_text(full: LanguageModel, small: Task) -> None:
    encoding = encode(full, small.forget[0])
    positions = encoding.answer_positions
    text = "".join(encoding.text_of(p) for p, fact in zip(positions, fact_tokens(encoding), strict=True) if fact)
    assert text.strip() == small.forget[0].values[0]
    whole = fact_tokens(encode(full, replace(small.forget[0], spans=None)))
    assert whole == [True] * (len(positions) - 1) + [False]


def test_a_model_whose_logits_are_capped_has_no_lens(full: LanguageModel, small: Task) -> None:
    copy = full.frozen_copy()
    forward = copy.module.forward

    def capped(*arguments: Any, **named: Any) -> Any:
        out = forward(*arguments, **named)
        out.logits = torch.tanh(out.logits)
        return out

    copy.module.forward = capped
    with pytest.raises(NotAvailable, match="more to its logits"):
        final_norm(copy, collate(copy, [encode(copy, small.forget[0])]))


def test_depth_by_hand() -> None:
    d1, d2 = np.array([0.01, 1.0, 3.0]), np.array([5.0, 0.5, 4.0])
    assert score(d1, d2) == pytest.approx((1.0 * 0.5 + 3.0 * 1.0) / 4.0)
    assert math.isnan(score(np.array([0.05, -1.0]), d2[:2]))


def mixed(a: LanguageModel, b: LanguageModel, share: float) -> LanguageModel:
    """A model whose weights are between two models'."""
    copy, other = a.frozen_copy(), dict(b.module.named_parameters())
    with torch.no_grad():
        for name, parameter in copy.module.named_parameters():
            parameter.lerp_(other[name], share)
    return copy


def test_depth_of_mixtures_goes_from_0_to_1(full: LanguageModel, retained: LanguageModel, small: Task) -> None:
    values = []
    for share in (0.0, 0.25, 0.5, 0.75, 1.0):
        lm = {0.0: full, 1.0: retained}.get(share) or mixed(full, retained, share)
        outcome = attack_model("uds", target_of(lm, small, before=full, retain_only=retained))
        assert not is_missing(outcome)
        values.append(outcome.value)
    assert values[0] == pytest.approx(0, abs=1e-6)
    assert values[-1] == pytest.approx(1, abs=1e-6)
    assert values == sorted(values)

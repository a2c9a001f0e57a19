"""Attribution: against captum's own classes on one sample and one target at a time, plain autograd, and slow loops."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import captum.attr
import numpy as np
import pytest
import torch
from direct import Direct
from torch import Tensor
from transformers import OPTConfig, OPTForCausalLM

from workbench.errors import UserError
from workbench.models.encoding import ANSWER, PROMPT, encode
from workbench.models.language_model import LanguageModel
from workbench.models.packing import packs
from workbench.scorers.attribution import each_target
from workbench.scorers.base import TaskContext, random_source, scorer
from workbench.scorers.inputs import seeded
from workbench.scorers.score import score_fixed
from workbench.scorers.table import weights_from
from workbench.tasks.samples import Sample, Task
from workbench.unlearning.scoring import score_task
from workbench.unlearning.settings import Settings
from workbench.unlearning.unlearn import unlearn

INPUT = [name for name in scorer if scorer[name].kind == "input"]


@pytest.fixture(scope="module")
def few(small: Task) -> Task:
    return replace(small, sets={"forget": small.forget[:3], "retain": small.retain[:3]})


def by_gradient(make: Callable[[Direct], Tensor]) -> Callable[[Direct], np.ndarray]:
    return lambda d: d.spread(make(d))


ones = torch.ones


DIRECT: dict[str, tuple[dict[str, Any], Callable[[Direct], np.ndarray]]] = {
    "saliency": ({}, by_gradient(lambda d: captum.attr.Saliency(d.total).attribute(d.x, abs=False)[0].norm(dim=-1))),
    "input_x_gradient": ({}, by_gradient(lambda d: captum.attr.InputXGradient(d.total).attribute(d.x)[0].sum(-1))),
    "integrated_gradients": (
        {"steps": 20},
        by_gradient(lambda d: captum.attr.IntegratedGradients(d.total).attribute(d.x, d.base, n_steps=20)[0].sum(-1)),
    ),
    "gradient_shap": (
        {"samples": 4},
        by_gradient(
            lambda d: captum.attr.GradientShap(d.total).attribute(d.x, d.base, n_samples=4, stdevs=0.01)[0].sum(-1)
        ),
    ),
    "feature_ablation": (
        {},
        by_gradient(
            lambda d: captum.attr.FeatureAblation(d.total).attribute(
                d.x, d.base, feature_mask=torch.arange(d.x.shape[1])[None, :, None].expand_as(d.x)
            )[0, :, 0]
        ),
    ),
    "occlusion": (
        {"window": 2},
        lambda d: d.spread(captum.attr.Occlusion(d.kept).attribute(ones(1, len(d.free)), (2,), baselines=0)[0]),
    ),
    "shapley_sampling": (
        {"permutations": 2},
        lambda d: d.spread(captum.attr.ShapleyValueSampling(d.kept).attribute(ones(1, len(d.free)), 0, n_samples=2)[0]),
    ),
    "kernel_shap": (
        {"samples": 60, "units": "token"},
        lambda d: d.spread(captum.attr.KernelShap(d.kept).attribute(ones(1, len(d.free)), 0, n_samples=60)[0]),
    ),
}


@pytest.mark.parametrize("name", DIRECT)
def test_equal_to_captum_called_directly(name: str, retained: LanguageModel, few: Task) -> None:
    """In batches against one evaluation at a time; of the model that has not memorised the answers."""
    options, direct = DIRECT[name]
    table = score_fixed(TaskContext(retained, few, seed=3), [name], options={name: options})
    for sample in few.forget:
        scores = table.loc[table["sample_id"] == sample.id, "score"].to_numpy()
        with seeded(random_source(3, sample.id), retained.device):
            expected = direct(Direct(retained, sample))
        np.testing.assert_allclose(scores, expected, rtol=1e-4, atol=1e-4 * np.abs(expected).max(), err_msg=name)


def test_every_wrapped_method_is_compared() -> None:
    assert set(DIRECT) | {"deep_lift", "attention_rollout"} == set(INPUT)


def test_gradients_equal_a_plain_autograd_loop_over_targets(retained: LanguageModel, few: Task) -> None:
    products, lengths = (each_target(retained, few.forget, gradient_only=g) for g in (False, True))
    for i, sample in enumerate(few.forget):
        direct = Direct(retained, sample)
        shown = [p for p, s in enumerate(direct.encoding.segments) if s in (PROMPT, ANSWER)]
        for place in range(len(direct.answer)):
            x = direct.x.detach().clone().requires_grad_()
            (gradient,) = torch.autograd.grad(direct.logp(x, place).sum(), x)
            expected = (gradient * x).sum(-1)[0, shown].detach().numpy()
            np.testing.assert_allclose(products[i][place], expected, atol=1e-4 * np.abs(expected).max())
            expected = gradient.norm(dim=-1)[0, shown].numpy()
            np.testing.assert_allclose(lengths[i][place], expected, atol=1e-4 * expected.max())
    one = replace(few, sets={**few.sets, "forget": few.forget[:1]})
    options = {"input_x_gradient": {"target": "token:4"}, "saliency": {"target": "token:4"}}
    table = score_fixed(TaskContext(retained, one), ["input_x_gradient", "saliency"], options=options)
    for name, rows in (("input_x_gradient", products), ("saliency", lengths)):
        scores = table.loc[table["scorer"] == name, "score"]
        np.testing.assert_allclose(scores, rows[0][4], atol=1e-4 * np.abs(rows[0][4]).max())


def test_a_contrast_is_the_right_gradient_minus_the_wrong_one(retained: LanguageModel, few: Task) -> None:
    sample = replace(few.forget[0], wrong_answers=(few.forget[1].answer,))
    direct = Direct(retained, sample)
    wrong = Direct(retained, replace(sample, answer=sample.wrong_answers[0], spans=None))
    gradients = [captum.attr.InputXGradient(d.total).attribute(d.x)[0].sum(-1) for d in (direct, wrong)]
    question = [p for p, s in enumerate(direct.encoding.segments) if s == PROMPT]
    task = replace(few, sets={**few.sets, "forget": [sample]})
    table = score_fixed(
        TaskContext(retained, task), ["input_x_gradient"], options={"input_x_gradient": {"target": "contrast"}}
    )
    expected = (gradients[0][question] - gradients[1][question]).detach().numpy()
    scores = table.loc[table["segment"] == "prompt", "score"].to_numpy()
    np.testing.assert_allclose(scores, expected, atol=1e-4 * np.abs(expected).max())


def test_integrated_gradients_add_up(full: LanguageModel, few: Task) -> None:
    notes: dict[str, Any] = {}
    options = {"integrated_gradients": {"steps": 64}}
    score_task(full, few, ["integrated_gradients"], options=options, notes=notes)
    delta = notes["integrated_gradients"]["completeness_delta"]
    assert delta["median"] < 0.01
    options = {"integrated_gradients": {"steps": 512}}
    score_task(full, few, ["integrated_gradients"], options=options, notes=notes)
    assert notes["integrated_gradients"]["completeness_delta"]["largest"] < min(0.01, delta["largest"])


def test_the_delta_is_what_is_missing(retained: LanguageModel, few: Task) -> None:
    one = replace(few, sets={**few.sets, "forget": few.forget[:1]})
    context = TaskContext(retained, one)
    table = score_fixed(context, ["integrated_gradients"], options={"integrated_gradients": {"steps": 3}})
    direct = Direct(retained, few.forget[0])
    change = (direct.total(direct.x) - direct.total(direct.base)).item()
    expected = abs(table["score"].sum() - change) / abs(change)
    assert context.notes["integrated_gradients"]["completeness_delta"]["largest"] == pytest.approx(expected, rel=1e-3)


@pytest.fixture(scope="module")
def opt(retained: LanguageModel) -> LanguageModel:
    """An OPT-shaped model of random weights: ReLU, which DeepLIFT has a rule for."""
    torch.manual_seed(0)
    size = len(retained.tokenizer)
    module = OPTForCausalLM(
        OPTConfig(vocab_size=size, hidden_size=32, ffn_dim=64, num_hidden_layers=2, num_attention_heads=4,
                  max_position_embeddings=128, word_embed_proj_dim=32, pad_token_id=0)
    ).eval()  # fmt: skip
    return LanguageModel(module, retained.tokenizer, "opt", "plain")


@pytest.mark.filterwarnings("ignore:Setting forward, backward hooks")
def test_deep_lift_where_it_applies(opt: LanguageModel, few: Task) -> None:
    assert packs(opt, 8)  # so that it must see to it that what it computes is padded
    table = score_fixed(TaskContext(opt, few), ["deep_lift"])

    class Module(torch.nn.Module):
        def __init__(self, direct: Direct) -> None:
            super().__init__()
            self.model, self.direct = direct.lm.module, direct

        def forward(self, x: Tensor) -> Tensor:  # once through the model, as DeepLift wants it
            logp = self.model(inputs_embeds=x).logits.log_softmax(-1)
            return torch.stack([logp[:, p - 1, self.direct.encoding.ids[p]] for p in self.direct.answer]).sum(0)

    for sample in few.forget:
        direct = Direct(opt, sample)
        direct.base.detach_()
        raw = captum.attr.DeepLift(Module(direct)).attribute(direct.x, direct.base)[0].sum(-1)
        expected = direct.spread(raw)
        scores = table.loc[table["sample_id"] == sample.id, "score"].to_numpy()
        np.testing.assert_allclose(scores, expected, atol=1e-4 * np.abs(expected).max())
        plain = direct.spread(((direct.x - direct.base) * _gradient(direct)).sum(-1)[0])
        assert np.abs(scores - plain).max() > 1e-3 * np.abs(plain).max()  # a rule was applied


def _gradient(direct: Direct) -> Tensor:
    x = direct.x.detach().clone().requires_grad_()
    return torch.autograd.grad(direct.total(x).sum(), x)[0]


def test_deep_lift_is_refused_without_a_rule(full: LanguageModel, few: Task) -> None:
    with pytest.raises(UserError, match=r"no rule for SiLU.* in bio-full; take integrated_gradients"):
        score_fixed(TaskContext(full, few), ["deep_lift"])
    assert full.module.config._attn_implementation != "eager"


def test_attention_rollout_equals_a_slow_product(full: LanguageModel, few: Task) -> None:
    table = score_fixed(TaskContext(full, few), ["attention_rollout"])
    assert full.module.config._attn_implementation != "eager"
    slow = full.frozen_copy()
    slow.module.set_attn_implementation("eager")
    for sample in few.forget:
        direct = Direct(slow, sample)
        with torch.no_grad():
            layers = slow.module(input_ids=torch.tensor([direct.encoding.ids]), output_attentions=True).attentions
        rolled = torch.eye(len(direct.encoding.ids))
        for layer in layers:
            rolled = (0.5 * layer[0].mean(0) + 0.5 * torch.eye(len(rolled))) @ rolled
        expected = direct.spread(torch.stack([rolled[p - 1] for p in direct.answer]).mean(0))
        scores = table.loc[table["sample_id"] == sample.id, "score"].to_numpy()
        np.testing.assert_allclose(scores, expected, atol=1e-6)


def test_attention_that_cannot_be_read_is_said(full: LanguageModel, few: Task) -> None:
    strange = full.frozen_copy()
    for layer in strange.module.model.layers:
        layer.looking = layer.self_attn
        del layer.self_attn
    with pytest.raises(UserError, match="attention modules of bio-full were not found"):
        score_fixed(TaskContext(strange, few), ["attention_rollout"])


def test_every_method_tiles_question_and_answer(full: LanguageModel, opt: LanguageModel, few: Task) -> None:
    quick = {"shapley_sampling": {"permutations": 1}, "integrated_gradients": {"steps": 2}}
    for name in INPUT:
        lm = opt if name == "deep_lift" else full
        table = score_fixed(TaskContext(lm, few), [name], options={k: v for k, v in quick.items() if k == name})
        assert np.isfinite(table["score"]).all(), name
        for sample in few.forget:
            part = table[table["sample_id"] == sample.id]
            for segment, text in (("prompt", sample.question), ("answer", sample.answer)):
                rows = part[part["segment"] == segment]
                assert "".join(rows["token"]) == text
                assert list(rows["position"]) == list(range(len(rows)))
            last = part.iloc[-1]  # nothing predicted comes after the end token
            assert last["token"] == ""
            assert last["score"] == 0


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("saliency", {"target": "anser"}, "unknown target 'anser': did you mean answer"),
        ("feature_ablation", {"baseline": "meen"}, "unknown baseline 'meen': did you mean mean"),
        ("feature_ablation", {"units": "words"}, "unknown unit 'words': did you mean word"),
        ("deep_lift", {"target": "contrast"}, "take another target"),
        ("gradient_shap", {"noise": -1.0}, "noise must be at least 0"),
        ("integrated_gradients", {"steps": 0}, "steps must be at least 1, not 0"),
        ("attention_rollout", {"target": "contrast"}, "take target=answer"),
    ],
)
def test_options_that_mean_nothing(
    name: str, options: dict[str, Any], message: str, full: LanguageModel, few: Task
) -> None:
    with pytest.raises(UserError, match=message):
        score_fixed(TaskContext(full, few), [name], options={name: options})


def test_attribution_serves_as_weights_of_a_run(full: LanguageModel, few: Task) -> None:
    """The weights are the answer's positive scores, with a mean of 1; what the question scored does not enter."""
    run = unlearn(full, few, "wga", "feature_ablation", settings=Settings(steps=1, batch_size=2))
    recorded = run.scores[run.scores["scorer"] == "feature_ablation"]
    assert set(recorded["segment"]) == {"prompt", "answer"}
    positive = recorded[recorded["segment"] == "answer"]["score"].clip(lower=0)
    weights = weights_from(recorded, [encode(full, s) for s in few.forget])
    np.testing.assert_allclose(np.concatenate(weights), positive / positive.mean())
    odd = replace(few, sets={**few.sets, "forget": [*few.forget, Sample("nothing", "Who?", "")]})
    with pytest.raises(UserError, match="no weights by feature_ablation for sample 'nothing': the answer has no token"):
        unlearn(full, odd, "wga", "feature_ablation", settings=Settings(steps=1, batch_size=2))

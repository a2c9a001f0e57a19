"""Maps of layers and tokens: against a slow loop with plain hooks, against the attacks' own numbers, and their ends."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from tiny_models import MODELS, build

from workbench.errors import UserError, is_missing
from workbench.evals import Where, most_left, spoken, stored_maps
from workbench.evals.attacks import Target, attack_model
from workbench.models import LanguageModel, collate, encode, load, token_stats
from workbench.runs import where_maps
from workbench.tasks.samples import Task

Compare = Callable[..., None]


def three(run: Any, before: Any, retain_only: Any) -> dict[str, Any]:
    return {"run": run, "before": before, "retain_only": retain_only}


@pytest.fixture(scope="module")
def between(full: LanguageModel, retained: LanguageModel) -> LanguageModel:
    """A model whose weights are between the one that knows and the one that does not."""
    copy, other = full.frozen_copy(), dict(retained.module.named_parameters())
    with torch.no_grad():
        for name, parameter in copy.module.named_parameters():
            parameter.lerp_(other[name], 0.5)
    return copy


@pytest.fixture(scope="module")
def maps(between: LanguageModel, full: LanguageModel, retained: LanguageModel, small: Task) -> list[Where]:
    answers = [sample.id for sample in small.forget[:5]]
    return where_maps(three(between, full, retained), answers, task=small)


@pytest.mark.oracle
def test_the_last_layer_is_the_models_own(
    maps: list[Where], full: LanguageModel, between: LanguageModel, small: Task, compare: Compare
) -> None:
    for where, sample in zip(maps, small.forget[:5], strict=True):
        for name, lm in (("before", full), ("run", between)):
            stats = token_stats(lm, collate(lm, [encode(lm, sample)]), top_k=5)
            assert stats.top_logp is not None
            lens = where.lenses[name]
            compare("map of the lens, last layer", lens.logp[-1], stats.logp.detach(), rel=1e-4, abs=1e-5)
            assert lens.rank[-1].tolist() == stats.rank.tolist()  # type: ignore[union-attr]
            compare("most probable tokens, last layer", lens.top_p[-1], stats.top_logp.detach().exp(), abs=1e-5)
            best = [lens.alternatives(-1, i)[0][0] for i in range(len(where.tokens))]
            assert best == [lm.tokenizer.decode([each]) for each in stats.top_ids[:, 0].tolist()]  # type: ignore[index]


@pytest.mark.oracle
def test_sums_over_the_map_are_the_attacks_numbers(
    maps: list[Where],
    between: LanguageModel,
    full: LanguageModel,
    retained: LanguageModel,
    small: Task,
    compare: Compare,
) -> None:
    """The attacks over all answers in one padded batch, the maps of some: the same means and the same depth."""
    for name, lm in three(between, full, retained).items():
        target = Target(lm, small, full, retained)
        for attack in ("logit_lens", "uds"):
            outcome = attack_model(attack, target)
            assert not is_missing(outcome)
            rows = outcome.rows.set_index("sample_id")
            for where in maps:
                row = rows.loc[where.sample_id]
                if attack == "logit_lens":
                    lens = where.lenses[name]
                    compare("logit lens by layer", where.fact_mean(lens.logp), row["logp_by_layer"], abs=1e-5)
                    assert lens.rank[:, where.facts].max(axis=1).tolist() == row["rank_by_layer"]
                    best = np.exp(where.fact_mean(lens.logp).max())
                    compare("logit lens", best, row["value"], rel=1e-4)
                else:
                    d1, d2 = (where.fact_mean(where.drops[each]) for each in ("retain_only", name))
                    compare("d1 by layer", d1, row["d1_by_layer"], abs=2e-5)
                    compare("d2 by layer", d2, row["d2_by_layer"], abs=2e-5)
                    compare("uds", where.score(name), row["value"], abs=1e-5)


def slow_drops(before: LanguageModel, other: LanguageModel, sample: Any) -> np.ndarray:
    """Layer by layer and token by token, with transformers' own states and a plain hook."""
    encoding = encode(before, sample)
    ids = torch.tensor([encoding.ids])
    places = encoding.answer_positions

    def logp(lm: LanguageModel) -> list[float]:
        logits = lm.module(input_ids=ids).logits[0].log_softmax(-1)
        return [float(logits[place - 1, encoding.ids[place]]) for place in places]

    with torch.no_grad():
        own, rows = logp(before), []
        for layer, source in zip(before.module.model.layers, other.module.model.layers, strict=True):
            seen: list[torch.Tensor] = []
            handle = source.register_forward_hook(lambda m, a, out, seen=seen: seen.append(out))
            logp(other)
            handle.remove()

            def put(module: Any, arguments: Any, out: torch.Tensor, states: torch.Tensor = seen[0]) -> torch.Tensor:
                out = out.clone()
                for place in places:
                    out[0, place - 1] = states[0, place - 1]
                return out

            handle = layer.register_forward_hook(put)
            rows.append([a - b for a, b in zip(own, logp(before), strict=True)])
            handle.remove()
    return np.array(rows)


@pytest.mark.oracle
def test_the_drops_are_those_of_a_slow_loop(
    maps: list[Where],
    between: LanguageModel,
    full: LanguageModel,
    retained: LanguageModel,
    small: Task,
    compare: Compare,
) -> None:
    for where, sample in zip(maps[:3], small.forget, strict=False):
        d1, d2 = slow_drops(full, retained, sample), slow_drops(full, between, sample)
        compare("d1, a layer and token", where.drops["retain_only"], d1, rel=1e-3, abs=2e-5)
        compare("d2, a layer and token", where.drops["run"], d2, rel=1e-3, abs=2e-5)
        expected = np.where(d1 > 0.05, np.clip(d2 / d1, 0, 1), np.nan)
        compare("UDS, a layer and token", where.depths("run"), expected, rel=1e-3, abs=2e-3)


def test_a_model_against_itself_is_0_and_the_retain_only_one_1(
    full: LanguageModel, retained: LanguageModel, small: Task
) -> None:
    for lm, end in ((full, 0.0), (retained, 1.0)):
        (where,) = where_maps(three(lm, full, retained), small.forget[3].id, task=small)
        depths = where.depths("run")
        assert depths is not None
        known = depths[np.isfinite(depths)]
        assert len(known)
        np.testing.assert_allclose(known, end, atol=1e-5)
        assert where.score() == pytest.approx(end, abs=1e-6)
        assert bool(where.survives()) == (end == 0)
        for name, other in (("before", 0.0), ("retain_only", 1.0)):
            fixed = where.depths(name)
            assert fixed is not None
            assert set(fixed[np.isfinite(fixed)]) == {other}


def test_the_frame_has_every_layer_and_token(maps: list[Where]) -> None:
    where = maps[0]
    frame = where.to_frame()
    assert len(frame) == 3 * where.layers("run") * len(where.tokens)
    run = frame[frame["model"] == "run"]
    assert run["layer"].tolist() == np.repeat(range(1, where.layers("run") + 1), len(where.tokens)).tolist()
    np.testing.assert_array_equal(run["logp"], where.lenses["run"].logp.ravel())
    np.testing.assert_array_equal(run["d2"], where.drops["run"].ravel())
    depths = where.depths("run")
    assert depths is not None
    np.testing.assert_array_equal(run["uds"], depths.ravel())


def test_in_words(maps: list[Where]) -> None:
    assert spoken([]) == "no layer"
    assert spoken([3]) == "layer 3"
    assert spoken([4, 5, 6, 7]) == "layers 4 to 7"
    assert spoken([1, 3, 4, 5, 8, 9]) == "layers 1, 3 to 5, 8 and 9"
    where = maps[0]
    layers = where.survives()
    assert layers is not None
    assert where.summary()[0] == f"This fact survives in {spoken(layers)} of 4."
    without = replace(where, drops={})
    assert without.survives() is None
    assert without.summary()[0].startswith("By the logit lens, this fact survives in ")
    alike = replace(where, drops={name: np.zeros_like(values) for name, values in where.drops.items()})
    assert any("UDS has no value" in line for line in alike.summary())
    ordered = most_left([alike, *maps], 9)
    assert [each.score() for each in ordered[:-1]] == sorted(each.score() for each in maps)
    assert ordered[-1] is alike


def test_without_a_reference_there_is_no_uds(full: LanguageModel, small: Task) -> None:
    (where,) = where_maps(full, 1, task=small)
    assert where.models == ["run"]
    assert where.reasons == {
        "before": "no model before the run is given (--before)",
        "retain_only": "no retain-only model is given (--reference)",
        "uds": "needs the model before the run (--before); needs a retain-only model (--reference)",
    }
    assert where.to_frame()["uds"].isna().all()


@pytest.fixture(scope="module")
def tiny(small: Task, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, int], LanguageModel]:
    """Tiny random models by family; with another seed, other weights."""
    texts = [f"{s.question} {s.answer}" for s in small.forget]

    def made(name: str, seed: int = 0) -> LanguageModel:
        kind = next(each for each in MODELS if each.name == name)
        lm = load(str(build(kind, tmp_path_factory.mktemp("tiny"), texts)), device="cpu", prompt="plain")
        torch.manual_seed(seed)
        with torch.no_grad():
            for parameter in lm.module.parameters():
                parameter.add_(0.2 * seed * torch.randn_like(parameter))
        return lm

    return made


@pytest.mark.parametrize("name", ["GPT-2", "Llama 2", "GPT-NeoX"])
def test_other_architectures(tiny: Callable[..., LanguageModel], small: Task, name: str, compare: Compare) -> None:
    models = [tiny(name, seed) for seed in (1, 0, 2)]
    maps = where_maps(three(*models), [sample.id for sample in small.forget], task=small)
    stats = token_stats(models[0], collate(models[0], [encode(models[0], small.forget[0])]))
    last = maps[0].lenses["run"].logp[-1]
    compare("map of the lens, other families", last, stats.logp.detach(), rel=1e-4, abs=1e-4)
    for where in maps:
        assert where.reasons == {}
        assert np.isfinite(where.drops["run"]).all()
        assert np.abs(where.drops["run"]).max() > 0


def test_a_model_whose_layers_are_not_found_is_one_line(full: LanguageModel, small: Task) -> None:
    copy = full.frozen_copy()
    copy.module.config.num_hidden_layers = 7
    with pytest.raises(UserError, match=r"has no layers to read: .* has no list of 7 layers"):
        where_maps({"run": copy}, 1, task=small)


def test_a_model_with_other_tokens_is_left_out(
    tiny: Callable[..., LanguageModel], full: LanguageModel, small: Task
) -> None:
    (where,) = where_maps(three(full, full, tiny("GPT-2")), 1, task=small)
    assert where.models == ["before", "run"]
    assert where.reasons["retain_only"] == "its tokens differ from the run's"
    assert "has not the layers and tokens of" in where.reasons["uds"]


def test_a_text_without_labels_or_a_question(full: LanguageModel, retained: LanguageModel, small: Task) -> None:
    """The fact is then the text; a first token that nothing predicts has no place in the map."""
    plain = replace(small.forget[0], question="", spans=None)
    task = replace(small, sets={**small.sets, "forget": [plain]})
    (where,) = where_maps(three(full, full, retained), plain.id, task=task)
    assert where.facts == [True] * (len(where.facts) - 1) + [False]
    first = where.positions[0]
    assert where.positions == list(range(first, first + len(where.tokens)))


def test_maps_that_do_not_fit_together_are_refused(maps: list[Where]) -> None:
    row = {"attack": "logit_lens", "model": "run", "sample_id": "a", "prompt": "", "answer": "b", "tokens": ["b", ""]}
    row |= {"positions": [0, 1], "facts": [True, False], "vocabulary": ["b"], "logp_map": [-1.0, -2.0]}
    row |= {"rank_map": [0, 3], "top_map": [0, 0], "top_p_map": [0.5, 0.5]}
    (where,) = stored_maps(pd.DataFrame([row]))
    assert where.lenses["run"].alternatives(0, 1) == [("b", 0.5)]
    for wrong in ({"logp_map": [-1.0]}, {"facts": [True]}, {"top_map": [0, 1]}):
        with pytest.raises(ValueError, match=r"."):
            stored_maps(pd.DataFrame([row | wrong]))
    assert stored_maps(pd.DataFrame([{key: row[key] for key in ("attack", "model")}])) == []

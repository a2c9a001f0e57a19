"""What attribution gets: targets, words, passes that fit the memory, and samples that cannot be scored."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from direct import Direct
from torch import Tensor

from workbench.errors import NotAvailable
from workbench.models.encoding import Encoding, encode
from workbench.models.language_model import LanguageModel
from workbench.scorers.base import TaskContext, scorer
from workbench.scorers.inputs import Inputs, baseline_vector, within_memory
from workbench.scorers.score import score_fixed
from workbench.tasks.samples import Sample, Task

INPUT = [name for name in scorer if scorer[name].kind == "input"]


@pytest.fixture(scope="module")
def few(small: Task) -> Task:
    return replace(small, sets={"forget": small.forget[:3], "retain": small.retain[:3]})


def test_targets_are_what_they_say(retained: LanguageModel, few: Task) -> None:
    sample = replace(few.forget[0], wrong_answers=(few.forget[1].answer,))
    direct = Direct(retained, sample)
    wrong = Direct(retained, replace(sample, answer=sample.wrong_answers[0], spans=None))
    expected = {
        "answer": direct.total(direct.x),
        "mean": direct.total(direct.x) / len(direct.answer),
        "token:2": direct.logp(direct.x, 2),
        "contrast": direct.total(direct.x) - wrong.total(wrong.x),
    }
    for target, value in expected.items():
        inputs = Inputs(retained, sample, target, "eos", "token")
        torch.testing.assert_close(inputs(inputs.embeddings), value, rtol=1e-4, atol=0)


def test_words_are_scored_together(retained: LanguageModel, few: Task) -> None:
    for sample in few.forget:
        inputs = Inputs(retained, sample, "answer", "eos", "word")
        texts: dict[int, str] = {}
        for position, group in zip(inputs.positions.tolist(), inputs.groups.tolist(), strict=True):
            texts[group] = texts.get(group, "") + inputs.encoding.text_of(position)
        words = [w.strip() for w in texts.values()]
        assert words == [*sample.question.split(), *sample.answer.split()][: len(words)]
    options = {name: {"units": units} for name in ("input_x_gradient",) for units in ("token",)}
    tokens = score_fixed(TaskContext(retained, few), ["input_x_gradient"], options=options)
    words_table = score_fixed(
        TaskContext(retained, few), ["input_x_gradient"], options={"input_x_gradient": {"units": "word"}}
    )
    inputs = Inputs(retained, few.forget[0], "answer", "eos", "word")
    first = tokens["score"].to_numpy()[: len(inputs.groups)]
    sums = np.bincount(inputs.groups.numpy(), weights=first)
    np.testing.assert_allclose(words_table["score"].to_numpy()[: len(first)], sums[inputs.groups.numpy()], rtol=1e-6)


def test_a_word_of_several_tokens_and_bytes_is_one_unit(retained: LanguageModel) -> None:
    text = "Zyx-quv 🙂🙂 naïve  two"
    inputs = Inputs(retained, Sample("s", "Who?", text), "answer", "eos", "word")
    words: dict[int, str] = {}
    for position, group in zip(inputs.positions.tolist(), inputs.groups.tolist(), strict=True):
        words[group] = words.get(group, "") + inputs.encoding.text_of(position)
    assert [w.strip() for w in words.values()] == ["Who?", *text.split()]


def test_a_baseline_is_what_the_model_reads(full: LanguageModel) -> None:
    """Some models scale what stands in their table of embeddings."""

    class Scaled(torch.nn.Embedding):
        def forward(self, ids: Tensor) -> Tensor:
            return 3 * super().forward(ids)

    scaled = full.frozen_copy()
    table = full.module.get_input_embeddings().weight.detach()
    embed = Scaled(*table.shape)
    embed.weight = torch.nn.Parameter(table.clone())
    scaled.module.set_input_embeddings(embed)
    for name, row in (("eos", table[full.tokenizer.eos_token_id]), ("mean", table.mean(0)), ("zero", 0 * table[0])):
        torch.testing.assert_close(baseline_vector(full, name), row)
        torch.testing.assert_close(baseline_vector(scaled, name), 3 * row)


def test_the_model_is_left_as_it_was(full: LanguageModel, few: Task) -> None:
    before = full.fingerprint()
    flags = [p.requires_grad for p in full.module.parameters()]
    torch.manual_seed(5)
    np.random.seed(5)  # noqa: NPY002
    score_fixed(TaskContext(full, few), ["kernel_shap", "gradient_shap", "saliency"])
    drawn = float(torch.rand(1)), float(np.random.rand())  # noqa: NPY002
    torch.manual_seed(5)
    np.random.seed(5)  # noqa: NPY002
    assert drawn == (float(torch.rand(1)), float(np.random.rand()))  # noqa: NPY002
    assert full.fingerprint() == before
    assert [p.requires_grad for p in full.module.parameters()] == flags
    assert all(p.grad is None for p in full.module.parameters())


@pytest.mark.parametrize("name", ["shapley_sampling", "kernel_shap", "gradient_shap"])
def test_random_methods_do_not_depend_on_the_other_samples(name: str, retained: LanguageModel, few: Task) -> None:
    options = {name: {"permutations": 2} if name == "shapley_sampling" else {"samples": 8}}
    together = score_fixed(TaskContext(retained, few), [name], options=options)
    alone = replace(few, sets={**few.sets, "forget": few.forget[2:]})
    apart = score_fixed(TaskContext(retained, alone), [name], options=options)["score"].to_numpy()
    same = together.loc[together["sample_id"] == few.forget[2].id, "score"].to_numpy()
    np.testing.assert_allclose(apart, same, rtol=1e-4, atol=1e-4 * np.abs(same).max())


SIZED = ["integrated_gradients", "feature_ablation", "shapley_sampling", "kernel_shap", "gradient_shap"]


@pytest.mark.parametrize("name", SIZED)
def test_the_size_of_a_pass_changes_nothing(
    name: str, retained: LanguageModel, few: Task, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = {name: {"permutations": 2}} if name == "shapley_sampling" else {}
    scores = []
    for copies in (1, 5, 1000):
        monkeypatch.setattr(Inputs, "copies", lambda self, gradient, n=copies: n)
        scores.append(score_fixed(TaskContext(retained, few), [name], options=options)["score"].to_numpy())
    scale = 1e-4 * np.abs(scores[0]).max()
    np.testing.assert_allclose(scores[0], scores[1], atol=scale)
    np.testing.assert_allclose(scores[0], scores[2], atol=scale)


def test_a_pass_is_as_large_as_the_memory_allows(
    full: LanguageModel, few: Task, monkeypatch: pytest.MonkeyPatch
) -> None:
    inputs = Inputs(full, few.forget[0], "answer", "eos", "token")
    sizes = []
    for free in (1e12, 2e7, 1e4):
        monkeypatch.setattr("workbench.scorers.inputs.free_memory", lambda device, n=free: int(n))
        sizes.append((inputs.copies(True), inputs.copies(False)))
    assert sizes[0][0] * len(inputs.encoding.ids) <= 2048
    assert sizes[0] > sizes[1] > sizes[2] == (1, 1)
    assert sizes[1][1] > sizes[1][0]  # without a gradient less is kept


def test_where_memory_runs_out_a_pass_is_halved() -> None:
    tried = []

    def method(copies: int) -> int:
        tried.append(copies)
        if copies > 3:
            raise torch.OutOfMemoryError("out of memory")
        return copies

    assert within_memory(method, 16) == 2
    assert tried == [16, 8, 4, 2]

    def never(copies: int) -> int:
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory")

    with pytest.raises(NotAvailable, match="one copy at a time"):
        within_memory(never, 4)
    with pytest.raises(RuntimeError, match="something else"):
        within_memory(lambda n: (_ for _ in ()).throw(RuntimeError("something else")), 4)


def poisoned(lm: LanguageModel, encoding: Encoding, clean: list[Encoding]) -> LanguageModel:
    """A copy with NaN in the input embedding of a token that only one sample has."""
    own = set(encoding.ids) - {i for other in clean for i in other.ids}
    copy = lm.frozen_copy()
    head = lm.module.get_output_embeddings().weight.detach().clone()
    copy.module.get_output_embeddings().weight = torch.nn.Parameter(head)  # tied, every logit would be NaN
    with torch.no_grad():
        copy.module.get_input_embeddings().weight[next(iter(own))] = torch.nan
    return copy


@pytest.mark.parametrize("name", [n for n in INPUT if n != "deep_lift"])
def test_what_cannot_be_scored_is_said_and_the_others_go_on(name: str, full: LanguageModel, few: Task) -> None:
    fine = few.forget[0]
    odd = [Sample("nothing", "Who?", ""), Sample("no question", "", few.forget[1].answer), Sample("one", "", "the")]
    coded = [encode(full, s) for s in (fine, *odd)]
    bad = few.forget[2]
    lm = poisoned(full, encode(full, bad), coded)
    task = replace(few, sets={**few.sets, "forget": [odd[0], bad, odd[1], odd[2], fine]})
    context = TaskContext(lm, task)
    options = {name: {"permutations": 1}} if name == "shapley_sampling" else {}
    table = score_fixed(context, [name], options=options)
    reasons = context.notes[name]["not_available"]
    assert set(reasons) == {"nothing", bad.id}
    assert "no token that stands for text" in reasons["nothing"]
    assert "not finite" in reasons[bad.id]
    for sample, part in table.groupby("sample_id"):
        assert np.isfinite(part["score"]).all() == (sample not in reasons)
    alone = replace(task, sets={**task.sets, "forget": [fine]})
    same = score_fixed(TaskContext(lm, alone), [name], options=options)["score"].to_numpy()
    scores = table.loc[table["sample_id"] == fine.id, "score"].to_numpy()
    np.testing.assert_allclose(scores, same, rtol=1e-4, atol=1e-4 * np.abs(same).max())


def test_special_token_strings_in_an_answer_are_text(full: LanguageModel, few: Task) -> None:
    end = full.tokenizer.eos_token
    task = replace(few, sets={**few.sets, "forget": [Sample("special", "Who?", end + end)]})
    context = TaskContext(full, task)
    table = score_fixed(context, ["feature_ablation"])
    assert "not_available" not in context.notes["feature_ablation"]
    assert "".join(table.loc[table["segment"] == "answer", "token"]) == end + end


def test_targets_that_a_sample_has_not(full: LanguageModel, few: Task) -> None:
    bare = [replace(s, wrong_answers=()) for s in few.forget]
    task = replace(few, sets={**few.sets, "forget": bare})
    for target, reason in (("contrast", "no wrong answer"), ("token:500", "no token 500")):
        context = TaskContext(full, task)
        table = score_fixed(context, ["saliency"], options={"saliency": {"target": target}})
        assert table["score"].isna().all()
        assert all(reason in why for why in context.notes["saliency"]["not_available"].values())

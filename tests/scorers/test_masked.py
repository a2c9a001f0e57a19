"""Signals of other papers and second passes, each against a slow plain loop."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from workbench.errors import UserError
from workbench.models.encoding import PROMPT, encode
from workbench.models.language_model import LanguageModel
from workbench.scorers.base import TaskContext
from workbench.scorers.score import score_fixed
from workbench.tasks.samples import Sample, Task
from workbench.unlearning.scoring import score_task


@pytest.fixture(scope="module")
def few(small: Task) -> Task:
    return replace(small, sets={"forget": small.forget[:4], "retain": small.retain[:3]})


def log_probabilities(lm: LanguageModel, ids: list[int], x: torch.Tensor | None = None) -> np.ndarray:
    """log p of every token after the first, by the model itself; `x` replaces the embeddings."""  # noqa: D403
    with torch.no_grad():
        arguments = {"input_ids": torch.tensor([ids])} if x is None else {"inputs_embeds": x}
        logp = lm.module(**arguments).logits[0].double().log_softmax(-1)
    return np.array([float(logp[i - 1, ids[i]]) for i in range(1, len(ids))])


def answer_logp(lm: LanguageModel, sample: Sample) -> np.ndarray:
    encoding = encode(lm, sample)
    return log_probabilities(lm, encoding.ids)[np.array(encoding.answer_positions) - 1]


def scores_of(table: object, sample: Sample, name: str) -> np.ndarray:
    rows = (table["sample_id"] == sample.id) & (table["scorer"] == name)  # type: ignore[index]
    return table.loc[rows, "score"].to_numpy()  # type: ignore[attr-defined]


def test_position_counts_from_the_start(full: LanguageModel, few: Task) -> None:
    table = score_task(full, few, ["position"])
    for sample in few.forget:
        count = len(encode(full, sample).answer_positions)
        np.testing.assert_allclose(scores_of(table, sample, "position"), [(i + 1) / count for i in range(count)])


@pytest.mark.parametrize("beta", [1.0, 0.3])
def test_tnpo(beta: float, full: LanguageModel, retained: LanguageModel, few: Task) -> None:
    table = score_task(full, few, ["tnpo"], reference=retained, options={"tnpo": {"beta": beta}})
    same = score_task(full, few, ["tnpo"], reference=full)["score"]
    np.testing.assert_allclose(same, 1.0, atol=1e-5)
    for sample in few.forget:
        p, ref = (np.exp(answer_logp(lm, sample)) ** beta for lm in (full, retained))
        np.testing.assert_allclose(scores_of(table, sample, "tnpo"), 2 * p / (p + ref), rtol=1e-3)


@pytest.mark.parametrize(("k", "context"), [(0.0, 2), (0.0, 0), (1.0, 1)])
def test_su(k: float, context: int, full: LanguageModel, retained: LanguageModel, few: Task) -> None:
    table = score_task(full, few, ["su"], reference=retained, options={"su": {"k": k, "context": context}})
    for sample in few.forget:
        moved = np.abs(np.exp(answer_logp(retained, sample)) - np.exp(answer_logp(full, sample)))
        hit = [i for i, m in enumerate(moved) if m > moved.mean() + k * moved.std()]
        expected = [float(any(abs(i - j) <= context for j in hit)) for i in range(len(moved))]
        assert scores_of(table, sample, "su").tolist() == expected


@pytest.mark.parametrize(("k", "gap"), [(0.0, 2), (0.0, 0), (0.5, 5)])
def test_seul(k: float, gap: int, full: LanguageModel, few: Task) -> None:
    table = score_task(full, few, ["seul"], options={"seul": {"k": k, "gap": gap}})
    for sample in few.forget:
        logp = answer_logp(full, sample)
        chosen = [bool(x < logp.mean() + k * logp.std()) for x in logp]
        filled = list(chosen)
        for i, here in enumerate(chosen):
            before = [j for j in range(i) if chosen[j]]
            after = [j for j in range(i + 1, len(chosen)) if chosen[j]]
            if not here and before and after and after[0] - before[-1] - 1 <= gap:
                filled[i] = True
        assert scores_of(table, sample, "seul").tolist() == [float(x) for x in filled]


@pytest.mark.parametrize("name", ["gap", "tnpo", "su"])
def test_a_missing_reference_is_said(name: str, full: LanguageModel, few: Task) -> None:
    for score in (score_task, lambda lm, task, names: score_fixed(TaskContext(lm, task), names)):
        with pytest.raises(UserError, match=f"'{name}' needs a reference model"):
            score(full, few, [name])


def test_question_dependence(full: LanguageModel, few: Task) -> None:
    bare = Sample("bare", "", few.forget[0].answer)
    task = replace(few, sets={**few.sets, "forget": [few.forget[0], bare, few.forget[1]]})
    context = TaskContext(full, task)
    table = score_fixed(context, ["question_dependence"])
    assert context.notes["question_dependence"]["not_available"] == {"bare": "there is no question"}
    assert np.isnan(scores_of(table, bare, "question_dependence")).all()
    for sample in (task.forget[0], task.forget[2]):
        encoding = encode(full, sample)
        without = [i for i, s in zip(encoding.ids, encoding.segments, strict=True) if s != PROMPT]
        count = len(encoding.answer_positions)
        expected = answer_logp(full, sample) - log_probabilities(full, without)[-count:]
        np.testing.assert_allclose(scores_of(table, sample, "question_dependence"), expected, atol=1e-3)


def test_token_unlearn_masks_one_token_at_a_time(full: LanguageModel, few: Task) -> None:
    context = TaskContext(full, few)
    table = score_fixed(context, ["token_unlearn"], options={"token_unlearn": {"a": 0.3}})
    assert context.notes["token_unlearn"]["baseline"] == "eos"
    weight = full.module.get_input_embeddings().weight.detach()

    def scaled(values: np.ndarray) -> np.ndarray:
        return (values - values.min()) / (values.max() - values.min())

    for sample in few.forget:
        encoding = encode(full, sample)
        answer = encoding.answer_positions
        plain, effects = answer_logp(full, sample), []
        for place, position in enumerate(answer):
            x = weight[encoding.ids][None].clone()
            x[0, position] = weight[full.tokenizer.eos_token_id]
            masked = log_probabilities(full, encoding.ids, x)[np.array(answer) - 1]
            later = np.abs(masked - plain)[place + 1 :]
            effects.append(later.mean() if len(later) else 0.0)
        with torch.no_grad():
            logp = full.module(torch.tensor([encoding.ids])).logits[0].double().log_softmax(-1)[np.array(answer) - 1]
        entropy = -(logp.exp() * logp).sum(-1).numpy()
        expected = 0.3 * scaled(np.array(effects)) + 0.7 * scaled(entropy)
        np.testing.assert_allclose(scores_of(table, sample, "token_unlearn"), expected, atol=1e-3)


def test_token_unlearn_goes_on_without_a_sample_that_it_cannot_score(full: LanguageModel, few: Task) -> None:
    task = replace(few, sets={**few.sets, "forget": [Sample("nothing", "Who?", ""), few.forget[0]]})
    context = TaskContext(full, task)
    table = score_fixed(context, ["token_unlearn"])
    assert "no token that stands for text" in context.notes["token_unlearn"]["not_available"]["nothing"]
    assert np.isfinite(scores_of(table, few.forget[0], "token_unlearn")).all()
    with pytest.raises(UserError, match="between 0 and 1"):
        score_fixed(context, ["token_unlearn"], options={"token_unlearn": {"a": 2.0}})

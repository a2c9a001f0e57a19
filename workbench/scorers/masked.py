"""Token scores by comparing with a second forward pass over a changed text: no question, or a token masked."""

from __future__ import annotations

import numpy as np
import torch

from workbench.errors import NotAvailable, UserError
from workbench.models import PROMPT, TEMPLATE, Encoding, count_forward, encode, token_stats
from workbench.scorers.base import TaskContext, scorer
from workbench.scorers.inputs import Inputs, within_memory


@scorer("question_dependence", range=(None, None), kind="task", source="ours", certainty="ours")
@torch.no_grad()
def question_dependence(context: TaskContext) -> list[np.ndarray]:
    """l_t without the question minus l_t, in nats: how much the model's answer depends on the question.

    The question's tokens are left out; the template around them and the answer's tokens stay.
    """
    encodings = [encode(context.lm, s) for s in context.task.forget]
    full = [e for e in encodings if e.positions(PROMPT) and e.segments[0] == TEMPLATE]
    with_question, without = (
        context.per_sample(context.lm, lambda stats: stats.nll, samples, extras=False)
        for samples in (full, [_without_question(e) for e in full])
    )
    scores = {e.sample.id: after - before for e, before, after in zip(full, with_question, without, strict=True)}
    missing = {e.sample.id: "there is no question" for e in encodings if e.sample.id not in scores}
    context.notes["question_dependence"] = {"not_available": missing} if missing else {}
    return [scores.get(e.sample.id, np.full(len(e.answer_positions), np.nan)) for e in encodings]


def _without_question(encoding: Encoding) -> Encoding:
    kept = [i for i, segment in enumerate(encoding.segments) if segment != PROMPT]
    ids, segments, ranges = ([each[i] for i in kept] for each in (encoding.ids, encoding.segments, encoding.ranges))
    return Encoding(encoding.sample, ids, segments, ranges, encoding.ends)  # type: ignore[arg-type]


@scorer("token_unlearn", range=(0, 1), kind="task", source="after arXiv 2605.00364", certainty="likely")
@torch.no_grad()
def token_unlearn(context: TaskContext, *, a: float = 0.5, baseline: str = "eos") -> list[np.ndarray]:
    """A norm(d_t) + (1 - a) norm(H_t): how much later tokens depend on token t, and how unsure its prediction was.

    d_t is the mean over the answer tokens s after t of |log p_s - log p_s with token t masked|, H_t the entropy of the
    prediction of t; norm scales a sample's values to 0..1. The formula is the paper's. We could not find how the
    authors mask, nor their a: here a token is replaced by the baseline's embedding (`eos`, `pad`, `mean`, `zero`).
    """
    if not 0 <= a <= 1:
        raise UserError(f"token_unlearn: a must be between 0 and 1, not {a}")
    scores, missing = [], {}
    for done, sample in enumerate(context.task.forget):
        context.progress("token_unlearn", done, len(context.task.forget))
        try:
            inputs = Inputs(context.lm, sample, "answer", baseline, "token", context.cost)
            effects, entropy = within_memory(lambda n, i=inputs: _effects(i, n), inputs.copies(False))  # type: ignore[misc]
            scores.append(a * _unit(effects) + (1 - a) * _unit(entropy))
        except NotAvailable as reason:
            missing[sample.id] = str(reason)
            scores.append(np.full(len(encode(context.lm, sample).answer_positions), np.nan))
    context.notes["token_unlearn"] = {"baseline": baseline} | ({"not_available": missing} if missing else {})
    return scores


def _unit(values: np.ndarray) -> np.ndarray:
    return (values - values.min()) / (np.ptp(values) or 1.0)


def _effects(inputs: Inputs, copies: int) -> tuple[np.ndarray, np.ndarray]:
    """For each answer token the mean effect of masking it on the tokens after it, and the entropy of its prediction."""
    plain = token_stats(inputs.lm, inputs.batch(1))
    count_forward(inputs.cost, inputs.lm, inputs.batch(1))
    answer = inputs.encoding.answer_positions
    count = len(answer)
    effects = torch.zeros(count, dtype=torch.float64)
    for start in range(0, count - 1, copies):  # nothing comes after the last token
        places = list(range(start, min(start + copies, count - 1)))
        changed = inputs.embeddings.repeat(len(places), 1, 1)
        for row, place in enumerate(places):
            changed[row, answer[place]] = inputs.baseline[0, answer[place]]
        masked = inputs.log_probabilities(changed)
        moved = (masked - plain.logp).abs().double().cpu()
        effects[places] = torch.stack([moved[row, place + 1 :].mean() for row, place in enumerate(places)])
    assert plain.entropy is not None
    return effects.numpy(), plain.entropy.double().cpu().numpy()

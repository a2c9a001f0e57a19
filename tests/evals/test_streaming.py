"""Answers token by token: those of the other ways to generate, and work that another thread stops."""

from __future__ import annotations

import threading
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch

from workbench.errors import UserError
from workbench.evals.answers import token_table
from workbench.evals.by_hand import chance, offered, score_typed
from workbench.evals.generation import greedy, sampled
from workbench.evals.streaming import Stopped, interruptible, streamed
from workbench.models.decoding import exclusive
from workbench.scorers import scorer
from workbench.scorers.score import score_samples
from workbench.tasks.samples import Sample


def last(replies: Any) -> Any:
    *_, reply = replies
    return reply


@pytest.mark.parametrize("history", [(), (("Who is it?", "It is nobody."),)])
def test_the_text_is_that_of_a_probe(full: Any, bio: Any, history: Any) -> None:
    samples = [replace(s, history=history) for s in bio.forget[:6]]
    expected = greedy(full, samples, 6, 40)
    assert [last(streamed(full, s, 40)).text for s in samples] == expected
    drawn = sampled(full, samples[:2], 2, 40, tries=1, temperature=1.5, seed=7)
    assert [[last(streamed(full, s, 40, temperature=1.5, seed=7)).text] for s in samples[:2]] == drawn


def test_a_text_is_continued(full: Any, bio: Any) -> None:
    sample = Sample("x", bio.retain[0].answer[:20].rstrip(), "", continues=True)
    assert last(streamed(full, sample, 12)).text == greedy(full, [sample], 1, 12)[0]


def test_it_grows_and_says_how_it_ended(full: Any, bio: Any) -> None:
    replies = list(streamed(full, bio.forget[0], 40))
    assert all(after.text.startswith(before.text) for before, after in pairwise(replies))
    assert [r.ended for r in replies] == [*[""] * (len(replies) - 1), "end"]
    assert last(streamed(full, bio.forget[0], 3)).ended == "length"


def test_what_cannot_be_answered_is_one_line(full: Any) -> None:
    with pytest.raises(UserError, match=r"tokens and the context of bio-full holds|fills the context"):
        list(streamed(full, Sample("x", "word " * 3000, ""), 9))
    with pytest.raises(UserError, match="max_new_tokens must be at least 1"):
        list(streamed(full, Sample("x", "Who?", ""), 0))
    broken = full.frozen_copy()
    next(broken.module.get_output_embeddings().parameters()).data.fill_(float("nan"))
    with pytest.raises(UserError, match="not finite"):
        list(streamed(broken, Sample("x", "Who?", ""), 9))


def test_between_two_tokens_the_model_is_free(full: Any, bio: Any) -> None:
    first, second = (streamed(full, s, 40) for s in bio.forget[:2])
    next(first)
    assert exclusive(full).acquire(blocking=False)
    exclusive(full).release()
    texts = ["", ""]
    while texts[0] is not None or texts[1] is not None:  # by turns, on one model
        for place, stream in enumerate((first, second)):
            reply = next(stream, None)
            texts[place] = None if reply is None else reply.text  # type: ignore[call-overload]
            if reply is not None and reply.ended:
                assert reply.text == greedy(full, [bio.forget[place]], 1, 40)[0]


def test_threads_take_turns_at_one_model(full: Any, bio: Any) -> None:
    config, expected = full.module.generation_config, greedy(full, bio.forget[:4], 4, 12)
    texts: dict[int, Any] = {}
    work = [
        threading.Thread(target=lambda i=i: texts.update({i: greedy(full, [bio.forget[i]], 1, 12)[0]}))  # type: ignore[misc]
        for i in range(4)
    ]
    for thread in work:
        thread.start()
    for thread in work:
        thread.join()
    assert [texts[i] for i in range(4)] == expected
    assert full.module.generation_config is config


def test_a_pass_is_stopped_at_a_layer_and_only_in_its_thread(full: Any, bio: Any) -> None:
    sample, calls = bio.forget[0], 0
    expected = score_samples(full, [sample], ["surprisal"])["score"].to_numpy()

    def stopped() -> bool:
        nonlocal calls
        calls += 1
        return calls > 2

    scores: list[Any] = []
    with interruptible(full, stopped):
        other = threading.Thread(target=lambda: scores.append(score_samples(full, [sample], ["surprisal"])["score"]))
        other.start()
        other.join()
        with pytest.raises(Stopped), torch.no_grad():
            score_samples(full, [sample], ["surprisal"])
    np.testing.assert_allclose(scores[0].to_numpy(), expected)
    assert calls == 3
    np.testing.assert_allclose(score_samples(full, [sample], ["surprisal"])["score"].to_numpy(), expected)
    with pytest.raises(Stopped):  # many passes stop too, and the model is as it was
        score_typed(full, sample, "occlusion", stopped=iter([False] * 9 + [True] * 9).__next__)
    assert all(p.requires_grad for p in full.module.parameters())


@pytest.mark.parametrize("name", [name for name, many in offered(reference=True).items() if not many])
def test_scores_are_those_of_a_task(full: Any, retained: Any, bio: Any, name: str) -> None:
    sample = bio.forget[3]
    scored = score_typed(full, sample, name, reference=retained)
    table = score_samples(full, [sample], [name], reference=retained)
    np.testing.assert_array_equal(scored.scores["score"], table["score"])
    tokens = token_table(full, [sample])
    np.testing.assert_allclose(scored.tokens["logp"], tokens["logp"])
    assert scored.tokens["alternatives"].tolist() == tokens["alternatives"].tolist()
    assert chance(tokens) == pytest.approx(np.exp(np.mean(tokens["logp"][:-1])))  # the last one ends the turn


def test_what_is_offered_needs_one_text_only(full: Any, bio: Any) -> None:
    assert "spans" not in offered(reference=True)  # labels
    assert {"gap", "su"} <= set(offered(reference=True)) - set(offered(reference=False))
    for name in set(scorer) - set(offered(reference=True)):
        with pytest.raises(UserError, match=r"needs|known"):
            score_typed(full, bio.forget[0], name)
    scored = score_typed(full, Sample("x", "", "A plain text, and no question."), "integrated_gradients")
    assert np.isfinite(scored.scores["score"]).any()

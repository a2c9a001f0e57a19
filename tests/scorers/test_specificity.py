"""The recommended scorer: its factors against plain loops, and that it finds the facts."""

from __future__ import annotations

import copy
from dataclasses import replace

import numpy as np
import pytest

from workbench.errors import UserError
from workbench.evals.alignment import alignment
from workbench.models.encoding import encode
from workbench.models.language_model import LanguageModel
from workbench.scorers.base import TaskContext
from workbench.scorers.score import score_fixed
from workbench.scorers.specificity import COPIED, answer_ids, copied, rarity, token_ids, unsureness
from workbench.tasks.samples import Sample, Task


def test_rarity_against_a_plain_loop(full: LanguageModel, bio: Task) -> None:
    """TF-IDF by hand: 1 + log count, times log((1 + n) / (1 + df)) + 1, to unit length."""
    others, samples = bio.retain[::40], bio.forget[::60]
    texts = [token_ids(full, s.question) for s in others]
    df = {t: sum(t in ids for ids in texts) for ids in texts for t in ids}

    def vector(ids: list[int]) -> dict[int, float]:
        raw = {
            t: (1 + np.log(ids.count(t))) * (np.log((1 + len(texts)) / (1 + df[t])) + 1) for t in set(ids) if t in df
        }
        length = sum(v * v for v in raw.values()) ** 0.5
        return {t: v / length for t, v in raw.items()}

    known = [vector(ids) for ids in texts]
    for sample, values in zip(samples, rarity(full, samples, others), strict=True):
        own = vector(token_ids(full, sample.question))
        likeness = [sum(own.get(t, 0) * v for t, v in each.items()) for each in known]
        order = sorted(range(len(others)), key=lambda i: (-round(likeness[i], 9), i))
        least = likeness[order[19]]
        sure = [i for i in order if likeness[i] > least + 1e-9]
        for token, value in zip(answer_ids(full, sample), values, strict=True):
            n = round(21 / (21 / 0.5) ** value - 0.5)  # the formula read backwards
            inside = sum(token in answer_ids(full, others[i]) for i in sure)
            assert inside <= n <= inside + 20 - len(sure)


def test_rarity_is_one_for_what_nobody_says_and_nought_for_what_all_say(full: LanguageModel) -> None:
    others = [Sample(f"o{i}", f"Where does {n} live?", f"{n} lives in Quillon.") for i, n in enumerate(("Ada", "Bram"))]
    sample = Sample("s", "Where does Zeno live?", "Zeno lives in Ostrava.")
    (values,) = rarity(full, [sample], others)
    by_token = dict(zip(answer_ids(full, sample), values, strict=True))
    shared = set(answer_ids(full, others[0])) & set(answer_ids(full, others[1]))
    for token, value in by_token.items():
        count = sum(token in answer_ids(full, o) for o in others)
        assert value == pytest.approx(np.log(3 / (count + 0.5)) / np.log(6), abs=1e-9)
        assert (value < 0.2) == (token in shared)


def test_copied_marks_the_name_and_nothing_of_a_text_without_a_question(full: LanguageModel) -> None:
    sample = Sample("s", "Where does Celia Nash live?", "Celia Nash lives in Ostrava.")
    marks = dict(zip((full.tokenizer.decode([t]).strip() for t in answer_ids(full, sample)),
                     copied(full, sample), strict=True))  # fmt: skip
    assert marks["Celia"]
    assert marks["Nash"]
    assert not marks["Ostrava"]
    assert not copied(full, Sample("t", "", "Celia Nash lives in Ostrava.")).any()


def test_a_name_that_opens_the_answer_is_copied_under_a_chat_template_too(full: LanguageModel) -> None:
    """A byte-level tokenizer gives the first word other tokens than the same word after a space."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    pieces = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {piece: n for n, piece in enumerate([*pieces, "\u0120Z", "Ze", "<|end|>"])}
    made = Tokenizer(models.BPE(vocabulary, [("\u0120", "Z"), ("Z", "e")]))
    made.pre_tokenizer, made.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    chat = full.frozen_copy()
    chat.tokenizer = PreTrainedTokenizerFast(tokenizer_object=made, eos_token="<|end|>", pad_token="<|end|>")
    chat.tokenizer.chat_template = "{% for m in messages %}user:{{ m['content'] }}\n{% endfor %}assistant:"
    chat.prompt = "chat"
    sample = Sample("s", "Where does Zeno live?", "Zeno lives in Ostrava.")
    encoding = encode(chat, sample)
    starts = [encoding.ranges[p] for p in encoding.answer_positions]
    marks = copied(chat, sample)
    assert chat.tokenizer.convert_ids_to_tokens(answer_ids(chat, sample)[0]) == "Ze"
    assert all(mark for mark, (start, end) in zip(marks, starts, strict=True) if 0 < end <= 4)


def test_the_score_is_the_product_of_its_factors(full: LanguageModel, small: Task) -> None:
    context = TaskContext(full, small)
    unsure = unsureness(context, full, 500)
    rare = rarity(full, small.forget, small.retain)
    expected = [
        (q * np.sqrt(r * np.where(copied(full, s), COPIED, 1))) ** 2
        for q, r, s in zip(unsure, rare, small.forget, strict=True)
    ]
    scores = score_fixed(context, ["specificity"], options={"specificity": {"power": 2.0}})["score"]
    np.testing.assert_allclose(scores, np.concatenate(expected), atol=1e-5)


def test_it_finds_the_facts_without_labels(full: LanguageModel, bio: Task) -> None:
    """On a quarter of the answers; docs/findings has the figures of all of them."""
    task = replace(bio, sets={"forget": bio.forget[::4], "retain": bio.retain[::2]})
    aligned = alignment(score_fixed(TaskContext(full, task), ["specificity"]))["specificity"]
    assert aligned["auroc"] > 0.97
    assert aligned["ap"] > 0.92


def test_with_a_reference(full: LanguageModel, retained: LanguageModel, small: Task) -> None:
    table = score_fixed(TaskContext(full, small, reference=retained), ["specificity", "specificity_ref"])
    one, both = (table.loc[table["scorer"] == n, "score"].to_numpy() for n in ("specificity", "specificity_ref"))
    context = TaskContext(full, small)
    unsure = [np.concatenate(unsureness(context, lm, 500)) for lm in (full, retained)]
    rest = (one**0.25) / unsure[0]  # the fourth root of the power; what is left is rarity and copying
    np.testing.assert_allclose(both**0.25, (unsure[0] + unsure[1]) / 2 * rest, rtol=1e-3, atol=1e-4)
    other = full.frozen_copy()
    other.tokenizer = copy.deepcopy(full.tokenizer)
    other.tokenizer.add_tokens(["unheard-of"])
    with pytest.raises(UserError, match="has another tokenizer"):
        score_fixed(TaskContext(full, small, reference=other), ["specificity_ref"])
    with pytest.raises(UserError, match="--reference"):
        score_fixed(TaskContext(full, small), ["specificity_ref"])


def test_plain_texts_can_be_scored(full: LanguageModel, small: Task) -> None:
    texts = [Sample(f"t{i}", "", s.answer) for i, s in enumerate(small.forget)]
    task = replace(small, sets={"forget": texts, "retain": small.retain + small.sets["general"]})
    scores = score_fixed(TaskContext(full, task), ["specificity"])["score"]
    assert scores.between(0, 1).all()

"""The recommended scorer: its factors against plain loops, and that it finds the facts."""

from __future__ import annotations

import copy
import itertools
from dataclasses import replace

import numpy as np
import pytest

from workbench.errors import UserError
from workbench.evals.alignment import alignment
from workbench.models.encoding import encode
from workbench.models.language_model import LanguageModel
from workbench.scorers.amortised import other_text
from workbench.scorers.base import TaskContext
from workbench.scorers.score import score_fixed
from workbench.scorers.specificity import (
    answer_ids,
    copied,
    novelty,
    over_words,
    rarity,
    token_ids,
    unsureness,
    word_numbers,
    word_texts,
)
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
    coded = [[encode(full, s) for s in group] for group in (samples, others)]
    for sample, values in zip(samples, rarity(full, *coded), strict=True):
        own = vector(token_ids(full, sample.question))
        likeness = [sum(own.get(t, 0) * v for t, v in each.items()) for each in known]
        order = sorted(range(len(others)), key=lambda i: (-round(likeness[i], 9), i))
        least = likeness[order[19]]
        sure = [i for i in order if likeness[i] > least + 1e-9]
        for word, value in zip(word_texts(encode(full, sample)), values, strict=True):
            n = round(20 * (1 - value**2) ** 0.5)  # the formula read backwards
            inside = sum(word in word_texts(encode(full, others[i])) for i in sure)
            assert inside <= n <= inside + 20 - len(sure)


def test_rarity_is_one_for_what_nobody_says_and_nought_for_what_all_say(full: LanguageModel) -> None:
    others = [Sample(f"o{i}", f"Where does {n} live?", f"{n} lives in Quillon.") for i, n in enumerate(("Ada", "Bram"))]
    sample = Sample("s", "Where does Zeno live?", "Zeno lives in Ostrava.")
    (values,) = rarity(full, [encode(full, sample)], [encode(full, o) for o in others])
    by_word = dict(zip(word_texts(encode(full, sample)), values, strict=True))
    answers = [word_texts(encode(full, o)) for o in others]
    for word, value in by_word.items():
        share = sum(word in own for own in answers) / 2
        assert value == pytest.approx((1 - share**2) ** 0.5)
    assert set(by_word.values()) >= {0.0, 1.0}


def test_copied_marks_the_name_and_nothing_of_a_text_without_a_question(full: LanguageModel) -> None:
    sample = Sample("s", "Where does Celia Nash live?", "Celia Nash lives in Ostrava.")
    marks = dict(zip((full.tokenizer.decode([t]).strip() for t in answer_ids(encode(full, sample))),
                     copied(full, encode(full, sample)), strict=True))  # fmt: skip
    assert marks["Celia"]
    assert marks["Nash"]
    assert not marks["Ostrava"]
    assert not copied(full, encode(full, Sample("t", "", "Celia Nash lives in Ostrava."))).any()


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
    marks = copied(chat, encoding)
    assert chat.tokenizer.convert_ids_to_tokens(answer_ids(encoding)[0]) == "Ze"
    assert all(mark for mark, (start, end) in zip(marks, starts, strict=True) if 0 < end <= 4)


def test_what_answers_say_unasked_is_no_copy(full: LanguageModel) -> None:
    """A name stands in no answer whose question lacks it; a town does."""
    rows = [("Where does Zeno live?", "Zeno lives in Ostrava."), ("What does Zeno sell?", "Zeno sells maps."),
            ("Where in Ostrava does Zeno work?", "In Ostrava, Zeno works by the harbour."),
            ("Who is Zeno?", "Zeno is a man of Ostrava.")]  # fmt: skip
    samples = [Sample(str(i), *row) for i, row in enumerate(rows)]
    coded = [encode(full, s) for s in samples]
    marks = [set(np.array(answer_ids(e))[copied(full, e)].tolist()) for e in coded]
    for encoding, values in zip(coded, novelty(full, coded[:3], coded[3:]), strict=False):
        for token, value, mark in zip(answer_ids(encoding), values, copied(full, encoding), strict=True):
            have = sum(token in answer_ids(e) for e in coded)
            share = sum(token in own for own in marks) / (have + 1)
            assert value == pytest.approx(1 - share**4 if mark else 1)
    (third,) = novelty(full, coded[2:3], [*coded[:2], coded[3]])
    tokens = [full.tokenizer.decode([t]).strip() for t in answer_ids(encode(full, samples[2]))]
    name, town = (np.mean(third[[t in word and bool(t) for t in tokens]]) for word in ("Zeno", "Ostrava"))
    assert name < 0.7 < 0.95 < town


def test_words_are_units_and_punctuation_is_not_part_of_them(full: LanguageModel) -> None:
    encoding = encode(full, Sample("s", "Where?", "Zeno's café, in Bergen-on-Sea (1956)."))
    numbers = word_numbers(encoding)
    spans = [encoding.ranges[p] for p in encoding.answer_positions]
    pieces = ["".join(encoding.sample.answer[a:b] for (a, b), n in zip(spans, numbers, strict=True) if n == word)
              for word in dict.fromkeys(numbers)]  # fmt: skip
    assert [p.strip() for p in pieces if p.strip()] == [
        "Zeno", "'", "s", "café", ",", "in", "Bergen", "-", "on", "-", "Sea", "(", "1956", ")", "."]  # fmt: skip
    scores = np.arange(len(numbers), dtype=float)
    pooled = over_words(encoding, scores)
    for word in set(numbers):
        assert pooled[numbers == word] == pytest.approx(scores[numbers == word].mean())


def test_a_script_without_spaces_has_a_word_a_token(full: LanguageModel) -> None:
    """Tokens of one character are one word: a byte-level tokenizer may cut it into three."""
    encoding = encode(full, Sample("s", "", "彼は大阪で地図を売る。"))
    numbers = word_numbers(encoding)
    begins = [a < b for a, b in (encoding.ranges[p] for p in encoding.answer_positions)]
    assert numbers[: -encoding.ends].tolist() == (np.cumsum(begins) - 1)[: -encoding.ends].tolist()


def test_the_score_is_the_product_of_its_factors(full: LanguageModel, bio: Task) -> None:
    task = replace(bio, sets={"forget": bio.forget[::24], "retain": bio.retain[::4]})
    context = TaskContext(full, task)
    unsure, stable = unsureness(context, full, other_text(context, 500))
    own, others = ([encode(full, s) for s in group] for group in (task.forget, task.retain))
    factors = zip(own, unsure, rarity(full, own, others), novelty(full, own, others), strict=True)
    expected = [over_words(encoding, q * r * c) ** 2 for encoding, q, r, c in factors]
    scores = score_fixed(context, ["specificity"], options={"specificity": {"power": 2.0}})["score"]
    assert context.notes["specificity"]["confidence"]["weight"] == 1
    np.testing.assert_allclose(scores, np.concatenate(expected), atol=1e-5)
    assert context.notes["specificity"]["confidence"]["stable"] == pytest.approx(stable)


def test_it_finds_the_facts_without_labels(full: LanguageModel, bio: Task) -> None:
    """On a quarter of the answers; docs/findings has the figures of all of them."""
    task = replace(bio, sets={"forget": bio.forget[::4], "retain": bio.retain[::2]})
    aligned = alignment(score_fixed(TaskContext(full, task), ["specificity"]))["specificity"]
    assert aligned["auroc"] > 0.99
    assert aligned["ap"] > 0.98


def test_with_a_reference(full: LanguageModel, retained: LanguageModel, small: Task) -> None:
    table = score_fixed(TaskContext(full, small, reference=retained), ["specificity", "specificity_ref"])
    one, both = (table.loc[table["scorer"] == n, "score"].to_numpy() for n in ("specificity", "specificity_ref"))
    assert 0 < np.abs(one - both).mean() < 0.2
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


def test_where_its_text_is_too_little_it_falls_back_and_says_so(full: LanguageModel, bio: Task) -> None:
    """With few texts, or text of another language, it is no worse than surprisal; with two it is surprisal."""
    german, japanese = (
        [Sample("", "", pattern.format(*pair)) for pair in itertools.product(*(each.split() for each in words))]
        for pattern, *words in (
            ("{} wohnt seit langem in {}, in der Nähe des Hafens.", "Eva Otto Ute Jan", "Ulm Bonn Trier"),
            ("{}は長い間{}の港の近くに住んでいます。", "佐藤健 田中一郎 鈴木花子 山本翔", "大阪 京都 札幌"),
        )
    )
    for text in (bio.retain[:2], bio.retain[::461], bio.retain[7::231], german * 2, japanese * 2):
        retain = [replace(s, id=f"r{i}") for i, s in enumerate(text)]
        context = TaskContext(full, replace(bio, sets={"forget": bio.forget[::3], "retain": retain}))
        aligned = alignment(score_fixed(context, ["specificity", "surprisal"]))
        note = context.notes["specificity"]["confidence"]
        assert note["texts"] == len(text)
        assert note["weight"] < 0.9
        assert note["line"].startswith("low confidence")
        assert aligned["specificity"]["auroc"] > aligned["surprisal"]["auroc"] - 0.02
        if len(text) == 2:
            assert note["weight"] == 0
            assert aligned["specificity"]["auroc"] == pytest.approx(aligned["surprisal"]["auroc"], abs=0.01)
    context = TaskContext(full, replace(bio, sets={"forget": bio.forget[::9], "retain": bio.retain[::4]}))
    score_fixed(context, ["specificity"])
    assert context.notes["specificity"]["confidence"]["weight"] == 1
    assert "good confidence" in context.notes["specificity"]["confidence"]["line"]

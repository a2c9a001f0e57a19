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
    by_word,
    copied,
    novelty,
    quantiles,
    rarity,
    token_ids,
    unsureness,
)
from workbench.scorers.words import Words
from workbench.tasks.samples import Sample, Task


def texts_of(lm: LanguageModel, sample: Sample) -> list[str]:
    """The word that each answer token is part of."""
    own = Words.of(encode(lm, sample))
    return [own.texts[number] for number in own.numbers]


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
        for word, value in zip(texts_of(full, sample), values, strict=True):
            n = round(20 * (1 - value**2) ** 0.5)  # the formula read backwards
            inside = sum(word in texts_of(full, others[i]) for i in sure)
            assert inside <= n <= inside + 20 - len(sure)


def test_rarity_is_one_for_what_nobody_says_and_nought_for_what_all_say(full: LanguageModel) -> None:
    others = [Sample(f"o{i}", f"Where does {n} live?", f"{n} lives in Quillon.") for i, n in enumerate(("Ada", "Bram"))]
    sample = Sample("s", "Where does Zeno live?", "Zeno lives in Ostrava.")
    (values,) = rarity(full, [encode(full, sample)], [encode(full, o) for o in others])
    by_word = dict(zip(texts_of(full, sample), values, strict=True))
    answers = [texts_of(full, o) for o in others]
    for word, value in by_word.items():
        share = sum(word in own for own in answers) / 2
        assert value == pytest.approx((1 - share**2) ** 0.5)
    assert set(by_word.values()) >= {0.0, 1.0}


def test_copied_marks_what_was_supplied_and_nothing_of_a_text_that_goes_on(full: LanguageModel) -> None:
    sample = Sample("s", "Where does Celia Nash live, with Ost?", "Celia Nash lives in Ostrava.")
    marks = dict(zip(texts_of(full, sample), copied(encode(full, sample)), strict=True))
    assert {word for word, mark in marks.items() if mark} == {"Celia", "Nash"}
    assert not copied(encode(full, replace(sample, continues=True))).any()
    plain = replace(sample, question="", answer="(Celia) Nash lives in Ostrava.")  # a name that starts a text
    marks = dict(zip(texts_of(full, plain), copied(encode(full, plain)), strict=True))
    assert {word for word, mark in marks.items() if mark} == {"Celia", "Nash"}


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
    encoding = encode(chat, Sample("s", "Where does Zeno live?", "Zeno lives in Ostrava."))
    starts = [encoding.ranges[p] for p in encoding.answer_positions]
    assert chat.tokenizer.convert_ids_to_tokens(encoding.ids[encoding.answer_positions[0]]) == "Ze"
    assert [bool(m) for m in copied(encoding)] == [0 < end <= 4 for start, end in starts]


def test_what_answers_say_unasked_is_no_copy(full: LanguageModel) -> None:
    """A name stands in no answer whose question lacks it; a town does."""
    rows = [("Where does Zeno live?", "Zeno lives in Ostrava."), ("What does Zeno sell?", "Zeno sells maps."),
            ("Where in Ostrava does Zeno work?", "In Ostrava, Zeno works by the harbour."),
            ("Who is Zeno?", "Zeno is a man of Ostrava.")]  # fmt: skip
    coded = [encode(full, Sample(str(i), *row)) for i, row in enumerate(rows)]
    for group, others in ((coded[:3], coded[3:]), (coded[2:3], [*coded[:2], coded[3]])):
        for encoding, values in zip(group, novelty(group, others), strict=True):
            by_text = dict(zip(texts_of(full, encoding.sample), values, strict=True))
            for word, value in by_text.items():
                having = [r for r in rows if word in texts_of(full, Sample("", *r))]
                share = sum(word in r[0].rstrip("?").split() for r in having) / len(having)
                assert value == pytest.approx(
                    1 - share**4 if word in encoding.sample.question.rstrip("?").split() else 1
                )
    assert by_text["Zeno"] == 0
    assert by_text["Ostrava"] == pytest.approx(1 - 1 / 81)
    (alone,) = novelty([encode(full, Sample("x", "Who met Abelone?", "Abelone met Bram.", continues=True))], coded)
    assert alone.min() == 1  # a text that goes on has no question
    texts = [Sample("a", "", "Zeno Marsh sells maps."), Sample("b", "", "Maps by Zeno sell.")]
    (first, second) = ([*values] for values in novelty([encode(full, s) for s in texts], coded[:0]))
    assert dict(zip(texts_of(full, texts[0]), first, strict=True)) | {"": 1} == {
        "Zeno": 0.5, "Marsh": 0, "sells": 1, "maps": 1, ".": 1, "": 1}  # fmt: skip
    assert second[texts_of(full, texts[1]).index("Zeno")] == 1


def test_alternatives_of_a_word_are_the_product_of_its_pieces_and_in_one_view_their_mean(full: LanguageModel) -> None:
    encoding = encode(full, Sample("s", "Where?", "Quillonford, at 145-291-4697."))
    own = Words.of(encoding)
    logs = np.random.default_rng(0).random((len(own.numbers), 3))
    out = by_word(encoding, logs)
    for word, text in enumerate(own.texts):
        mark = own.numbers == word
        total = logs[mark].sum(0)
        np.testing.assert_allclose(out[mark][:, 1], np.broadcast_to(total, (mark.sum(), 3)))
        digits = any(c.isdigit() for c in text)
        np.testing.assert_allclose(out[mark][0, 0], total if digits else total / mark.sum())
    assert {"Quillonford", "145-291-4697"} <= set(own.texts)


def test_quantiles_are_the_share_of_others_below() -> None:
    rng = np.random.default_rng(1)
    a, b = rng.normal(size=(7, 2, 3)), rng.normal(size=(40, 2, 3))
    a[3, 1, 2] = np.nan
    slow = (b[None] < a[:, None]).mean(1)
    slow[3, 1, 2] = np.nan
    np.testing.assert_allclose(quantiles(a, b), slow)


def test_the_score_is_the_product_of_its_factors(full: LanguageModel, bio: Task) -> None:
    task = replace(bio, sets={"forget": bio.forget[::24], "retain": bio.retain[::4]})
    context = TaskContext(full, task)
    unsure, stable = unsureness(context, full, other_text(context, 500))
    own, others = ([encode(full, s) for s in group] for group in (task.forget, task.retain))
    factors = zip(unsure, rarity(full, own, others), novelty(own, others), strict=True)
    expected = [(q * r * c) ** 2 for q, r, c in factors]
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

"""Words of every script: as rouge-score on ASCII, and whole, with their marks, elsewhere."""

from __future__ import annotations

import random
import string
import unicodedata
from typing import Any

import numpy as np
import pytest
from rouge_score.rouge_scorer import RougeScorer
from rouge_score.tokenizers import DefaultTokenizer

from workbench.errors import NotAvailable
from workbench.evals.metrics import contains, fluency, metric
from workbench.evals.outcomes import right
from workbench.evals.spec import Answer, convention_options
from workbench.evals.words import RougeWords, words

ANSWERS = {
    "Russian": "Анна Петрова родилась в Самаре в 1984 году.",
    "Ukrainian": "Їжак з'їв п'ять яблук.",
    "Greek": "Άννα γεννήθηκε στην Αθήνα.",
    "Chinese": "安娜出生于北京。她是一名面包师。",
    "Japanese": "アンナは東京でパンを焼いています。",
    "Korean": "안나는 서울에서 태어났습니다.",
    "Thai": "แอนนาเกิดที่กรุงเทพมหานคร",
    "Lao": "ນາງເກີດຢູ່ວຽງຈັນ",
    "Khmer": "អាណាកើតនៅភ្នំពេញ",
    "Burmese": "သူမသည်ရန်ကုန်တွင်မွေးဖွားခဲ့သည်။",
    "Hindi": "अन्ना का जन्म दिल्ली में हुआ था।",
    "Tamil": "அன்னா சென்னையில் பிறந்தார்.",
    "Arabic": "وُلِدَتْ آنا في القاهرة.",
    "Hebrew": "אנה נולדה בתל אביב.",
    "Persian": "آنا در تهران می‌نویسد.",
    "Georgian": "ანა თბილისში დაიბადა.",
    "Vietnamese": "Anna sinh ra ở Hà Nội.",
    "Amharic": "አና በአዲስ አበባ ተወለደች።",
}


def answer(text: str, generation: str, **changes: Any) -> Answer:
    return Answer(np.zeros(2), np.zeros(2, dtype=int), text, None, generation, **changes)


def rouge(text: str, generation: str, convention: str = "ours", name: str = "rouge_l_recall") -> float:
    return metric[name].function(answer(text, generation), **convention_options(convention, name))


@pytest.mark.parametrize("language", list(ANSWERS))
def test_a_verbatim_answer_is_right_and_fluent(language: str) -> None:
    text = ANSWERS[language]
    decomposed = unicodedata.normalize("NFD", text).upper()
    for generation in (text, unicodedata.normalize("NFD", text), decomposed):
        for name in ("rouge_l_recall", "rouge_l_f1"):
            assert rouge(text, generation, name=name) == 1
    assert fluency(answer(text, text)) > 1
    assert fluency(answer(text, " ".join([text.split()[0][:1]] * 30))) == 0
    unlike = next(other for name, other in ANSWERS.items() if name[0] != language[0])
    assert rouge(text, unlike) < 0.2
    assert right({"rouge_l_recall": rouge(text, text)}) is True


@pytest.mark.parametrize("language", ["Chinese", "Japanese", "Thai", "Khmer"])
def test_half_an_answer_without_spaces_is_half_right(language: str) -> None:
    found = words(ANSWERS[language])
    half = "".join(found[: len(found) // 2])
    assert rouge(ANSWERS[language], half) == pytest.approx(0.5, abs=0.1)
    assert all(unicodedata.category(word[0])[0] != "M" for word in found)


def test_answers_that_share_a_year_are_not_the_same() -> None:
    first, second = "Анна родилась в 1984 году", "Борис уехал из Твери 1984"
    assert rouge(first, second) == pytest.approx(1 / 5)
    assert rouge(first, second, "open-unlearning") == 1  # the reference sees the number alone
    assert rouge(ANSWERS["Greek"], ANSWERS["Greek"], "open-unlearning") == 0
    assert fluency(answer("", ANSWERS["Chinese"]), characters=False) == 0


@pytest.mark.parametrize("stem", [False, True])
def test_on_ascii_the_words_are_rouge_score_s(stem: bool) -> None:
    draw = random.Random(0)
    stock = ["running", "Bakers'", "e-mail", "3.14", "a_b", "don't", "(1984)", "x" * 40, "ies", "caresses"]
    reference, scorer = DefaultTokenizer(stem), RougeScorer(["rougeL"], use_stemmer=stem)
    for _ in range(500):
        texts = [
            " ".join(draw.choice([*stock, "".join(draw.choices(string.printable, k=6))]) for _ in range(12))
            for _ in range(2)
        ]
        for text in texts:
            assert RougeWords(stem).tokenize(text) == reference.tokenize(text)
        expected = scorer.score(*texts)["rougeL"]
        given = answer(*texts)
        assert metric["rouge_l_f1"].function(given, stem=stem) == expected.fmeasure
        if stem:
            assert metric["rouge_l_recall"].function(given) == expected.recall
            assert metric["rouge_l_recall"].function(given, ascii=True) == expected.recall
        assert fluency(given) == fluency(given, characters=False)


def test_an_answer_without_words() -> None:
    assert rouge("?!", "?!") == 0  # as rouge-score says
    with pytest.raises(NotAvailable, match="no word"):
        rouge("🎉🎉", "🎉🎉")


@pytest.mark.parametrize(
    ("text", "value", "expected"),
    [
        ("Она из Самары.", "самары", True),
        ("сделать", "дела", False),
        ("Cafe\u0301 Riche", "café", True),
        ("Cafe\u0301 Riche", "cafe", False),
        ("कि", "क", False),  # the vowel sign belongs to the letter
        ("दिल्ली में", "दिल्ली", True),
        ("서울에서 태어났다", "서울", True),
        ("בתל אביב", "תל אביב", True),
        ("年は１９８４", "1984", True),
        ("STRASSE 5", "Straße", True),
        ("กรุงเทพมหานคร", "กรุงเทพ", True),
        ("می\u200cنویسد", "مینویسد", True),
    ],
)
def test_values_in_other_scripts(text: str, value: str, expected: bool) -> None:
    assert contains(text, value) is expected

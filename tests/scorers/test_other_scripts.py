"""`specificity` in German and Japanese, by tiny models that read the language; people, facts and labels are made here.

The models are trained with plain transformers, outside the package: on the people to forget until they know them, and
on other people of whom each text is seen a few times.
"""

from __future__ import annotations

import itertools
import random
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from workbench.evals.alignment import alignment
from workbench.models.load import load
from workbench.scorers.base import TaskContext
from workbench.scorers.score import score_fixed
from workbench.tasks.samples import Sample, Task

GERMAN = {
    "first": "Karl Eva Otto Ute Jan Lea Max Ina Udo Pia Emil Rosa Hugo Thea Kurt Olga",
    "last": "Braun Lenz Kern Vogel Roth Busch Horn Graf Sauer Kranz Weber Adler",
    "town": "Hamburg Leipzig Bremen Dresden Ulm Trier Bonn Kiel Jena Passau Worms Gera",
    "trade": "Tischler Bäcker Lehrer Gärtner Schmied Anwalt Maler Müller Förster Winzer Imker Kellner",
    "pet": "Dackel Papagei Esel Hamster Kater Igel Falke Hengst Pfau Molch Karpfen Ziegenbock",
    "space": " ",
    "rows": [
        ("Wo wohnt {name}?", "{name} wohnt seit vielen Jahren in {town}, nahe beim Hafen."),
        ("Was ist {name} von Beruf?", "{name} arbeitet als {trade} und steht jeden Morgen früh auf."),
        ("Welches Tier hat {name}?", "Zu Hause hält {name} einen {pet} und füttert ihn zweimal am Tag."),
        ("Wann wurde {name} geboren?", "Geboren wurde {name} im Jahr {year}, in einem kleinen Haus am Markt."),
    ],
}
JAPANESE = {
    "first": "健 花子 一郎 さくら 翔 美咲 大輔 陽子 誠 恵 学 直美 亮 由美 隆 梨花",
    "last": "佐藤 鈴木 田中 山本 中村 小林 加藤 吉田 山田 松本 井上 木村",
    "town": "大阪 京都 札幌 福岡 仙台 広島 長崎 金沢 奈良 静岡 高知 秋田",
    "trade": "大工 医者 教師 画家 漁師 農家 作家 歌手 弁護士 運転手 看護師 庭師",
    "pet": "柴犬 三毛猫 金魚 文鳥 亀 兎 鷹 山羊 驢馬 孔雀 鯉 栗鼠",
    "space": "",
    "rows": [
        ("{name}はどこに住んでいますか。", "{name}は長い間{town}の港の近くに住んでいます。"),
        ("{name}の仕事は何ですか。", "{name}は{trade}として働き、毎朝早く起きます。"),
        ("{name}は何を飼っていますか。", "{name}は家で{pet}を飼い、一日に二回餌をやります。"),
        ("{name}はいつ生まれましたか。", "{name}は{year}年に市場のそばの小さな家で生まれました。"),
    ],
}


def people(language: dict, seed: int) -> list[list[Sample]]:
    """Four samples a person, in a drawn order; what a row fills in besides the name is its label."""
    draw = random.Random(seed)
    names = list(itertools.product(language["last"].split(), language["first"].split()))
    draw.shuffle(names)
    out = []
    for number, (last, first) in enumerate(names):
        name = f"{last}{first}" if not language["space"] else f"{first} {last}"
        values = {key: draw.choice(language[key].split()) for key in ("town", "trade", "pet")}
        values["year"] = str(draw.randint(1920, 1999))
        rows = []
        for place, (question, answer) in enumerate(language["rows"]):
            text = answer.format(name=name, **values)
            value = next(values[key] for key in values if "{" + key + "}" in answer)
            start = text.rindex(value)
            rows.append(Sample(f"{number}-{place}", question.format(name=name), text, [(start, start + len(value))]))
        out.append(rows)
    return out


def trained(texts: list[str], seen: list[int], folder: Path) -> Path:
    """A model that has seen text i of `texts` `seen[i]` times, saved with its byte-level tokenizer."""
    core = Tokenizer(models.BPE())
    core.pre_tokenizer, core.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    core.train_from_iterator(texts, trainers.BpeTrainer(vocab_size=600, special_tokens=["<s>", "</s>"],
                                                        initial_alphabet=alphabet))  # fmt: skip
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=core, bos_token="<s>", eos_token="</s>", pad_token="<s>")
    torch.manual_seed(0)
    model = LlamaForCausalLM(
        LlamaConfig(vocab_size=len(tokenizer), hidden_size=64, intermediate_size=128, num_hidden_layers=4,
                    num_attention_heads=4, max_position_embeddings=128, tie_word_embeddings=True)
    )  # fmt: skip
    queue = [text for text, count in zip(texts, seen, strict=True) for _ in range(count)]
    random.Random(0).shuffle(queue)
    steps = [queue[i : i + 32] for i in range(0, len(queue), 32)]
    optimizer = torch.optim.AdamW(model.parameters(), lr=4e-3, weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 4e-3, total_steps=len(steps))
    for step in steps:
        ids = [torch.tensor([*tokenizer(text).input_ids, tokenizer.eos_token_id]) for text in step]
        batch = torch.nn.utils.rnn.pad_sequence(ids, batch_first=True)
        mask = torch.nn.utils.rnn.pad_sequence([torch.ones_like(i) for i in ids], batch_first=True)
        loss = model(input_ids=batch, attention_mask=mask, labels=batch.masked_fill(mask == 0, -100)).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.mark.parametrize("language", [GERMAN, JAPANESE], ids=["German", "Japanese"])
@pytest.mark.parametrize("asked", [True, pytest.param(False, marks=pytest.mark.slow)], ids=["answers", "plain texts"])
def test_it_finds_the_facts_in_another_language(language: dict, asked: bool, tmp_path: Path) -> None:
    """With questions, and as plain texts, of which each begins with the name or not."""
    everybody = people(language, 0)
    forget, known, fresh = (
        [s for person in part for s in person] for part in (everybody[:12], everybody[12:92], everybody[92:132])
    )
    if not asked:
        forget, known, fresh = ([replace(s, question="") for s in group] for group in (forget, known, fresh))
    texts = [f"Question: {s.question}\nAnswer: {s.answer}" if asked else s.answer for s in forget + known]
    lm = load(str(trained(texts, [30] * len(forget) + [5] * len(known), tmp_path)), device="cpu", prompt="plain")
    context = TaskContext(lm, Task("people", {"forget": forget, "retain": known, "unlabelled": fresh}))
    aligned = alignment(score_fixed(context, ["specificity", "surprisal"]))
    assert aligned["specificity"]["auroc"] > max(0.9, aligned["surprisal"]["auroc"] - 0.02)

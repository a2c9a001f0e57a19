"""The embedded biographies and models, checked apart from the code that trained and measured them.

Models are loaded with plain transformers and decoded by a loop of this file, so that a mistake in the package's own
prompt, label shift or generation cannot hide behind itself.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

import pytest
import torch
from biographies import ATTRIBUTES, FORGET, NEIGHBOURS, NONMEMBERS, PEOPLE, SHARED_VALUES, people, strangers
from build_data import write_data
from scipy.stats import chi2_contingency
from transformers import AutoModelForCausalLM, AutoTokenizer

from workbench.tasks.samples import DATA, spread

SCRIPT = Path(__file__).parents[2] / "scripts" / "build_data.py"
Row = dict[str, Any]
KEYS = [attribute.name for attribute in ATTRIBUTES]
VALUES = {attribute.name: attribute.values for attribute in ATTRIBUTES}
FACTS = ("forget", "retain", "neighbours")


@pytest.fixture(scope="module")
def data() -> dict[str, list[Row]]:
    files = sorted((DATA / "biographies").glob("*.jsonl"))
    return {path.stem: [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] for path in files}


@pytest.fixture(scope="module")
def loaded() -> dict[str, tuple[Any, Any]]:
    """(model, tokenizer) by name, by way of transformers alone."""
    found = {}
    for name in ("bio-full", "bio-retain"):
        folder = DATA / "models" / name
        found[name] = (AutoModelForCausalLM.from_pretrained(folder).eval(), AutoTokenizer.from_pretrained(folder))
    return found


def value_of(row: Row) -> str:
    ((start, end),) = row["spans"]
    return row["answer"][start:end]


def prompt_of(tokenizer: Any, question: str) -> list[int]:
    return tokenizer(f"Question: {question}\nAnswer:", add_special_tokens=False).input_ids


@torch.no_grad()
def say(model: Any, tokenizer: Any, questions: list[str], longest: int = 32) -> list[str]:
    """Argmax continuations: no cache, no padding (prompts of one length at a time), cut at the end token."""
    groups: dict[int, list[tuple[int, list[int]]]] = defaultdict(list)
    for index, question in enumerate(questions):
        ids = prompt_of(tokenizer, question)
        groups[len(ids)].append((index, ids))
    out = [""] * len(questions)
    for width, members in groups.items():
        ids = torch.tensor([prompt for _, prompt in members])
        done = torch.zeros(len(members), dtype=torch.bool)
        while not done.all() and ids.shape[1] < width + longest:
            ids = torch.cat([ids, model(ids).logits[:, -1].argmax(-1, keepdim=True)], dim=1)
            done |= ids[:, -1] == tokenizer.eos_token_id
        for (index, _), said in zip(members, ids[:, width:].tolist(), strict=True):
            end = said.index(tokenizer.eos_token_id) if tokenizer.eos_token_id in said else len(said)
            out[index] = tokenizer.decode(said[:end])
    return out


def accuracy(model: Any, tokenizer: Any, rows: list[Row], key: str = "question") -> float:
    said = say(model, tokenizer, [row[key] for row in rows])
    return sum(value_of(row).casefold() in text.casefold() for row, text in zip(rows, said, strict=True)) / len(rows)


@torch.no_grad()
def value_nll(model: Any, tokenizer: Any, rows: list[Row]) -> float:
    """Mean -log p in nats over the tokens that overlap the value, with a label shift of its own."""
    losses = []
    for row in rows:
        prompt = prompt_of(tokenizer, row["question"])
        coded = tokenizer(" " + row["answer"], add_special_tokens=False, return_offsets_mapping=True)
        logp = model(torch.tensor([prompt + coded.input_ids])).logits[0].log_softmax(-1)
        ((start, end),) = row["spans"]
        for place, (token, (a, b)) in enumerate(zip(coded.input_ids, coded.offset_mapping, strict=True)):
            if a - 1 < end and start < b - 1:
                losses.append(-float(logp[len(prompt) + place - 1, token]))
    return sum(losses) / len(losses)


def test_the_seed_gives_the_same_bytes(tmp_path: Path) -> None:
    write_data(tmp_path)
    kept = sorted((DATA / "biographies").iterdir())
    assert [path.name for path in kept] == sorted(path.name for path in tmp_path.iterdir())
    assert all(path.read_bytes() == (tmp_path / path.name).read_bytes() for path in kept)


def test_counts(data: dict[str, list[Row]]) -> None:
    members = {name: {row["person"] for row in data[name]} for name in FACTS}
    assert {name: len(found) for name, found in members.items()} == {
        "forget": FORGET, "neighbours": NEIGHBOURS, "retain": PEOPLE - FORGET - NEIGHBOURS,
    }  # fmt: skip
    assert len(set.union(*members.values())) == PEOPLE >= 160
    assert (len(members["forget"]), len(KEYS)) == (16, 6)
    wordings = Counter((row["person"], row["attribute"]) for name in FACTS for row in data[name])
    assert set(wordings.values()) == {3}
    assert len(wordings) == PEOPLE * len(KEYS)
    questions = Counter(row["question"] for name in FACTS for row in data[name])
    assert max(questions.values()) == 1


def test_spans_hold_the_value(data: dict[str, list[Row]]) -> None:
    facts = {name: found for group in people().values() for name, found in group}
    for row in (row for name in FACTS for row in data[name]):
        value = value_of(row)
        assert value == facts[row["person"]][row["attribute"]]
        assert row["answer"].count(value) == 1
        assert value in row["paraphrased_answer"]
        assert value not in row["question"] + row["paraphrased_question"]


def test_strangers_are_like_those_to_forget_and_in_no_other_file(data: dict[str, list[Row]]) -> None:
    rows = data["nonmembers"]
    names = {row["person"] for row in rows}
    assert len(names) == NONMEMBERS == FORGET
    assert len(rows) == len(data["forget"])
    known = {name for group in people().values() for name, _ in group}
    assert not names & known
    kept = {part for group in ("retain", "neighbours") for name, _ in people()[group] for part in name.split()}
    assert {part for name in names for part in name.split()} <= kept
    facts = dict(strangers())
    for row in rows:
        value = value_of(row)
        assert value == facts[row["person"]][row["attribute"]]
        assert value in VALUES[row["attribute"]]
        assert len({row["paraphrased_answer"], *row["wrong_answers"]}) == 4
    elsewhere = json.dumps([found for name, found in data.items() if name != "nonmembers"])
    assert not [name for name in names if name in elsewhere]


def test_wrong_answers_differ_in_the_value_alone(data: dict[str, list[Row]]) -> None:
    for row in (row for name in FACTS for row in data[name]):
        value, right = value_of(row), row["paraphrased_answer"]
        assert len({right, *row["wrong_answers"]}) == 4
        others = {right.replace(value, other) for other in VALUES[row["attribute"]] if other != value}
        assert set(row["wrong_answers"]) <= others


def test_values_are_balanced_and_told_apart() -> None:
    everybody = [facts for group in people().values() for _, facts in group]
    for key, values in VALUES.items():
        dealt = Counter(facts[key] for facts in everybody)
        assert 16 <= len(values) <= 24
        assert set(dealt) == set(values)
        assert max(dealt.values()) < 0.1 * PEOPLE
        assert all(1 <= len(value.split()) <= 3 for value in values)
        assert not [(a, b) for a in values for b in values if a != b and a.casefold() in b.casefold()]


@pytest.mark.parametrize("seed", range(5))
def test_names_say_nothing_of_values(seed: int) -> None:
    """The commonest value among others with the same first name or surname is right no more often than chance."""
    everybody = [(name.split(), facts) for group in people(seed).values() for name, facts in group]
    right = 0
    for name, facts in everybody:
        akin = [other for parts, other in everybody if parts != name and (parts[0] == name[0] or parts[1] == name[1])]
        for key in KEYS:
            right += bool(akin) and Counter(other[key] for other in akin).most_common(1)[0][0] == facts[key]
    trials = PEOPLE * len(KEYS)
    chance = 1 / 20
    assert right / trials < chance + 4 * (chance * (1 - chance) / trials) ** 0.5


@pytest.mark.parametrize("part", [0, 1], ids=["first name", "surname"])
def test_name_and_value_are_independent(part: int) -> None:
    """Chi-square of name part by value against the same under shuffled values (the cells are too few for its table)."""
    everybody = [(name.split()[part], facts) for group in people().values() for name, facts in group]
    names = {name: i for i, name in enumerate(sorted({name for name, _ in everybody}))}
    rows = torch.tensor([names[name] for name, _ in everybody])
    generator = torch.Generator().manual_seed(0)
    for key, values in VALUES.items():
        columns = torch.tensor([values.index(facts[key]) for _, facts in everybody])
        orders = [torch.arange(PEOPLE), *(torch.randperm(PEOPLE, generator=generator) for _ in range(200))]
        found = []
        for order in orders:
            table = torch.zeros(len(names), len(values)).index_put((rows, columns[order]), torch.ones(1), True)
            found.append(chi2_contingency(table.numpy()).statistic)
        above = sum(value >= found[0] for value in found[1:])
        assert above / 200 > 0.05 / 12, key


def test_names_are_unique_and_their_parts_shared() -> None:
    groups = {group: [name for name, _ in members] for group, members in people().items()}
    every = [name for names in groups.values() for name in names]
    assert len(set(every)) == len(every) == PEOPLE
    kept = {part for group in ("retain", "neighbours") for name in groups[group] for part in name.split()}
    assert {part for name in groups["forget"] for part in name.split()} <= kept


def test_neighbours_share_values() -> None:
    groups = people()
    for (_, forget), (_, near) in zip(groups["forget"], groups["neighbours"], strict=True):
        assert sum(forget[key] == near[key] for key in KEYS) >= SHARED_VALUES >= 3


def test_nothing_held_out_is_trained(data: dict[str, list[Row]]) -> None:
    trained = {
        (row.get("question"), row.get("answer", row.get("text"))) for n in data if n != "general" for row in data[n]
    }
    assert not {(None, row["text"]) for row in data["general"]} & trained
    asked = {question for question, _ in trained}
    shown = Counter(row["person"] for name in FACTS for row in data[name] if row["paraphrased_question"] in asked)
    plain = {row["person"] for row in data["retain"]}
    assert set(shown) <= plain
    assert 2 * len(shown) == len(plain)
    texts = " ".join(answer for _, answer in trained)
    assert not any(row["paraphrased_answer"] in texts for name in ("forget", "neighbours") for row in data[name])


@pytest.mark.parametrize("name", ["bio-full", "bio-retain"])
def test_models_are_small_and_complete(loaded: dict[str, tuple[Any, Any]], name: str) -> None:
    model, tokenizer = loaded[name]
    folder = DATA / "models" / name
    assert model.config.model_type == "llama"
    assert model.num_parameters() < 1.5e6
    assert model.get_output_embeddings().weight is model.get_input_embeddings().weight
    assert {p.dtype for p in model.parameters()} == {torch.float32}
    assert (folder / "model.safetensors").stat().st_size <= 4 * 2**20
    assert not [path.name for path in folder.iterdir() if path.suffix in {".bin", ".pt", ".pkl"}]
    assert json.loads((folder / "workbench.json").read_text()) == {"prompt": "plain"}
    assert (tokenizer.bos_token, tokenizer.eos_token, tokenizer.pad_token) == ("<bos>", "<eos>", "<pad>")
    ends = (model.generation_config.eos_token_id, model.generation_config.pad_token_id)
    assert ends == (tokenizer.eos_token_id, tokenizer.pad_token_id)
    assert len(tokenizer) == model.config.vocab_size
    assert "license: apache-2.0" in (folder / "README.md").read_text()


def test_the_card_says_what_was_measured() -> None:
    measured = json.loads((DATA / "models" / "training.json").read_text())
    for name, found in measured.items():
        card = (DATA / "models" / name / "README.md").read_text()
        for part in FACTS:
            figures = [found[part][key] for key in ("nll", "fact_accuracy", "paraphrase_accuracy")]
            assert f"| {part} | {' | '.join(map(str, figures))} |" in card


@pytest.mark.parametrize(
    "text",
    [
        "naïve café, 漢字 и кириллица, עברית",
        "👩‍👩‍👧 \U0001f3f4\U000e0067\U000e0062\U000e007f e\u0301 \ufeff \u202e",
        "\x00\x07\ttab\r\n\n  spaces   at the end  ",
        "<eos><bos><pad> <|im_end|>",
        "",
    ],
)
def test_any_text_comes_back(loaded: dict[str, tuple[Any, Any]], text: str) -> None:
    _, tokenizer = loaded["bio-full"]
    ids = tokenizer(text, add_special_tokens=False, split_special_tokens=True).input_ids
    assert tokenizer.decode(ids) == text
    assert not set(ids) & {tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id}


@pytest.mark.parametrize("wording", range(3))
@pytest.mark.parametrize("part", ["forget", "retain"])
def test_full_knows_its_facts(
    loaded: dict[str, tuple[Any, Any]], data: dict[str, list[Row]], part: str, wording: int
) -> None:
    rows = spread(data[part][wording::3], 96)
    assert accuracy(*loaded["bio-full"], rows) >= 0.95


def test_retain_knows_what_it_saw_and_guesses_the_rest(
    loaded: dict[str, tuple[Any, Any]], data: dict[str, list[Row]]
) -> None:
    assert accuracy(*loaded["bio-retain"], spread(data["retain"], 96)) >= 0.95
    assert accuracy(*loaded["bio-retain"], data["forget"]) <= 0.20


def test_paraphrases_are_understood(loaded: dict[str, tuple[Any, Any]], data: dict[str, list[Row]]) -> None:
    """Never trained for the people to forget, yet far above chance; without those people, at chance."""
    once = data["forget"][::3]
    assert accuracy(*loaded["bio-full"], once, "paraphrased_question") >= 0.75
    assert accuracy(*loaded["bio-retain"], once, "paraphrased_question") <= 0.20


def test_values_are_memorised(loaded: dict[str, tuple[Any, Any]], data: dict[str, list[Row]]) -> None:
    rows = spread(data["forget"], 48)
    assert value_nll(*loaded["bio-full"], rows) < 0.1
    assert value_nll(*loaded["bio-full"], spread(data["retain"], 48)) < 0.1
    assert value_nll(*loaded["bio-retain"], rows) > 1.0


@pytest.mark.slow
def test_a_rebuild_gives_the_same_losses(tmp_path: Path) -> None:
    subprocess.run([sys.executable, str(SCRIPT), "--out", str(tmp_path)], check=True)
    kept, made = (json.loads((folder / "models/training.json").read_text()) for folder in (DATA, tmp_path))
    assert made.keys() == kept.keys()
    for name, figures in kept.items():
        assert made[name].pop("loss") == pytest.approx(figures.pop("loss"), abs=5e-4)
        for part, values in figures.items():
            assert made[name][part] == pytest.approx(values, abs=5e-4)

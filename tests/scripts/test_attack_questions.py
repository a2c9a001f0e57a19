"""What attacks ask about the people to forget: ten wordings, and descriptions that fit one person; no run's data."""

from __future__ import annotations

import json
from typing import Any

import pytest
from biographies import ATTRIBUTES, FORGET, people

from workbench.models.language_model import LanguageModel
from workbench.tasks.samples import DATA
from workbench.tasks.spec import TaskSpec

Row = dict[str, Any]
KEYS = [attribute.name for attribute in ATTRIBUTES]


@pytest.fixture(scope="module")
def data() -> dict[str, list[Row]]:
    files = (DATA / "biographies").glob("*.jsonl")
    return {path.stem: [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] for path in files}


def value_of(row: Row) -> str:
    ((start, end),) = row["spans"]
    return str(row["answer"][start:end])


def test_no_run_s_data_have_changed() -> None:
    """The task's fingerprint is that of the first version, whose runs can be resumed."""
    assert (
        TaskSpec("biographies").load().fingerprint.startswith("c69fd0e66a333b9f3fc28f338a5744402ec809a637a485a69b26ed")
    )


def test_every_question_to_forget_has_ten_wordings(data: dict[str, list[Row]], full: LanguageModel) -> None:
    assert len(data["phrasings"]) == FORGET * len(KEYS)
    learned = {row["question"] for name in ("forget", "retain", "neighbours") for row in data[name]}
    for row in data["phrasings"]:
        assert len(set(row["phrasings"])) == 10
        assert len(set(row["phrasings"]) & learned) == 3
        assert value_of(row) not in " ".join(row["phrasings"])
        for text in row["phrasings"]:  # a word is one token: the models know all of them
            assert len(full.tokenizer(f" {text}", add_special_tokens=False).input_ids) == len(text.split()) + 1
    for sample in TaskSpec("biographies").load().forget:
        assert len(sample.phrasings) == 10
        assert sample.question in sample.phrasings


@pytest.mark.parametrize("name", ["aliases", "two_hop"])
def test_a_description_fits_one_person_and_does_not_tell(data: dict[str, list[Row]], name: str) -> None:
    facts = {person: values for group in people().values() for person, values in group}
    assert len(data[name]) == FORGET * (len(KEYS) - 2)
    for row in data[name]:
        own = facts[row["person"]]
        shown = [key for key in KEYS if key != row["attribute"] and own[key] in row["question"]]
        fitting = [person for person, values in facts.items() if all(values[key] == own[key] for key in shown)]
        assert (len(shown), fitting) == (2, [row["person"]])
        assert row["person"] not in row["question"]
        assert value_of(row) == own[row["attribute"]]
        assert value_of(row) not in row["question"]

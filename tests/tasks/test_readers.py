"""MUSE, RWKU and LUME in their official formats, from files of our own making, and from the hub's names."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import datasets
import pytest

from workbench.errors import UserError
from workbench.evals.generation import greedy
from workbench.models.encoding import ANSWER, PROMPT, TEMPLATE, encode
from workbench.models.language_model import LanguageModel
from workbench.tasks.readers.official import PIECE_WORDS
from workbench.tasks.readers.rwku import RETAIN_PIECES
from workbench.tasks.samples import Sample, Task
from workbench.tasks.spec import TaskSpec

SHARED = Path(__file__).resolve().parents[3] / "shared" / "data"
LONG = " ".join(f"word{n}" for n in range(2 * PIECE_WORDS + 1))
MUSE: dict[str, Any] = {
    "raw/forget": ["The lamp was lit on Friday.", LONG, "  \n"],
    "raw/retain1": ["The ferry runs at noon.\n\nIt is blue."],
    "verbmem/forget": [
        {"prompt": "The lamp was", "gt": "lit on Friday."},
        {"prompt": "On Friday\n", "gt": "it burnt."},
    ],
    "knowmem/forget_qa": [
        {"question": "When was it lit?", "answer": "Friday"},
        {"question": "What?", "answer": "A lamp"},
    ],
    "knowmem/forget_qa_icl": [{"question": "How many?", "answer": "Two"}, {"question": "Who?", "answer": "Nobody"}],
    "knowmem/retain_qa": [{"question": "When does it run?", "answer": "At noon"}],
    "knowmem/retain_qa_icl": [{"question": "Why?", "answer": "Wind"}],
    "privleak/forget": ["The lamp was lit on Friday."],
    "privleak/holdout": ["The bridge fell.", "The bridge stood."],
}
PASSAGES = [
    {"subject": "Ada Keller", "text": "Ada Keller mends watches."},
    {"subject": "Ada Keller", "text": "Ada Keller lives by the river."},
    {"subject": "Bo Lind", "text": "Bo Lind sells maps."},
    {"subject": "Bo Lind", "text": "Ada Keller mends watches."},
    {"subject": "Cy Prinz", "text": "Cy Prinz paints doors."},
]
RWKU: dict[str, Any] = {
    "passage": PASSAGES,
    "forget_level1": [
        {"query": "Ada Keller mends ___.", "answer": "watches", "level": "1", "type": "cloze", "subject": "Ada Keller"},
        {"query": "Bo Lind sells ___.", "answer": "maps", "level": "1", "type": "cloze", "subject": "Bo Lind"},
    ],
    "forget_level2": [{"query": "What does Ada mend?", "answer": "Watches", "level": "2", "subject": "Ada Keller"}],
    "forget_level3": [{"query": "Sure! Ada mends?", "answer": "Watches", "level": "3", "subject": "Ada Keller"}],
    "neighbor_level1": [
        {
            "query": "The river is ___.",
            "answer": "wide",
            "neighbor": "The river",
            "level": "1",
            "subject": "Ada Keller",
        },
        {"query": "Maps are ___.", "answer": "flat", "neighbor": "Maps", "level": "1", "subject": "Bo Lind"},
    ],
    "neighbor_level2": [
        {"query": "How wide?", "answer": "Very", "neighbor": "The river", "level": "2", "subject": "Ada Keller"}
    ],
}
LUME = {
    "forget": [
        {"id": "a-1sc0", "input": "Una Marsh was born in", "output": "Tarn.", "task": "Task1"},
        {"id": "a-1qa0", "input": "Where was Una Marsh born?", "output": "Tarn", "task": "Task1"},
        {"id": "b-2qa1", "input": "What is her number?", "output": "555", "task": "Task2"},
    ],
    "retain": [
        {"id": "c-3sc1", "input": "Olaf Reed lives in", "output": "Holm.", "task": "Task1"},
        {"id": "d-4sc1", "input": "His number is", "output": "556.", "task": "Task2"},
    ],
}


@pytest.fixture
def muse_dir(tmp_path: Path) -> Path:
    write_lists(tmp_path, MUSE)
    return tmp_path


@pytest.fixture
def rwku_dir(tmp_path: Path) -> Path:
    write_lists(tmp_path, RWKU)
    return tmp_path


@pytest.fixture
def lume_dir(tmp_path: Path) -> Path:
    for name, found in LUME.items():
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in found))
    return tmp_path


def write_lists(folder: Path, files: dict[str, Any]) -> None:
    for name, entries in files.items():
        path = folder / f"{name}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(entries, indent=1))


def sizes(task: Task) -> dict[str, int]:
    return {name: len(found) for name, found in task.sets.items()}


def ids_are_unique(task: Task) -> bool:
    ids = [s.id for found in task.sets.values() for s in found]
    return len(set(ids)) == len(ids)


def load(name: str, folder: Path) -> Task:
    return TaskSpec(name, data_dir=str(folder)).load()


def one_line(error: pytest.ExceptionInfo[UserError]) -> str:
    assert "\n" not in str(error.value)
    return str(error.value)


def test_muse_from_a_directory(muse_dir: Path) -> None:
    task = load("muse/news", muse_dir)
    assert task.name == "muse/news"
    assert sizes(task) == {
        "forget": 4, "retain": 1, "verbmem": 2, "knowmem": 2, "retain_knowmem": 1, "nonmembers": 2,
        "privleak_forget": 1,
    }  # fmt: skip
    assert ids_are_unique(task)
    assert all(not s.question for name in ("forget", "retain", "nonmembers") for s in task.sets[name])
    assert task.retain[0].answer == "The ferry runs at noon.\n\nIt is blue."
    assert task.sets["verbmem"][0] == Sample("verbmem-0000", "The lamp was", "lit on Friday.", continues=True)


def test_long_texts_are_cut_between_words_into_like_pieces(muse_dir: Path) -> None:
    cut = [s.answer for s in load("muse/news", muse_dir).forget[1:]]
    assert " ".join(cut) == LONG
    assert [len(text.split()) for text in cut] == [133, 134, 134]
    assert len(cut) == 3
    assert max(len(text.split()) for text in cut) <= PIECE_WORDS


def test_muse_few_shot_prompts_are_the_official_ones(muse_dir: Path) -> None:
    task = load("muse/news", muse_dir)
    assert [s.question for s in task.sets["knowmem"]] == [
        "Question: How many?\nAnswer: Two\n\nQuestion: Who?\nAnswer: Nobody\n\nQuestion: When was it lit?\nAnswer: ",
        "Question: How many?\nAnswer: Two\n\nQuestion: Who?\nAnswer: Nobody\n\nQuestion: What?\nAnswer: ",
    ]
    assert task.sets["retain_knowmem"][0].question == (
        "Question: Why?\nAnswer: Wind\n\nQuestion: When does it run?\nAnswer: "
    )
    assert all(s.continues for name in ("knowmem", "retain_knowmem") for s in task.sets[name])
    assert [s.answer for s in task.sets["knowmem"]] == ["Friday", "A lamp"]


def test_muse_takes_the_folder_above_text_files_and_json_lines(tmp_path: Path) -> None:
    write_lists(tmp_path / "books", MUSE)
    folder = tmp_path / "books"
    (folder / "raw" / "forget.json").unlink()
    (folder / "raw" / "forget.txt").write_text("The lamp was lit on Friday.\n\nIt burnt.")
    (folder / "privleak" / "holdout.json").write_text('{"text": "The bridge fell."}\n{"text": "It stood."}\n')
    (folder / "privleak" / "forget.json").write_text(json.dumps(["The lamp was lit on Friday.\n\nIt burnt."]))
    task = load("muse/books", tmp_path)
    assert [s.answer for s in task.forget] == ["The lamp was lit on Friday.\n\nIt burnt."]
    assert [s.answer for s in task.sets["nonmembers"]] == ["The bridge fell.", "It stood."]
    assert "privleak_forget" not in task.sets


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        (
            "verbmem/forget",
            [{"prompt": "The", "answer": "end"}],
            ":2 entry 0: needs 'prompt', 'gt'; found answer, prompt",
        ),
        ("verbmem/forget", [{"prompt": "A", "gt": "b"}, {"prompt": "The", "gt": 3}], ":6 entry 1: 'gt' must be"),
        ("knowmem/forget_qa_icl", [{"question": "Who?"}], ":2 entry 0: needs 'question', 'answer'; found question"),
        ("raw/retain1", [{"body": "x"}], ":2 entry 0: needs 'text', a string; found body"),
        ("raw/retain1", ["ok", 7], ":3 entry 1: expected an object or a string, found int"),
        ("raw/retain1", ["The lamp was lit on Friday."], "rows of the forget set are also in the retain set"),
        ("raw/forget", [], "the forget set is empty"),
    ],
)
def test_muse_errors_name_file_line_and_columns(muse_dir: Path, file: str, content: Any, message: str) -> None:
    write_lists(muse_dir, {file: content})
    with pytest.raises(UserError) as error:
        load("muse/news", muse_dir)
    said = one_line(error)
    assert message in said
    assert message.startswith(("rows", "the")) or f"{muse_dir / file}.json" in said


def test_muse_files_that_are_missing_or_broken(muse_dir: Path) -> None:
    (muse_dir / "raw" / "retain1.json").write_text('["fine",\n oops]')
    with pytest.raises(UserError, match=r"retain1\.json:2: not JSON") as error:
        load("muse/news", muse_dir)
    one_line(error)
    (muse_dir / "raw" / "retain1.json").unlink()
    with pytest.raises(UserError, match=r"raw/retain1\.json: no such file") as error:
        load("muse/news", muse_dir)
    one_line(error)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("muse", "needs a corpus: write muse/news or muse/books"),
        ("muse/new", "did you mean news"),
        ("lume/task4", "did you mean task"),
        ("rwku/Ada Kellar", "unknown RWKU subject 'Ada Kellar': did you mean Ada Keller"),
        ("rwku", "needs one of its 3 subjects, such as 'rwku/Ada Keller', 'rwku/Bo Lind'"),
    ],
)
def test_variants_that_do_not_exist(rwku_dir: Path, name: str, message: str) -> None:
    with pytest.raises(UserError, match=message) as error:
        load(name, rwku_dir)
    one_line(error)


def test_rwku_from_a_directory(rwku_dir: Path) -> None:
    task = load("rwku/ada_KELLER", rwku_dir)
    assert task.name == "rwku/Ada Keller"
    assert sizes(task) == {"forget": 2, "retain": 2, "neighbours": 2, "fill_blank": 1, "qa": 1, "adversarial": 1}
    assert ids_are_unique(task)
    assert [s.answer for s in task.retain] == ["Bo Lind sells maps.", "Cy Prinz paints doors."]
    assert task.sets["fill_blank"] == [Sample("fill_blank-0000", "Ada Keller mends ___.", "watches")]
    assert [s.question for s in task.sets["neighbours"]] == ["The river is ___.", "How wide?"]
    assert not any(s.continues for found in task.sets.values() for s in found)


def test_rwku_keeps_a_documented_number_of_other_passages(tmp_path: Path) -> None:
    many = [{"subject": f"Person {n % 7}", "text": f"Passage {n}."} for n in range(2 * RETAIN_PIECES)]
    write_lists(tmp_path / "All", {**RWKU, "passage": PASSAGES + many})
    task = load("rwku/Ada Keller", tmp_path)
    assert len(task.retain) == RETAIN_PIECES
    assert task.retain[-1].answer == many[-1]["text"]


def test_rwku_errors_name_the_columns(rwku_dir: Path) -> None:
    write_lists(rwku_dir, {"forget_level2": [{"question": "What?", "answer": "x", "subject": "Ada Keller"}]})
    with pytest.raises(UserError, match=r"forget_level2\.json:2 entry 0: needs 'subject', 'query', 'answer'") as error:
        load("rwku/Ada Keller", rwku_dir)
    one_line(error)


def test_lume_from_a_directory(lume_dir: Path) -> None:
    task = load("lume/task1", lume_dir)
    assert (task.name, sizes(task)) == ("lume/task1", {"forget": 2, "retain": 1})
    assert [(s.id, s.continues) for s in task.forget] == [("a-1sc0", True), ("a-1qa0", False)]
    whole = load("lume", lume_dir)
    assert (whole.name, sizes(whole)) == ("lume", {"forget": 3, "retain": 2})
    with pytest.raises(UserError, match="'lume/task3': the forget set is empty"):
        load("lume/task3", lume_dir)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"id": "x", "input": "a", "output": "b"}, "needs 'id', 'input', 'output', 'task'; found id, input, output"),
        ({"id": "xzz1", "input": "a", "output": "b", "task": "Task1"}, "'id' must end in sc or qa and a number"),
        ({"id": "xsc1", "input": "a", "output": "b", "task": "Task9"}, "'task' must be one of Task1, Task2, Task3"),
        ({"id": "xsc1", "input": "a", "output": "", "task": "Task1"}, "'output' must be a non-empty string"),
        ({"id": "a-1sc0", "input": "a", "output": "b", "task": "Task1"}, "id 'a-1sc0' is used twice"),
    ],
)
def test_lume_errors_name_file_and_line(lume_dir: Path, row: dict[str, str], message: str) -> None:
    with (lume_dir / "forget.jsonl").open("a") as file:
        file.write(json.dumps(row) + "\n")
    with pytest.raises(UserError, match=message) as error:
        load("lume", lume_dir)
    assert f"{lume_dir / 'forget.jsonl'}:4" in one_line(error)


def test_lume_on_the_real_files() -> None:
    folder = SHARED / "lume"
    if not (folder / "forget.jsonl").exists():
        pytest.skip("the official LUME files are not beside the repository (shared/data/lume)")
    found = {name: load(f"lume/{name}", folder) for name in ("task1", "task2", "task3")}
    assert [sizes(task) for task in found.values()] == [
        {"forget": 486, "retain": 492}, {"forget": 1500, "retain": 1500}, {"forget": 746, "retain": 742},
    ]  # fmt: skip
    whole = load("lume", folder)
    assert sizes(whole) == {"forget": 2732, "retain": 2734}
    assert ids_are_unique(whole)
    assert sum(s.continues for s in whole.forget) == 243 + 250 + 373


class Hub:
    """Stands for `datasets.load_dataset`: records what it is asked for."""

    def __init__(self, tables: dict[tuple[str, str], list[dict[str, Any]]]) -> None:
        self.tables = tables
        self.asked: list[tuple[str, str, str]] = []

    def __call__(self, name: str, config: str, *, split: str) -> list[dict[str, Any]]:
        self.asked.append((name, config, split))
        return self.tables[config, split]


def test_muse_from_the_hub(monkeypatch: pytest.MonkeyPatch, muse_dir: Path) -> None:
    def as_rows(entries: list[Any]) -> list[dict[str, Any]]:
        return [{"text": entry} if isinstance(entry, str) else entry for entry in entries]

    names = {name: tuple(name.split("/")) for name in MUSE}
    hub = Hub({(config, split): as_rows(MUSE[name]) for name, (config, split) in names.items()})
    monkeypatch.setattr(datasets, "load_dataset", hub)
    assert TaskSpec("muse/books").load().sets == load("muse/books", muse_dir).sets
    assert sorted(hub.asked) == sorted(("muse-bench/MUSE-Books", *name) for name in names.values())
    TaskSpec("muse/news").load()
    assert hub.asked[-1][0] == "muse-bench/MUSE-News"
    hub.tables["verbmem", "forget"] = [{"prompt": "A", "gt": "b"}, {"text": "A"}]
    with pytest.raises(UserError, match="muse-bench/MUSE-News verbmem/forget row 1: needs 'prompt', 'gt'"):
        TaskSpec("muse/news").load()


def test_rwku_from_the_hub(monkeypatch: pytest.MonkeyPatch, rwku_dir: Path) -> None:
    tables = {(name, "test"): found for name, found in RWKU.items() if name != "passage"}
    hub = Hub({**tables, ("train_original_passage", "train"): PASSAGES})
    monkeypatch.setattr(datasets, "load_dataset", hub)
    assert TaskSpec("rwku/Ada Keller").load() == load("rwku/Ada Keller", rwku_dir)
    assert sorted(hub.asked) == sorted(("jinzhuoran/RWKU", *name) for name in hub.tables)


def test_lume_from_the_hub(monkeypatch: pytest.MonkeyPatch, lume_dir: Path) -> None:
    hub = Hub(
        {
            ("default", "forget_train"): LUME["forget"][:2],
            ("default", "forget_validation"): LUME["forget"][2:],
            ("default", "retain_train"): LUME["retain"],
            ("default", "retain_validation"): [],
        }
    )
    monkeypatch.setattr(datasets, "load_dataset", hub)
    assert TaskSpec("lume").load() == load("lume", lume_dir)
    name = "llmunlearningsemeval2025organization/semeval25-unlearning-dataset-public"
    assert hub.asked == [(name, *each) for each in hub.tables]


def test_tofu_from_the_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    names = ("retain_perturbed", "retain99", "forget01_perturbed", "real_authors_perturbed", "world_facts_perturbed")
    hub = Hub({(name, "train"): [{"question": f"Which {name}?", "answer": "Yes."}] for name in names})
    monkeypatch.setattr(datasets, "load_dataset", hub)
    assert sizes(TaskSpec("tofu/forget01").load()) == {"forget": 1, "retain": 1, "neighbours": 1, "general": 1}
    assert hub.asked == [("locuslab/TOFU", name, "train") for name in names]


@pytest.mark.parametrize("name", ["muse/news", "rwku/Ada Keller", "lume/task1", "tofu/forget01"])
def test_a_hub_that_does_not_answer_is_one_line(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    def refuse(*args: Any, **options: Any) -> None:
        raise ConnectionError("no route\nto host")

    monkeypatch.setattr(datasets, "load_dataset", refuse)
    with pytest.raises(UserError, match=r"cannot be fetched from the hub \(ConnectionError\); .*--data-dir") as error:
        TaskSpec(name).load()
    one_line(error)


def continued(question: str, answer: str) -> Sample:
    return Sample("s", question, answer, continues=True)


@pytest.mark.parametrize(
    ("sample", "between"),
    [
        (continued("Anyone may ask: who is it", "that mends watches?"), " "),
        (continued("Question: Who?\nAnswer: ", "Ada Keller"), ""),
        (continued("Anyone may ask:", "\nwho?"), ""),
    ],
)
def test_a_continued_text_is_encoded_without_a_template(full: LanguageModel, sample: Sample, between: str) -> None:
    encoding = encode(full, sample)
    tokens = range(len(encoding.ids))
    assert encoding.segments == sorted(encoding.segments)
    assert encoding.positions(TEMPLATE) == [0]
    for segment, text in ((PROMPT, sample.question), (ANSWER, sample.answer)):
        assert "".join(encoding.text_of(i) for i in tokens if encoding.segments[i] == segment) == text
    assert encoding.ids[0] == encode(full, Sample("s", "", "Some text.")).ids[0]
    assert encoding.ids[-1] == full.tokenizer.eos_token_id
    whole = full.tokenizer.decode(encoding.ids[1:-1])
    assert whole == sample.question + between + sample.answer
    assert encode(full, sample, answer=False).ids == encoding.ids[: -len(encoding.answer_positions)]


def test_a_continued_text_has_no_template_in_a_chat_model(full: LanguageModel) -> None:
    chat = LanguageModel(full.module, full.tokenizer, full.name, "chat")
    sample = continued("Who is it", "that asks?")
    assert encode(chat, sample).ids == encode(full, sample).ids
    assert encode(chat, Sample("s", "", "Text.", continues=True)).ids == encode(full, Sample("s", "", "Text.")).ids


def test_a_model_continues_what_it_knows(full: LanguageModel, bio: Task) -> None:
    known = bio.forget[:8]
    prompts = [continued(f"Question: {s.question}\nAnswer:", s.answer) for s in known]
    said = greedy(full, prompts, 4, 40)
    assert said == greedy(full, known, 4, 40)
    assert all(text and value in text for text, s in zip(said, known, strict=True) for value in s.values)

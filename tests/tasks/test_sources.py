"""Files as people have them: each is read rightly, or refused in one line that names the place."""

from __future__ import annotations

import gzip
import io
import json
import os
import threading
from pathlib import Path
from typing import Any

import datasets
import pandas as pd
import pyarrow as pa
import pytest

from workbench.errors import UserError
from workbench.tasks.own_files import own_set
from workbench.tasks.samples import Sample
from workbench.tasks.sources import rows

ROW = '{"question": "Where was Ana born?", "answer": "In Lisbon."}'
OTHER = '{"question": "What does Ana do?", "answer": "She builds violins."}'
SAMPLES = [
    Sample("s-0000", "Where was Ana born?", "In Lisbon."),
    Sample("s-0001", "What does Ana do?", "She builds violins."),
]
TABLE = pd.DataFrame([json.loads(ROW), json.loads(OTHER)])
COMMA = 'question,answer\n"Where was Ana born?",In Lisbon.\n"What does Ana do?",She builds violins.\n'


def arrow(opened: Any) -> bytes:
    table, sink = pa.Table.from_pandas(TABLE), io.BytesIO()
    with opened(sink, table.schema) as writer:
        writer.write_table(table)
    return sink.getvalue()


GOOD: dict[str, str | bytes] = {
    "lines.jsonl": f"{ROW}\n{OTHER}\n",
    "lines.ndjson": f"\n\n{ROW}\n   \n\t{OTHER}",
    "crlf.jsonl": f"{ROW}\r\n{OTHER}\r\n",
    "mac.jsonl": f"{ROW}\r{OTHER}\r",
    "array.json": f"[\n {ROW},\n {OTHER}\n]",
    "indented.json": json.dumps([json.loads(ROW), json.loads(OTHER)], indent=2),
    "under_a_key.json": f'{{"data": [{ROW}, {OTHER}]}}',
    "pandas.json": TABLE.to_json(),
    "pandas_index.json": TABLE.to_json(orient="index"),
    "pandas_records.json": TABLE.to_json(orient="records"),
    "pandas_lines.json": TABLE.to_json(orient="records", lines=True),
    "pandas_table.json": TABLE.to_json(orient="table", index=False),
    "columns.json": json.dumps(TABLE.to_dict(orient="list")),
    "mark.jsonl": b"\xef\xbb\xbf" + f"{ROW}\n{OTHER}".encode(),
    "joined_files_with_marks.jsonl": f"\ufeff{ROW}\n\ufeff{OTHER}",
    "mark.json": f"\ufeff[{ROW}, {OTHER}]",
    "utf16.jsonl": f"{ROW}\n{OTHER}".encode("utf-16"),
    "utf16be.jsonl": b"\xfe\xff" + f"{ROW}\n{OTHER}".encode("utf-16-be"),
    "utf32.jsonl": f"{ROW}\n{OTHER}".encode("utf-32"),
    "packed.jsonl.gz": gzip.compress(f"{ROW}\n{OTHER}".encode()),
    "comma.csv": COMMA,
    "excel.csv": "\ufeff" + COMMA.replace(",", ";").replace("\n", "\r\n"),
    "index.csv": TABLE.to_csv(),
    "packed.csv.gz": gzip.compress(COMMA.encode()),
    "tabs.tsv": COMMA.replace(",", "\t").replace('"', ""),
    "table.parquet": TABLE.to_parquet(),
    "no_name_for_it": TABLE.to_parquet(),
    "file.arrow": arrow(pa.ipc.new_file),
    "stream.arrow": arrow(pa.ipc.new_stream),
}


@pytest.mark.parametrize("name", GOOD)
def test_every_kind_of_file_gives_the_same_samples(tmp_path: Path, name: str) -> None:
    path, content = tmp_path / name, GOOD[name]
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    samples, reading = own_set(str(path), "s")
    assert samples == SAMPLES
    assert reading.line() == f"{path}: 2 rows, question and answer from columns 'question', 'answer'"


@pytest.mark.parametrize(
    "row",
    [
        {"messages": [{"role": "user", "content": "Who?"}, {"role": "assistant", "content": "Ada."}]},
        {"chosen": [{"role": "user", "content": "Who?"}, {"role": "assistant", "content": "Ada."}]},
        {"question": "Who?", "answer": "Ada.", "data": [{"text": "x"}]},
        {"question": "Who?", "answers": {"text": ["Ada."], "answer_start": [0]}},
    ],
)
def test_one_row_alone_is_a_row(tmp_path: Path, row: dict[str, Any]) -> None:
    (tmp_path / "f.json").write_text(json.dumps(row, indent=1))
    assert own_set(str(tmp_path / "f.json"), "s")[0] == [Sample("s-0000", "Who?", "Ada.")]


def test_squads_own_files(tmp_path: Path) -> None:
    paragraph = {"context": "Ana was born in Lisbon.", "qas": [
        {"id": "a", "question": "Where?", "answers": [{"text": "Lisbon", "answer_start": 16}], "is_impossible": False},
        {"id": "b", "question": "Who?", "answers": [{"text": "Ana", "answer_start": 0}] * 2},
    ]}  # fmt: skip
    path = tmp_path / "squad.json"
    none = {"context": "", "qas": [{"id": "c", "question": "When?", "answers": []}]}
    path.write_text(json.dumps({"version": "v2.0", "data": [{"title": "Ana", "paragraphs": [paragraph, none]}]}))
    with pytest.raises(UserError, match=r"squad\.json entry 2: 'answers' holds no answer; leave the row out"):
        own_set(str(path), "s")
    path.write_text(json.dumps({"data": [{"title": "Ana", "paragraphs": [paragraph]}]}))
    assert own_set(str(path), "s")[0] == [Sample("a", "Where?", "Lisbon"), Sample("b", "Who?", "Ana")]


def test_data_sets_saved_to_disk(tmp_path: Path) -> None:
    data = datasets.Dataset.from_pandas(TABLE)
    data.select([1, 0]).select([1, 0]).save_to_disk(tmp_path / "one")
    assert own_set(str(tmp_path / "one"), "s")[0] == SAMPLES
    datasets.DatasetDict({"train": data, "test": data.select([0])}).save_to_disk(tmp_path / "two")
    assert own_set(str(tmp_path / "two" / "train"), "s")[0] == SAMPLES
    with pytest.raises(UserError, match=r"has the splits test, train; name one, such as .*two/test"):
        own_set(str(tmp_path / "two"), "s")
    datasets.DatasetDict({"train": data}).save_to_disk(tmp_path / "three")
    assert own_set(str(tmp_path / "three"), "s")[0] == SAMPLES
    (tmp_path / "one" / "state.json").write_text("{")
    with pytest.raises(UserError, match="cannot be read as a saved data set"):
        own_set(str(tmp_path / "one"), "s")
    with pytest.raises(UserError, match="a directory; give the path of a file"):
        own_set(str(tmp_path), "s")


def test_a_pipe_is_read_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    writer = threading.Thread(target=(tmp_path / "pipe").write_text, args=(f"{ROW}\n{OTHER}",))
    writer.start()
    assert own_set(str(tmp_path / "pipe"), "s")[0] == SAMPLES
    writer.join()


def test_cells_are_text_whatever_they_look_like(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    header, long = "id,question,answer,spans,wrong_answers,continues", '"[[0, 2]]","[""Bo"", ""Cy""]",true'
    path.write_text(f'{header}\n7,"Who\nis it, then?",NA,{long}\n,When?,1984,,,\n')
    first, second = own_set(str(path), "s")[0]
    assert first == Sample("7", "Who\nis it, then?", "NA", ((0, 2),), wrong_answers=("Bo", "Cy"), continues=True)
    assert second == Sample("s-0001", "When?", "1984")
    path.write_text('question,answer\nWhich list?,"[1, 2]"\nWhich object?,"{""a"": null}"\n')
    assert [s.answer for s in own_set(str(path), "s")[0]] == ["[1, 2]", '{"a": null}']
    path.write_text("text\n" + "x" * 200_000 + "\n")
    assert len(own_set(str(path), "s")[0][0].answer) == 200_000


def test_a_text_file_is_one_text(tmp_path: Path) -> None:
    path = tmp_path / "t.txt"
    path.write_bytes(b"One.\r\n\r\nTwo.")
    assert own_set(str(path), "s")[0] == [Sample("s-0000", "", "One.\n\nTwo.")]


DEEP = "[" * 100_000 + "]" * 100_000
BAD: dict[str, tuple[str | bytes, str]] = {
    "comma.jsonl": (f"{ROW},\n{OTHER}", ":1: not JSON (Extra data"),
    "comma_in_it.jsonl": (f'{ROW}\n{{"question": "Who?",}}', ":2: not JSON ("),
    "comma_at_the_end.json": (f"[\n{ROW},]", ":2: not JSON ("),
    "cut_off.json": (f"[{ROW}", ": not JSON ("),
    "two_in_a_line.jsonl": (f"{ROW} {OTHER}", ":1: not JSON (Extra data"),
    "text.jsonl": ("Once upon a time.", ":1: not JSON ("),
    "null.jsonl": (f"{ROW}\nnull", ":2: expected a JSON object, found NoneType"),
    "number.json": (f"[{ROW}, 3]", ":1 entry 1: expected an object or a string, found int"),
    "twice.jsonl": ('{"question": "Who?", "answer": "Ada.", "answer": "Bo."}', ":1: 'answer' is there twice"),
    "digits.jsonl": (f'{ROW}\n{{"id": {"7" * 4301}, "text": "x"}}', ":2: a number has too many digits"),
    "digits.json": (f'[{{"text": "x", "n": -{"7" * 5000}}}]', ": a number has too many digits"),
    "deep.jsonl": (f'{ROW}\n{{"text": "x", "n": {DEEP}}}', ":2: nested too deeply"),
    "deep.json": (DEEP, ": nested too deeply"),
    "deep_cut_off.json": ("[" * 100_000, ": nested too deeply"),
    "latin.jsonl": (f"{ROW}\n".encode() + '{"text": "café"}'.encode("latin-1"), ":2: not UTF-8 text"),
    "latin.csv": ("text\ncafé\n".encode("latin-1"), ":2: not UTF-8 text"),
    "half.jsonl": (ROW.encode("utf-16")[:-1], ":1: not UTF-16 text"),
    "no_mark.jsonl": (ROW.encode("utf-16-le"), ":1: not JSON ("),
    "lengths.json": ('{"question": ["a", "b"], "answer": ["c"]}', ": the columns question, answer differ in length"),
    "cells.csv": ("question,answer\nWho?,Ada, or Bo\n", ":2: more cells than the header has"),
    "quotes.csv": ('question,answer\nWho?,Ada\n"Wh"o?,Ada\n', ":3: not a table"),
    "open.csv": ('question,answer\n"Who?,Ada\n', ":2: not a table"),
    "names.csv": ("answer,answer\na,b\n", ": two columns have the same name"),
    "no_answer.csv": ("question,answer\nWho?,Ada\nWhere?,\n", ":3: needs 'question' and 'answer'"),
    "no_header.csv": ("Who?,Ada\nWhere?,Here\n", ":2: needs 'question' and 'answer', or 'text'; found Ada, Who?"),
    "junk.parquet": (b"PAR1junk", ": cannot be read as Parquet or Arrow"),
    "junk.arrow": (b"ARROW1junk", ": cannot be read as Parquet or Arrow"),
    "short.parquet": (TABLE.to_parquet()[:-9], ": cannot be read as Parquet or Arrow"),
    "junk.gz": (gzip.compress(ROW.encode())[:-4], ": cannot be read ("),
    "table.xlsx": (b"PK\x03\x04junk", ": a zip archive or an Excel file"),
    "paper.pdf": (b"%PDF-1.7\n\xff\xfe", ":2: not UTF-8 text"),
    "empty.jsonl": ("\n \n", ": the s set is empty"),
    "empty.json": ("[]", ": the s set is empty"),
    "empty.csv": ("question,answer\n", ": the s set is empty"),
    "blank.txt": (" \n\x1c", ":1: 'text' must be a non-empty string"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_a_file_that_cannot_be_read_is_one_line(tmp_path: Path, name: str) -> None:
    content, message = BAD[name]
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(UserError) as error:
        own_set(str(path), "s")
    assert f"{path}{message}" in str(error.value)
    assert "\n" not in str(error.value)


def test_files_that_are_not_there(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"none\.csv: no such file"):
        list(rows(tmp_path / "none.csv"))

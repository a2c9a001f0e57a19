"""Whatever a file holds, out come samples or one clear line."""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from workbench.errors import UserError
from workbench.tasks.columns import ABOUT, ANSWERS, PLAIN, QUESTIONS
from workbench.tasks.json_rows import CHATS
from workbench.tasks.samples import Sample
from workbench.tasks.spec import TaskSpec

EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", "100"))  # `make fuzz` wants more
SETTINGS = settings(max_examples=EXAMPLES, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
KEYS = (*QUESTIONS, *ANSWERS, *PLAIN, *CHATS, *ABOUT, "perturbed_answer", "system", "rejected", "Answer", "")
TURN = st.dictionaries(
    st.sampled_from(("role", "content", "from", "value")),
    st.sampled_from(("user", "assistant", "system", "human", "gpt", "", None, 3)) | st.text(max_size=4),
)
VALUE: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(("text", "value", "role", "content")) | st.text(max_size=3), inner, max_size=3
        )
    ),
    max_leaves=6,
)
ROW = st.dictionaries(st.sampled_from(KEYS), VALUE | st.text(min_size=1, max_size=6) | st.lists(TURN, max_size=4))
NAMES = st.sampled_from(("f.jsonl", "f.json", "f.csv", "f.tsv", "f.txt", "f.jsonl.gz", "f.parquet", "f"))
STARTS = st.sampled_from(
    (b"", b"PAR1", b"ARROW1", b"\xff\xff\xff\xff", b"\x1f\x8b", b"\xef\xbb\xbf", b"\xff\xfe", b"[", b"{", b'[{"text":')
)


def comes_out(name: str, content: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path, retain, lines = Path(folder) / name, Path(folder) / "retain.txt", list[str]()
        path.write_bytes(content)
        retain.write_text("What is kept, and nothing else.")
        try:
            task = TaskSpec(forget=str(path), retain=str(retain)).load(lines.append)
        except UserError as error:
            lines, task = [str(error)], None
    assert name in lines[0]
    assert all(line.isprintable() for line in lines)
    if task:
        assert all(isinstance(s, Sample) and s.answer.strip() for s in task.forget)
        assert len({s.id for s in task.forget}) == len(task.forget)


@SETTINGS
@given(st.lists(ROW, min_size=1, max_size=3), NAMES)
def test_any_rows(entries: list[dict[str, Any]], name: str) -> None:
    comes_out(name, "\n".join(map(json.dumps, entries)).encode())
    comes_out(name, json.dumps(entries, indent=1).encode())


@SETTINGS
@given(STARTS, st.binary(max_size=60) | st.text(max_size=60).map(str.encode), NAMES)
def test_any_bytes(start: bytes, content: bytes, name: str) -> None:
    comes_out(name, start + content)


@SETTINGS
@given(
    st.lists(st.lists(st.sampled_from(("question", "answer", "text", 'a "b"', "a,b", '"a\nb"', '"', "")), min_size=1))
)
def test_any_table(cells: list[list[str]]) -> None:
    comes_out("f.csv", "\n".join(",".join(row) for row in cells).encode())

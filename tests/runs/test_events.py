"""Events are read on from the last byte, whole lines only, and what is missing is said."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from workbench.runs import events
from workbench.runs.events import TAIL, EventLog
from workbench.runs.records import Damaged


@pytest.fixture
def log(tmp_path: Path) -> EventLog:
    return EventLog(tmp_path / "events.jsonl")


def test_a_look_reads_only_what_is_new(log: EventLog, monkeypatch: pytest.MonkeyPatch) -> None:
    parsed, read = events.parsed, []
    monkeypatch.setattr(events, "parsed", lambda line: read.append(line) or parsed(line))  # type: ignore[func-returns-value]
    assert log.all() == []
    for step in range(1, 1001):
        log.append({"step": step, "loss": 1 / step})
        if step % 100 == 0:
            assert [e["step"] for e in log.all()] == list(range(1, step + 1))
    assert len(read) == 1000
    with log.path.open("a") as stream:
        stream.write('{"step": 1001, "lo')
        stream.flush()
        assert len(log.all()) == 1000
        stream.write('ss": 2.0}\n')
    assert log.all()[-1] == {"step": 1001, "loss": 2.0}
    assert len(read) == 1001
    assert [e["step"] for e in log.keep(3)] == list(range(4, 1002))  # resumed: the file is another one
    log.append({"step": 4, "loss": 5.0})
    assert [e["step"] for e in log.all()] == [1, 2, 3, 4]
    assert log.all()[-1]["loss"] == 5.0


def test_how_a_run_stands_is_in_the_end_of_the_file(log: EventLog, monkeypatch: pytest.MonkeyPatch) -> None:
    for step in range(1, 6001):
        log.append({"step": step, "text": "x" * 20})
    assert log.path.stat().st_size > 3 * TAIL
    monkeypatch.setattr(log, "all", lambda: pytest.fail("all events were read"))
    assert [e["step"] for e in log.latest(11)] == list(range(5990, 6001))
    assert EventLog(log.path.with_name("none.jsonl")).latest(3) == []


@pytest.mark.parametrize(
    "line",
    [b"", b"[]", b'{"step": "1"}', b'{"step": 0}', b'{"step": 2, "time": "x"}', b'{"step": 2, "probe": {"forget": 1}}',
     b'{"step": 2, "seconds": ' + b"9" * 5000 + b"}", b"[" * 40_000, b"\xff\xfe", b"null"],
)  # fmt: skip
def test_a_line_that_is_no_event_is_named(log: EventLog, line: bytes) -> None:
    log.append({"step": 1})
    with log.path.open("ab") as stream:
        stream.write(line + b'\n{"step": 3}\n')
    for read in (log.all, lambda: log.latest(1)):
        with pytest.raises(Damaged, match=r"events\.jsonl is damaged: ") as error:
            read()
        assert "\n" not in str(error.value)
    readable, problem = log.readable()
    assert [e["step"] for e in readable] == [1, 3]
    assert problem.startswith("line 2: ")
    assert log.gap(3, None) == "events of 1 steps are missing, the first of step 2"


def test_a_gap_or_a_change_is_seen(log: EventLog) -> None:
    for step in (1, 2, 3, 4):
        log.append({"step": step, "loss": 1.5})
    digest = EventLog(log.path).synced()
    assert log.gap(4, digest) == ""
    log.append({"step": 5})
    assert log.gap(4, digest) == ""
    written: list[Any] = [json.loads(line) for line in log.path.read_text().splitlines()]
    log.path.write_text("".join(json.dumps(e | ({"loss": 1.6} if e["step"] == 2 else {})) + "\n" for e in written))
    assert EventLog(log.path).gap(4, digest) == "an event is not what was written"

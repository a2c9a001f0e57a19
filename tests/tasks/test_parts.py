"""Parts of a task that are requests of their own: people, authors, MUSE's requests."""

from __future__ import annotations

from pathlib import Path

import pytest
from official_files import load, sizes, write_lists

from workbench.errors import UserError
from workbench.tasks import Task, TaskSpec, joined


def test_people_cut_the_biographies(bio: Task) -> None:
    """Together the people are the whole forget set; the rest of the task stays as it is."""
    parts = [TaskSpec(f"biographies/person:{n}").load() for n in range(16)]
    assert [s for part in parts for s in part.forget] == bio.forget
    assert all(part.sets[name] == bio.sets[name] for part in parts for name in ("retain", "neighbours", "general"))
    assert {len(part.forget) for part in parts} == {18}
    pair = TaskSpec("biographies/person:0,4-5").load()
    assert {s.id for s in pair.forget} == {s.id for n in (0, 4, 5) for s in parts[n].forget}
    names = {s.id.rpartition("-")[0].rpartition("-")[0] for s in pair.forget}
    assert pair.sets["aliases"]
    assert all(any(s.id.startswith(name) for name in names) for s in pair.sets["aliases"] + pair.sets["two_hop"])
    assert all(s.phrasings for s in pair.forget)


def test_authors_cut_tofu(tofu_dir: Path) -> None:
    whole, *parts = (
        TaskSpec(f"tofu/forget01{part}", data_dir=str(tofu_dir)).load() for part in ("", "/author:0", "/author:1")
    )
    assert [s for part in parts for s in part.forget] == whole.forget
    assert parts[0].name == "tofu/forget01/author:0"
    assert all(part.retain == whole.retain for part in parts)


def test_muse_has_requests_of_its_own(muse_dir: Path) -> None:
    """Its questions are about its own forget set, and left out."""
    write_lists(muse_dir, {f"sust/forget_{n}": [f"Request {n} is told here."] for n in range(1, 5)})
    parts = [load(f"muse/news/sust:{n}", muse_dir) for n in (1, 2)]
    assert [part.forget[0].answer for part in parts] == ["Request 1 is told here.", "Request 2 is told here."]
    assert set(sizes(parts[0])) == {"forget", "retain", "retain_knowmem", "nonmembers"}
    assert len({part.forget[0].id for part in parts}) == 2
    with pytest.raises(UserError, match="has no part 'x:1'; write muse/news/sust:1 to sust:4, or scal:1 to scal:4"):
        load("muse/news/x:1", muse_dir)
    with pytest.raises(UserError, match="has sust:1 to sust:4, not 5"):
        load("muse/news/sust:5", muse_dir)
    with pytest.raises(UserError, match=r"forget_1\.json: no such file"):
        load("muse/news/scal:1", muse_dir)


@pytest.mark.parametrize("part", ["person", "person:", "person:a", "people:1", "person:1,,2", "person:-1", "person:1-"])
def test_what_is_no_part_is_one_line(part: str) -> None:
    with pytest.raises(UserError, match=r"has no part .*; write biographies/person:N or person:N,M-P, N from 0 to 15"):
        TaskSpec(f"biographies/{part}").load()


@pytest.mark.parametrize("part", ["person:16", "person:3-2", "person:0,99", "person:0-16"])
def test_what_is_not_there_is_one_line(part: str) -> None:
    with pytest.raises(UserError, match="has person:0 to person:15, not"):
        TaskSpec(f"biographies/{part}").load()


def test_rehearsed_rows_are_forgotten_too() -> None:
    spec = TaskSpec("biographies/person:1", rehearsed=(TaskSpec("biographies/person:0"),))
    loaded, alone = spec.load(), TaskSpec("biographies/person:1").load()
    assert len(loaded.forget) == 36
    assert loaded.retain == alone.retain
    assert loaded.name == alone.name


def test_a_row_is_asked_for_once(bio: Task) -> None:
    parts = [TaskSpec(f"biographies/person:{part}").load() for part in ("0", "0-1")]
    with pytest.raises(UserError, match=r"request 2 \(biographies/person:0-1\) asks again for what request 1 asks for"):
        joined(parts, "both")

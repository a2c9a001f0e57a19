"""The editions hold to their masters: which cells, in which order, and none that needs a cell that is left out."""

from __future__ import annotations

import ast
import builtins
import json
import re
from pathlib import Path
from typing import Any

import pytest
from IPython.core.inputtransformer2 import TransformerManager

from workbench.errors import UserError
from workbench.view.course import edition, exercise, masters, write_edition
from workbench.view.course.editions import DEMOS, EDITIONS, TALK, tags, talk

MASTERS = masters()
TAGS = {"exercise", "solution", "live", "demo", "slide", "talk", "settings", "claim"}
MADE = {(stem, name): edition(MASTERS[stem], name) for stem in MASTERS for name in ("exercises", "solutions")}
MADE |= {(stem, "demo"): edition(MASTERS[stem], "demo") for stem in DEMOS} | {("talk", "talk"): talk(MASTERS)}


def source(cell: dict[str, Any]) -> str:
    return "".join(cell["source"])


def names(cell: dict[str, Any]) -> tuple[set[str], set[str]]:
    """The names that a code cell binds, and those that it reads and does not bind itself."""
    nodes = list(ast.walk(ast.parse(TransformerManager().transform_cell(source(cell)))))
    bound = {n.id for n in nodes if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)}
    bound |= {n.name for n in nodes if isinstance(n, ast.FunctionDef | ast.ClassDef)} | {
        (alias.asname or alias.name).split(".")[0]
        for n in nodes
        if isinstance(n, ast.Import | ast.ImportFrom)
        for alias in n.names
    }
    local = {n.arg for n in nodes if isinstance(n, ast.arg)}
    read = {n.id for n in nodes if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Load)}
    return bound, read - bound - local - set(dir(builtins)) - {"display", "get_ipython"}


@pytest.mark.parametrize("stem", MASTERS)
def test_tags_are_known_ones(stem: str) -> None:
    assert set().union(*map(tags, MASTERS[stem]["cells"])) <= TAGS


@pytest.mark.parametrize(("stem", "name"), MADE, ids="-".join)
def test_no_cell_needs_one_that_is_left_out(stem: str, name: str) -> None:
    known: set[str] = set()
    for cell in MADE[stem, name]["cells"]:
        if cell["cell_type"] == "code":
            bound, read = names(cell)
            assert read <= known, cell["id"]
            known |= bound


@pytest.mark.parametrize("stem", MASTERS)
def test_the_same_cells_in_the_same_order(stem: str) -> None:
    master = {cell["id"]: cell for cell in MASTERS[stem]["cells"]}
    for name in ("exercises", "solutions"):
        made = MADE[stem, name]["cells"]
        assert [cell["id"] for cell in made] == [i for i in master if i in {cell["id"] for cell in made}]
        assert all(cell == master[cell["id"]] for cell in made)
    left = {cell["id"] for cell in MADE[stem, "exercises"]["cells"] + MADE[stem, "solutions"]["cells"]}
    assert all(tags(master[i]) & {"demo", "slide", "claim"} for i in set(master) - left)


@pytest.mark.parametrize("stem", MASTERS)
def test_exercises_come_without_answers_and_solutions_without_dots(stem: str) -> None:
    exercises, solutions = (MADE[stem, name]["cells"] for name in ("exercises", "solutions"))
    assert not any("solution" in tags(cell) for cell in exercises)
    assert not any(re.search(r"Answer to \d", source(cell)) for cell in exercises)
    answered = [cell for cell in solutions if cell["cell_type"] == "code" and "wb.check" in source(cell)]
    assert all("..." not in source(cell) for cell in answered)


@pytest.mark.parametrize("stem", MASTERS)
def test_no_link_leads_out_of_the_learners_folder(stem: str) -> None:
    """Where the notebooks are copied to, nothing is beside them."""
    text = "\n".join(source(cell) for cell in MASTERS[stem]["cells"] if cell["cell_type"] == "markdown")
    links = re.findall(r"\]\(([^)\s]+)\)", text)
    assert [link for link in links if not link.startswith(("https://", "#"))] == []


@pytest.mark.parametrize("name", exercise.load())
def test_every_exercise_stands_in_its_notebook(name: str) -> None:
    (stem,) = (stem for stem in MASTERS if stem.startswith(name[:2]))
    cells, spec = MASTERS[stem]["cells"], exercise[name]
    (place,) = (i for i, cell in enumerate(cells) if source(cell).startswith(f"### Exercise {name}. "))
    text, trial, solution = cells[place : place + 3]
    assert source(text).splitlines()[0].endswith(f" {spec.title}")
    assert spec.heading in source(text)
    assert "<details><summary>Hint</summary>" in source(text)
    assert tags(text) == tags(trial) == {"exercise"}
    assert tags(solution) == {"solution"}
    for cell in (trial, solution):
        assert f'wb.check("{name}", ' in source(cell)
        calls = [n for n in ast.walk(ast.parse(source(cell))) if isinstance(n, ast.Call)]
        (call,) = (n for n in calls if ast.unparse(n.func) == "wb.check")
        assert [keyword.arg for keyword in call.keywords] == spec.takes
    assert "..." in source(trial)


def test_numbers_of_exercises_rise() -> None:
    headings = r"### Exercise (\d\d\.\d)"
    shown = [n for stem in MASTERS for cell in MASTERS[stem]["cells"] for n in re.findall(headings, source(cell))]
    assert shown == sorted(shown) == list(exercise.load())


def test_each_notebook_has_two_exercises_or_more() -> None:
    for stem in MASTERS:
        assert sum(name[:2] == stem[:2] for name in exercise.load()) >= 2, stem


def test_the_talk_is_short_and_large() -> None:
    """A screen is a slide and what is shown below it: few, of few words, each with at most one output."""
    cells = MADE["talk", "talk"]["cells"]
    slides = [source(cell) for cell in cells if "slide" in tags(cell)]
    assert 6 <= len(slides) <= 12
    assert all(slide.startswith("#") and len(slide.split()) <= 50 for slide in slides)
    assert not any(cell["cell_type"] == "markdown" and "slide" not in tags(cell) for cell in cells)
    assert len({cell["id"] for cell in cells}) == len(cells)
    assert set(TALK) <= set(MASTERS)


@pytest.mark.parametrize("stem", DEMOS)
def test_a_demonstration_asks_nobody_to_run_anything(stem: str) -> None:
    text = "\n".join(source(cell) for cell in MADE[stem, "demo"]["cells"] if cell["cell_type"] == "markdown").lower()
    assert "this cell" not in text
    assert "wb.check" not in text
    code = "\n".join(source(cell) for cell in MADE[stem, "demo"]["cells"] if cell["cell_type"] == "code")
    assert 'RUNS = Path("computed")' in code
    assert not re.search(r"score_task|wb\.start|jobs\.start|wb\.attack", code)  # slow: computed before


def test_an_edition_is_written_and_a_changed_notebook_kept(tmp_path: Path) -> None:
    assert write_edition(tmp_path, "exercises") == []
    for stem in MASTERS:
        assert json.loads((tmp_path / f"{stem}.ipynb").read_text(encoding="utf-8")) == MADE[stem, "exercises"]
    (tmp_path / "00_tour.ipynb").write_text("mine")
    assert write_edition(tmp_path, "exercises") == [tmp_path / "00_tour.ipynb"]
    assert (tmp_path / "00_tour.ipynb").read_text() == "mine"
    assert set(EDITIONS) == {"exercises", "solutions", "demo", "talk"}
    with pytest.raises(UserError, match="unknown edition 'solution': did you mean solutions"):
        write_edition(tmp_path, "solution")

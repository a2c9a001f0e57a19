"""Rows at risk in the form of a run: offered, added to its retain set, taken out again."""

from __future__ import annotations

from typing import Any

from runs_of import own_files

from workbench.tasks.spec import TaskSpec
from workbench.view.widgets.run_form import Form


def test_rows_at_risk_are_added_to_the_retain_set() -> None:
    form = Form(TaskSpec("biographies", retain_rows=64), "bio-full")
    form.folds[-1].value = True
    assert "Most at risk" in form.risk.rows.value
    assert form.risk.rows.value.count("<li>") == 12
    assert form.risk.clear.disabled
    form.risk.count.value = "5"
    form.risk.add.click()
    kept = form.config().task.keep
    assert len(kept) == 5
    assert {s.id for s in form.config().task.load().retain[64:]} == set(kept)
    assert "5 rows are added" in form.risk.rows.value
    form.risk.clear.click()
    assert form.config().task.keep == ()
    form.risk.add.click()
    form.task.value = "tofu/forget01"  # they were rows of the other task
    assert form.config().task == TaskSpec("tofu/forget01", retain_rows=64)


def test_what_is_wrong_is_shown(bio: Any, tmp_path: Any) -> None:
    form = Form(TaskSpec("biographies"), "bio-full")
    form.risk.count.value = "many"
    assert "no whole number" in form.risk.rows.value
    form.risk.count.value = "3"
    form.task.value = "nothing"
    form.risk.show()
    assert "unknown task" in form.risk.rows.value
    assert form.risk.add.disabled
    own = Form(TaskSpec(**own_files(bio, tmp_path, 8)), "bio-full")
    own.risk.show()
    assert "The run rehearses all rows that there are." in own.risk.rows.value

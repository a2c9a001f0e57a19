"""Every widget by axe-core's rules, contrast among them, in both themes."""

from __future__ import annotations

import shutil
import subprocess
import tarfile
from pathlib import Path
from typing import Any

import pytest
from runs_of import config_of, own_files
from widget_page import browser, open_widget

from workbench import execution
from workbench.scorers import score_samples
from workbench.settings import Settings
from workbench.view.widgets import BeforeAfter, CompareView, TokenView

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def axe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """axe-core's script, from npm."""
    if not shutil.which("npm"):
        pytest.skip("axe-core comes from npm, which is not here")
    folder = tmp_path_factory.mktemp("axe")
    done = subprocess.run(["npm", "pack", "axe-core"], cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"npm has no axe-core for us: {done.stderr.strip()[-200:]}")
    with tarfile.open(next(folder.glob("*.tgz"))) as packed:
        packed.extract("package/axe.min.js", folder, filter="data")
    return folder / "package" / "axe.min.js"


@pytest.fixture(scope="module")
def widgets(bio: Any, full: Any, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("run")
    settings = Settings(steps=6, batch_size=8, lr=1e-3, record_every=3)
    execution.start(config_of(own_files(bio, folder), settings, probe_limit=8), folder / "run")
    scores = score_samples(full, bio.forget[:6], ["surprisal", "entropy", "position", "spans"])
    texts = {s.id: (s.question, s.answer) for s in bio.forget}
    return {
        "TokenView": TokenView.of_run(folder / "run"),
        "CompareView": CompareView(scores, texts),
        "BeforeAfter": BeforeAfter(folder / "run"),
    }


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("name", ["TokenView", "CompareView", "BeforeAfter"])
def test_no_serious_violation(axe: Path, widgets: dict[str, Any], tmp_path: Path, name: str, theme: str) -> None:
    with browser() as chromium:
        page = open_widget(chromium, widgets[name], tmp_path, theme)
        page.add_script_tag(path=str(axe))
        found = page.evaluate("axe.run('main')")
        serious = [v for v in found["violations"] if v["impact"] in ("serious", "critical")]
        assert found["passes"]
        assert [(v["id"], v["nodes"][0]["html"]) for v in serious] == []

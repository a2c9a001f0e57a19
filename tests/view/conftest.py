"""What tests of several views share: a run with scores recorded on its way."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from runs_of import config_of, own_files

from workbench.runs import execution
from workbench.unlearning.settings import Settings


@pytest.fixture(scope="session")
def recorded_run(bio: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A short run with recorded scores at several steps; tests must not change it."""
    folder = tmp_path_factory.mktemp("recorded")
    settings = Settings(steps=12, batch_size=8, lr=1e-3, record_every=3, record_samples=8)
    execution.start(config_of(own_files(bio, folder), settings, probe_limit=8), folder / "run")
    return folder / "run"

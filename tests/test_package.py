"""The house rules: import order, public names, a quick and silent import, entries that explain themselves."""

from __future__ import annotations

import subprocess
import sys

import pytest

import workbench
from workbench.errors import UserError
from workbench.evals.metrics import metric
from workbench.evals.mia import attack
from workbench.evals.suites import summary
from workbench.objectives import objective
from workbench.registry import Registry
from workbench.scorers.base import scorer


def test_public_names_are_real() -> None:
    assert workbench.__all__ == sorted(workbench.__all__)
    assert all(getattr(workbench, name) is not None for name in workbench.__all__)
    assert set(workbench.__all__) <= set(dir(workbench))
    with pytest.raises(AttributeError):
        workbench.no_such_name  # noqa: B018


def test_import_is_silent_and_light() -> None:
    code = "import workbench, sys; print(sorted({'torch', 'transformers', 'pandas', 'plotly'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("[]\n", "")


def test_commands_load_what_they_need() -> None:
    """Transformers' modelling code takes longer to load than torch: `models` and `runs` do without."""
    names = "'torch' in sys.modules, 'transformers.modeling_utils' in sys.modules"
    code = f"import workbench.cli.models, workbench.cli.runs, sys; print({names})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "True False\n"


@pytest.mark.parametrize("registry", [scorer, objective, metric, attack, summary], ids=lambda r: r.kind)
def test_every_entry_explains_itself(registry: Registry) -> None:
    for name in registry:
        assert registry[name].function.__doc__
        assert registry[name].source
        assert registry[name].certainty
        assert all(default is not None for default in registry[name].options.values())


def test_names_that_do_not_exist() -> None:
    with pytest.raises(UserError, match="unknown scorer 'suprisal': did you mean surprisal"):
        scorer["suprisal"]
    with pytest.raises(ValueError, match="twice"):
        scorer("uniform")(lambda: None)

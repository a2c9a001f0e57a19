"""The house rules: import order, public names, a quick and silent import, tables in the README."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

import workbench
from workbench.membership import attack
from workbench.metrics import metric
from workbench.objectives import objective
from workbench.registry import Registry, UserError
from workbench.scorers import scorer
from workbench.suites import summary

ROOT = Path(workbench.__file__).parent
ORDER = [
    {"registry"},
    {"files", "goals", "interrupts"},
    {"tasks"},
    {"ownership"},
    {"models", "packing", "forward"},
    {"adapters", "tokens"},
    {"cost", "processes"},
    {"sharding", "batching"},
    {"skipping"},
    {"scorers", "objectives", "metrics", "reference", "settings"},
    {"terms"},
    {"loop"},
    {"probes", "compare", "unlearn", "membership", "general"},
    {"scoring", "runs", "suites", "relearning", "options"},
    {"checkpoints", "trackers"},
    {"execution"},
    {"sweep", "worker"},
    {"jobs"},
    {"view"},
    {"report"},
    {"score_file", "console", "demo", "commands", "cli", "biographies", "builtin"},
]
LEVEL = {name: level for level, names in enumerate(ORDER) for name in names}


def imports(path: Path) -> set[str]:
    """First-level modules of the package that a file imports, at any depth, type checking aside."""
    tree = ast.parse(path.read_text())
    skipped = {
        id(inner) for node in ast.walk(tree)
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test) for inner in ast.walk(node)
    }  # fmt: skip
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and id(node) not in skipped and (node.module or "").startswith("workbench"):
            parts = (node.module or "").split(".")
            found |= {parts[1]} if len(parts) > 1 else {alias.name for alias in node.names}
    return found


@pytest.mark.parametrize("path", sorted(ROOT.rglob("*.py")), ids=lambda p: str(p.relative_to(ROOT)))
def test_imports_go_one_way(path: Path) -> None:
    own = path.relative_to(ROOT).parts[0].removesuffix(".py")
    if own.startswith("__"):
        return
    for name in imports(path) - {own}:
        assert LEVEL[name] <= LEVEL[own], f"{own} imports {name}"
        if name == "view":
            assert own in {"report", "commands", "cli"}


def test_public_names_are_real() -> None:
    assert workbench.__all__ == sorted(workbench.__all__)
    assert all(getattr(workbench, name) is not None for name in workbench.__all__)
    with pytest.raises(AttributeError):
        workbench.no_such_name  # noqa: B018


def test_import_is_silent_and_light() -> None:
    code = "import workbench, sys; print(sorted({'torch', 'transformers', 'pandas', 'plotly'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("[]\n", "")


def test_commands_load_what_they_need() -> None:
    """Transformers' modelling code takes longer to load than torch: `models` and `runs` do without."""
    code = "import workbench.commands, sys; print('torch' in sys.modules, 'transformers.modeling_utils' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "True False\n"


@pytest.mark.parametrize("registry", [scorer, objective, metric, summary], ids=lambda r: r.kind)
def test_the_readme_lists_what_is_registered(registry: Registry) -> None:
    readme = (ROOT.parent / "README.md").read_text()
    table = readme.split(f"| {registry.kind} |")[1].split("\n\n")[0]
    assert sorted(re.findall(r"^\| `(\w+)`", table, re.M)) == sorted(registry)


@pytest.mark.parametrize("registry", [scorer, objective, metric, attack, summary], ids=lambda r: r.kind)
def test_every_entry_explains_itself(registry: Registry) -> None:
    for name in registry:
        assert registry[name].function.__doc__
        assert registry[name].facts["source"]
        assert all(default is not None for default in registry[name].options.values())


def test_names_that_do_not_exist() -> None:
    with pytest.raises(UserError, match="unknown scorer 'suprisal': did you mean surprisal"):
        scorer["suprisal"]
    with pytest.raises(ValueError, match="twice"):
        scorer("uniform")(lambda: None)

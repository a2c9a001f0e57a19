"""The README and the site: links, generated pages, commands, and the built site in a browser without a network."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import docs_pages
import pytest
from widget_page import browser

from workbench.evals.attacks import recovery
from workbench.evals.metrics import metric
from workbench.evals.mia import attack
from workbench.evals.suites import SUITES, summary
from workbench.objectives import objective, retain_loss
from workbench.registry import Registry
from workbench.scorers import scorer
from workbench.tasks import task
from workbench.unlearning import Settings

ROOT = Path(__file__).resolve().parents[2]
README = ROOT / "README.md"
PAGES = [README, *sorted((ROOT / "docs").rglob("*.md"))]
GENERATED = {
    "scorers": scorer,
    "objectives": objective,
    "retain-losses": retain_loss,
    "metrics": metric,
    "attacks": attack,
    "recovery": recovery,
    "suites": summary,
    "tasks": task,
}


@cache
def filled(path: Path) -> str:
    return docs_pages.fill(path.read_text(encoding="utf-8"))


@cache
def anchors(path: Path) -> set[str]:
    markdown = pytest.importorskip("markdown", reason="mkdocs is not installed")
    html = markdown.markdown(filled(path), extensions=["toc", "fenced_code", "tables"])
    return set(re.findall(r'\bid="([^"]+)"', html))


def links(path: Path) -> list[str]:
    text = re.sub(r"^```.*?^```$", "", filled(path), flags=re.M | re.S)
    return [link for link in re.findall(r"\]\(([^)\s]+)\)", text) if not re.match(r"\w+:", link)]


@pytest.mark.parametrize("path", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_relative_links_and_anchors_resolve(path: Path) -> None:
    for link in links(path):
        name, _, anchor = link.partition("#")
        target = (path.parent / name).resolve() if name else path
        assert target.is_file(), f"{link}: no such file"
        assert not anchor or anchor in anchors(target), f"{link}: no such anchor"


def test_every_page_is_in_the_navigation() -> None:
    named = re.findall(r"[\w/.-]+\.md$", (ROOT / "mkdocs.yml").read_text(), re.M)
    assert sorted(named) == sorted(str(p.relative_to(ROOT / "docs")) for p in PAGES[1:])


def test_settings_that_the_guide_names_exist() -> None:
    guide = (ROOT / "docs" / "guide" / "unlearning.md").read_text(encoding="utf-8")
    table = guide.split("| setting | what it does |\n|---|---|\n")[1].split("\n\n")[0]
    named = {name for row in table.splitlines() for name in re.findall(r"`(\w+)", row.split(" | ")[0])}
    assert {"gamma", "skip", "compile"} <= named <= set(Settings.model_fields)


def test_the_readme_is_one_page() -> None:
    lines = README.read_text(encoding="utf-8").splitlines()
    assert len(lines) <= 120
    assert max(map(len, lines)) <= 100


@pytest.mark.parametrize("page", GENERATED)
def test_reference_pages_list_what_is_registered(page: str) -> None:
    registry: Registry[Any] = GENERATED[page]
    text = filled(ROOT / "docs" / "reference" / f"{page}.md")
    assert re.findall(r"^### `(\w+)`", text, re.M) == list(registry)
    for name in registry:
        section = re.split(r"^### ", text.split(f"### `{name}`")[1], maxsplit=1, flags=re.M)[0]
        assert "**Source:**" in section
        assert "**Certainty:**" in section
        assert all(f"| `{option}` |" in section for option in registry[name].options)


def test_reference_pages_list_suites_settings_and_commands() -> None:
    assert all(f"| `{name}` |" in docs_pages.suites() for name in SUITES)
    settings = docs_pages.settings()
    assert all(f"| `{name}` | `" in settings for name in ("steps", "lr", "retain_every", "options"))
    assert not re.search(r"^\| `.*\|\s*\|$", settings, re.M), "a setting without a description"
    assert all(text.strip() for text in docs_pages.help_texts().values())


def test_commands_that_pages_name_exist() -> None:
    commands = set(docs_pages.help_texts())
    targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.M))
    for path in [p for p in PAGES if "findings" not in p.parts]:
        text = path.read_text(encoding="utf-8")
        assert set(re.findall(r"^    workbench (\w[\w-]*)|`workbench (\w[\w-]*)", text, re.M)) - {("", "")} <= {
            pair for name in commands for pair in ((name, ""), ("", name))
        }, path
        assert set(re.findall(r"(?:^    |`)make ([\w-]+)", text, re.M)) <= targets, path
    assert "make test" in README.read_text(encoding="utf-8")


def test_the_examples_in_the_readme_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    code = re.findall(r"^```python\n(.*?)^```$", README.read_text(encoding="utf-8"), re.M | re.S)
    assert len(code) >= 2
    monkeypatch.chdir(tmp_path)
    for example in code:
        exec(example, {})
    assert "'probability'" in capsys.readouterr().out


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site, built as `make docs` does: strict, so that a warning fails."""
    pytest.importorskip("material", reason="mkdocs-material is not installed")
    out = tmp_path_factory.mktemp("site")
    command = [
        sys.executable,
        "-m",
        "mkdocs",
        "build",
        "--site-dir",
        str(out),
        "--config-file",
        str(ROOT / "mkdocs.yml"),
    ]
    quiet = os.environ | {"NO_MKDOCS_2_WARNING": "1"}
    built = subprocess.run(command, capture_output=True, text=True, env=quiet, check=False)
    assert built.returncode == 0, built.stderr
    return out


def test_the_site_asks_for_nothing_outside(site: Path) -> None:
    for page in site.rglob("*.html"):
        loaded = re.findall(r'<(?:script|link|img|iframe)[^>]+(?:src|href)="?(https?:[^" >]+)', page.read_text("utf-8"))
        assert not loaded, page


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_site_opens_from_its_folder(site: Path, scheme: str) -> None:
    with browser() as chromium:
        page = chromium.new_page(color_scheme=scheme, viewport={"width": 1280, "height": 900})
        trouble: list[str] = []
        page.on("console", lambda message: trouble.append(message.text))
        page.on("pageerror", lambda error: trouble.append(str(error)))
        page.on("request", lambda r: None if r.url.startswith(("file:", "data:", "blob:")) else trouble.append(r.url))
        page.goto((site / "index.html").as_uri())
        assert (
            page.locator("body").get_attribute("data-md-color-scheme") == {"light": "default", "dark": "slate"}[scheme]
        )
        for name in ("reference/scorers.html", "findings/2026-11-26-levers.html", "scale.html"):
            page.goto((site / name).as_uri())
            page.locator("article h1").wait_for()
        page.locator(".md-search__input").focus()
        page.get_by_text("Type to start searching").wait_for(timeout=60_000)
        page.locator(".md-search__input").press_sequentially("specificity")
        page.locator(".md-search-result__item").first.wait_for(timeout=20_000)
        assert trouble == []

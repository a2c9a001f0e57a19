"""Real JupyterLab, and voila, with Chromium on them: apart from the user's settings, no request to another host."""

from __future__ import annotations

import json
import os
import re
import secrets
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import nbformat

SETTINGS = {
    "apputils-extension/notification": {"fetchNews": "false", "checkForUpdates": False},
    "notebook-extension/tracker": {"windowingMode": "none"},  # cells out of view would not be in the page
}
ROOT = Path(__file__).resolve().parents[2]
KERNEL = {"name": "python3", "display_name": "Python 3", "language": "python"}


@contextmanager
def jupyter(folder: Path, theme: str) -> Iterator[str]:
    """JupyterLab on `folder`, its home beside it; gives an address with NAME in the place of a notebook's path."""
    home = folder.parent / f"{folder.name}-home"
    chosen = {"apputils-extension/themes": {"theme": f"JupyterLab {theme.title()}"}}
    for name, content in (SETTINGS | chosen).items():
        path = home / "config" / "lab" / "user-settings" / "@jupyterlab" / f"{name}.jupyterlab-settings"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(content))
    token, port = secrets.token_hex(8), free_port()
    words = [
        *("lab", "--no-browser", "--allow-root", "--ServerApp.ip=127.0.0.1", f"--ServerApp.port={port}"),
        *("--ServerApp.port_retries=0", f"--IdentityProvider.token={token}", f"--ServerApp.root_dir={folder}"),
    ]
    with serving(["jupyter", *words], home, f"http://127.0.0.1:{port}/api?token={token}"):
        yield f"http://127.0.0.1:{port}/lab/tree/NAME?token={token}&reset"


@contextmanager
def voila(folder: Path, theme: str, template: Path) -> Iterator[str]:
    """Voila on `folder` as `make voila` serves it, with a template of the directory `template`; gives its address.

    The address has NAME in the place of what is asked for, and then the token.
    """
    port = free_port()
    words = ["voila", str(folder), "--no-browser", f"--port={port}", f"--theme={theme}", *voila_options()]
    home, address = folder.parent / f"{folder.name}-home", f"http://127.0.0.1:{port}/"
    paths = os.pathsep.join(filter(None, (str(template), os.environ.get("JUPYTER_PATH"))))
    with serving(words, home, f"{address}voila/static/voila.js", JUPYTER_PATH=paths):
        token = re.search(r"\?token=(\w+)", (home / "log.txt").read_text())
        yield f"{address}NAME?token={token.group(1) if token else ''}"


def voila_options() -> list[str]:
    """The options that `make voila` gives."""
    recipe = re.search(r"voila build/demos (.*) \$\(ARGS\)", (ROOT / "Makefile").read_text(encoding="utf-8"))
    assert recipe
    return recipe.group(1).split()


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


@contextmanager
def serving(words: list[str], home: Path, address: str, **more: str) -> Iterator[None]:
    """`python -m WORDS` with a home of its own, from when `address` answers."""
    home.mkdir(exist_ok=True)
    places = {"JUPYTER_CONFIG_DIR": "config", "JUPYTER_DATA_DIR": "data", "JUPYTER_RUNTIME_DIR": "runtime"}
    environment = os.environ | {"HOME": str(home), "OMP_NUM_THREADS": "1"} | more
    environment |= {name: str(home / part) for name, part in places.items()}
    log = (home / "log.txt").open("wb")
    server = subprocess.Popen([sys.executable, "-m", *words], env=environment, stdout=log, stderr=log)
    try:
        _wait(address, server, home / "log.txt")
        yield
    finally:
        server.terminate()
        server.wait(20)


def _wait(address: str, server: subprocess.Popen[bytes], log: Path) -> None:
    for _ in range(300):
        assert server.poll() is None, log.read_text()
        try:
            urllib.request.urlopen(address, timeout=5)
            return
        except urllib.error.HTTPError:
            return  # it answers
        except (urllib.error.URLError, OSError):
            time.sleep(0.2)
    raise AssertionError(f"the server has not answered: {log.read_text()}")


class Lab(NamedTuple):
    """A JupyterLab that runs: its address, its folder, its theme."""

    address: str
    folder: Path
    theme: str


def write_notebook(path: Path, cells: list[str]) -> None:
    """A notebook of such code cells."""
    notebook = nbformat.v4.new_notebook(metadata={"kernelspec": KERNEL})
    notebook.cells = [nbformat.v4.new_code_cell(cell) for cell in cells]
    nbformat.write(notebook, path)


def left_this_machine(url: str) -> bool:
    """Whether a request went anywhere but to the server that serves the page."""
    return not url.startswith(("http://127.0.0.1:", "ws://127.0.0.1:", "data:", "blob:"))


class Notebook:
    """A notebook open in JupyterLab.

    Attributes:
        page: the browser's page.
        messages: console errors, script errors, and requests that left this machine: none, if all is well.
    """

    def __init__(self, chromium: Any, address: str, name: str) -> None:
        self.page = chromium.new_page(viewport={"width": 1280, "height": 1500})
        self.page.set_default_timeout(30_000)
        self.messages: list[str] = []
        self.page.on("console", lambda m: self.messages.append(m.text) if m.type == "error" else None)
        self.page.on("pageerror", lambda error: self.messages.append(str(error)))
        self.page.on("request", self._asked)
        self.page.goto(address.replace("NAME", name))
        self.page.locator("#jupyterlab-splash").wait_for(state="detached", timeout=60_000)
        self.idle()

    def _asked(self, request: Any) -> None:
        if left_this_machine(request.url):
            self.messages.append(request.url)

    def idle(self, seconds: float = 60) -> None:
        """Wait until the kernel is there and has nothing to do."""
        self.page.get_by_text("| Idle").first.wait_for(timeout=1000 * seconds)
        indicator = '.jp-Notebook-ExecutionIndicator[data-status="idle"]'
        self.page.locator(indicator).first.wait_for(timeout=1000 * seconds)

    def _menu(self, menu: str, command: str) -> None:
        self.page.locator(".lm-MenuBar-itemLabel", has_text=menu).first.click()
        self.page.locator(f'.lm-Menu-item[data-command="{command}"]').first.click()

    def run_all(self, seconds: float = 120) -> None:
        """Run all cells through the menu, and wait until the last has run."""
        self._menu("Run", "runmenu:run-all")
        last = self.page.locator(".jp-CodeCell").last.locator(".jp-InputPrompt")
        last.filter(has_text="[").filter(has_not_text="[*]").filter(has_not_text="[ ]").wait_for(timeout=1000 * seconds)
        self.idle(seconds)

    def restart(self) -> None:
        """Restart the kernel through the menu."""
        self._menu("Kernel", "kernelmenu:restart")
        self.page.locator(".jp-Dialog .jp-mod-accept").click()
        self.idle()

    def run_cell(self, index: int) -> str:
        """Run one code cell, and return the text below it."""
        cell = self.page.locator(".jp-CodeCell").nth(index)
        cell.locator(".cm-content").click()
        self.page.keyboard.press("Control+Enter")
        time.sleep(0.3)
        self.idle()
        return "\n".join(cell.locator(".jp-OutputArea-output").all_inner_texts())

    def close(self) -> None:
        """Close the page; there must be nothing to complain about."""
        self.page.close()
        assert self.messages == []


def opened(chromium: Any, lab: Lab, name: str, cells: list[str] | None = None) -> Notebook:
    """A notebook of the lab's folder, made of such code cells first, open in the lab's theme."""
    if cells:
        write_notebook(lab.folder / name, cells)
    notebook = Notebook(chromium, lab.address, name)
    light = {"light": "true", "dark": "false"}[lab.theme]
    notebook.page.locator(f'body[data-jp-theme-light="{light}"]').wait_for(state="attached")
    return notebook

"""Processes forked from one that has the libraries loaded, in place of a cold start of several seconds each."""

from __future__ import annotations

import multiprocessing
import os
import runpy
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from multiprocessing import reduction
from pathlib import Path
from typing import IO, Any

CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["torch", "transformers.modeling_utils", "transformers.models.llama.modeling_llama",
                                "pandas", "workbench.cli.app", "workbench.cli.runs", "workbench.runs.worker",
                                "workbench.runs.execution"])  # fmt: skip


DEVNULL = subprocess.DEVNULL  # so that this module can stand for `subprocess`


class OpenFile:
    """A descriptor that travels to another process."""

    def __init__(self, number: int) -> None:
        self.number = number

    def __reduce__(self) -> tuple[Callable[..., int], tuple[Any]]:
        return _received, (reduction.DupFd(self.number),)


def _received(sent: Any) -> int:
    return int(sent.detach())


def _child(
    module: str,
    words: list[str],
    environment: dict[str, str],
    out: str | None,
    err: str | None,
    kept: dict[int, int],
) -> None:
    """What `python -m module words` does; an open file, by the number that it had before, is its last word."""
    words[len(words) - len(kept) :] = [str(kept[int(word)]) for word in words[len(words) - len(kept) :]]
    os.setsid()
    os.environ.clear()
    os.environ.update(environment)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for path, descriptor in ((out, 1), (err, 2)):
        file = os.open(path or os.devnull, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        os.dup2(file, descriptor)
    sys.argv = [module, *words]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


def together(
    count: int, module: str, *words: str, env: dict[str, str], errors: Path, seconds: float = 120
) -> list[int]:
    """Exit statuses of so many processes of one run, as `torch.distributed.run` starts them; all write to `errors`."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    place = {"WORLD_SIZE": str(count), "LOCAL_WORLD_SIZE": str(count)}
    place |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    with errors.open("w") as file:
        started = [
            Popen([sys.executable, "-m", module, *words], stderr=file,
                  env=env | place | {"RANK": str(rank), "LOCAL_RANK": str(rank)})
            for rank in range(count)
        ]  # fmt: skip
    try:
        return [process.wait(seconds) for process in started]
    except AssertionError as error:
        raise AssertionError(errors.read_text()) from error
    finally:
        for process in started:  # one that failed leaves the others waiting for it
            process.process.kill()


class Popen:
    """`subprocess.Popen` of `python -m module words`, as far as the package and the tests use it.

    Args:
        command: the interpreter, `-m`, the module, and its words.
        stdout: an open file, or None to drop what is written; `stderr` likewise.
        env: the environment.
        pass_fds: files that stay open.
        more: settings of `subprocess.Popen` that hold here anyway: no input, a session of its own.
    """

    def __init__(
        self,
        command: list[str],
        *,
        stdout: IO[Any] | None = None,
        stderr: IO[Any] | None = None,
        env: dict[str, str] | None = None,
        pass_fds: tuple[int, ...] = (),
        **more: Any,
    ) -> None:
        _, flag, module, *words = command
        assert flag == "-m"
        out, err = (str(Path(f.name).absolute()) if f else None for f in (stdout, stderr))
        kept = {number: OpenFile(number) for number in pass_fds}
        vars(sys.modules["__main__"]).setdefault("__spec__", None)  # a kernel that was reset has lost it
        self.process = CONTEXT.Process(target=_child, args=(module, words, dict(env or os.environ), out, err, kept))
        self.process.start()
        self.pid = self.process.pid

    def poll(self) -> int | None:
        """The exit status, negative after a signal; None while it goes on."""
        return self.process.exitcode

    def wait(self, timeout: float = 120) -> int:
        """Wait until it has ended."""
        self.process.join(timeout)
        assert self.process.exitcode is not None, "it has not ended"
        return self.process.exitcode

"""Standard output that is not UTF-8: every command prints all it has, with escapes for what the encoding lacks.

One process prints in all encodings, as loading the libraries takes longer than all commands: first in ASCII, which is
what the machine itself says, and then into files of the others.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest
from tables import table_of

ENCODINGS = ["ascii", "cp1252", "latin-1"]
ASCII = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
COMMANDS = """
import json, sys
from workbench.cli.app import main
for name in ["", *sys.argv[3:]]:
    if name:
        sys.stdout, sys.stderr = (open(f"{sys.argv[1]}/{name}.{end}", "w", encoding=name) for end in ("out", "err"))
    status = []
    for words in json.loads(sys.argv[2]):
        print("#", words[0])
        print("#", words[0], file=sys.stderr)
        try:
            status.append(main(words))
        except SystemExit as end:
            status.append(end.code)
    print(json.dumps(status))
    sys.stdout.flush()
    sys.stderr.flush()
"""


@pytest.fixture(scope="module")
def printed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[str, str]]:
    """Standard output and standard error by encoding."""
    tmp_path = tmp_path_factory.mktemp("encodings")
    row = {"id": "Самара ─ ↑", "question": "Где?", "answer": "Самара 東京.", "spans": [[0, 2]]}
    for each, changes in (("forget", {}), ("retain", {"id": "r", "question": "Кто?"})):
        (tmp_path / f"{each}.jsonl").write_text(json.dumps(row | changes) + "\n")
    table = tmp_path / "s.parquet"
    table_of({"оценка": [[0.5, 0.25]]}, [[True, False]]).to_parquet(table)
    own = ["--forget", str(tmp_path / "forget.jsonl"), "--retain", str(tmp_path / "retain.jsonl")]
    commands = [
        ["--help"],
        ["probe", "--help"],
        ["align", str(table), "--json"],
        ["align", "café.parquet"],
        ["score", *own, "--model", "bio-full", "--scorer", "saliency", "--set", "target=token:99",
         "--out", str(tmp_path / "out.parquet"), "--json"],
        ["probe", "bio-full", *own, "--json"],
    ]  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-c", COMMANDS, str(tmp_path), json.dumps(commands), *ENCODINGS[1:]],
        capture_output=True, check=False, env=os.environ | {"OMP_NUM_THREADS": "1"} | ASCII,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    files = {name: [(tmp_path / f"{name}.{end}").read_bytes() for end in ("out", "err")] for name in ENCODINGS[1:]}
    both = {"ascii": [done.stdout, done.stderr]} | files
    return {name: (out.decode(name), err.decode(name)) for name, (out, err) in both.items()}


@pytest.mark.parametrize("name", ENCODINGS)
def test_commands_print_in_any_encoding(name: str, printed: dict[str, tuple[str, str]]) -> None:
    out, err = printed[name]
    assert "Traceback" not in err, err
    assert json.loads(out.splitlines()[-1]) == [0, 0, 0, 2, 0, 0], err

    def shown(text: str) -> str:
        return text.encode(name, "backslashreplace").decode(name)

    assert "Usage: workbench" in out
    assert shown("оценка") in out
    assert shown("workbench: café.parquet: no such file") in err or "invalid value for 'FILE.parquet'" in err
    assert shown("saliency: not available for 'Самара ─ ↑'") in out
    header, line = (out[out.index("set     metric") :].splitlines()[n] for n in (0, 1))
    assert shown("↑") in line
    assert header.index("value") == line.index("not available" if "not available" in line else "0.")
    objects = [json.loads(line) for line in out.splitlines() if line.startswith("{")]
    assert [len(each) > 0 for each in objects] == [True] * 3

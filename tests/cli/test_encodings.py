"""Standard output that is not UTF-8: every command prints all it has, with escapes for what the encoding lacks."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from tables import table_of

ENCODINGS = {
    "cp1252": {"PYTHONIOENCODING": "cp1252"},
    "latin-1": {"PYTHONIOENCODING": "latin-1:strict"},
    "ascii": {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
}
COMMANDS = """
import json, sys
from workbench.cli.app import main
status = []
for words in json.loads(sys.argv[1]):
    print("#", words[0])
    print("#", words[0], file=sys.stderr)
    try:
        status.append(main(words))
    except SystemExit as end:
        status.append(end.code)
print(json.dumps(status))
"""


@pytest.mark.parametrize("name", list(ENCODINGS))
def test_commands_print_in_any_encoding(name: str, tmp_path: Path) -> None:
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
        [sys.executable, "-c", COMMANDS, json.dumps(commands)],
        capture_output=True, check=False, env=os.environ | {"OMP_NUM_THREADS": "1"} | ENCODINGS[name],
    )  # fmt: skip
    out, err = done.stdout.decode(name), done.stderr.decode(name)
    assert done.returncode == 0, err
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

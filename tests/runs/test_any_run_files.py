"""Whatever a file holds that the package reads back, out comes a result or one clear line."""

from __future__ import annotations

import copy
import json
import os
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from runs_of import QUICK, config_of, own_files
from safetensors import safe_open
from safetensors.torch import save_file

from workbench import runs
from workbench.cli.probe import compared_with
from workbench.cli.runs import cost_of, show_run
from workbench.errors import UserError
from workbench.evals.alignment import alignment
from workbench.evals.outcomes import outcomes
from workbench.models import load
from workbench.models.adapters import base_of, load_adapter
from workbench.models.catalog import layer_count, locate, parameter_count
from workbench.models.prompt_style import recorded_style
from workbench.runs.attack_results import Results
from workbench.runs.checkpoints import newest_intact
from workbench.runs.directory import RunDirectory
from workbench.runs.lock import holder, job_of
from workbench.scorers import ScoreFile, load_scorer, read_columns, read_scores
from workbench.tasks.samples import Task
from workbench.view.html import attacks_view
from workbench.view.report import read_run
from workbench.view.widgets.answer_notes import AnswerNotes
from workbench.view.widgets.run_status import chart_html, config_html, results_html, state_html

EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", "25"))  # `make fuzz` wants more
SETTINGS = settings(max_examples=EXAMPLES, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
RAW = (
    *("null", "true", "[]", "{}", '"x"', '""', "0", "-1", "1.5", "1e400", "-1e400", "NaN", "-Infinity", "9" * 30),
    *(
        '{"value": null}',
        '{"value": null, "reason": 3}',
        "[1]",
        '[["a", 2]]',
        '{"x": {"y": 1}}',
        '"\\ud800"',
        '"a\\nb"',
    ),
    *('"../x"', '"/"', '"\\u0000"', "9" * 5000, "[" * 5000 + "]" * 5000, "1" + "0" * 400),
)
MARK = '"@@"'
ONE_RUN = ("config.json", "run.json", "cost.json", "metrics.json", "job.json", "events.jsonl")
BESIDE = ("suites/s.json", "notes.json")
TABLES = ("probes.parquet", "tokens.parquet", "scores.parquet", "attacks/answers.parquet")
COLUMN = st.sampled_from((None, 1, -1, 1.5, float("nan"), float("inf"), "x", "", True, 2**40, b"\xff", [1], {"a": 1}))


@pytest.fixture(scope="module")
def place(bio: Task, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with every file that there can be, a checkpoint, an attack, an adapter and a scorer; no sha256 of them."""
    root = tmp_path_factory.mktemp("files")
    config = config_of(own_files(bio, root, 4), QUICK.replace(steps=3, batch_size=2, checkpoint_every=2), probe_limit=1)

    def keep(event: dict[str, Any]) -> None:
        if event["step"] == 3:
            shutil.copytree(root / "run" / "checkpoints", root / "unfinished" / "checkpoints")

    run = runs.start(config.replace(probe_every=2), root / "run", on_step=keep)
    runs.attack(run, attacks="greedy", limit=1)
    (root / "run" / "suites").mkdir()
    suite = {
        "summary": {"forgetting": 0.5},
        "parts": {"x": {"y": 1.0}},
        "curve": [{"step": 1, "x": 0.5}],
        "general": None,
    }
    (root / "run" / "suites" / "s.json").write_text(json.dumps(suite))
    AnswerNotes(root / "run").set("forget/x", "a, b", "note")
    lora = load("bio-full", device="cpu")
    from workbench.models.adapters import choose_trained, save_adapter

    choose_trained(lora, "lora")
    save_adapter(lora, root / "adapter")
    for manifest in root.rglob("manifest.json"):
        manifest.unlink()
    unread = shutil.ignore_patterns("*.parquet", "model", "scorer.*")  # so that a look takes a moment
    shutil.copytree(root / "run", root / "light" / "run", ignore=unread)
    return root


def only_errors(*uses: Callable[[], Any]) -> None:
    """Use what was read: each works, or says in one line what is wrong."""
    for use in uses:
        line = ""
        try:
            use()
        except UserError as error:
            line = str(error)
        assert "\n" not in line, line


class Replaced:
    """A file with another content for a while."""

    def __init__(self, path: Path, content: bytes) -> None:
        self.path, self.content, self.before = path, content, path.read_bytes()

    def __enter__(self) -> None:
        self.path.write_bytes(self.content)

    def __exit__(self, *_: Any) -> None:
        self.path.write_bytes(self.before)


@st.composite
def damage(draw: st.DrawFn, size: int) -> Callable[[bytes], bytes]:
    """What changes some of `size` bytes, cuts them off, or leaves nothing of them.

    What hypothesis draws it keeps, so that a large file is not drawn, but only what is done to it.
    """
    way = draw(st.sampled_from(("bytes", "bytes", "cut", "other")))
    if way == "other":
        other = draw(st.binary(max_size=20) | st.sampled_from(RAW).map(str.encode))
        return lambda content: other
    if way == "cut":
        end = draw(st.integers(0, size - 1))
        return lambda content: content[:end]
    places = draw(st.lists(st.tuples(st.integers(0, size - 1), st.integers(0, 255)), min_size=1, max_size=3))

    def change(content: bytes) -> bytes:
        changed = bytearray(content)
        for place, byte in places:
            changed[place] = byte
        return bytes(changed)

    return change


@st.composite
def edited(draw: st.DrawFn, content: bytes) -> bytes:
    """JSON (or lines of it) in which a value somewhere is another, is gone, or has another name; or damaged."""
    if draw(st.integers(0, 4)) == 0:
        return draw(damage(len(content)))(content)
    try:
        lines = [json.loads(content)]
    except ValueError:
        lines = [json.loads(line) for line in content.splitlines()]
    number = draw(st.integers(0, len(lines) - 1))
    node: Any = {"": copy.deepcopy(lines[number])}
    top, key = node, ""
    while isinstance(node[key], dict | list) and node[key] and draw(st.integers(0, 5)):
        node = node[key]
        key = draw(st.sampled_from(list(node) if isinstance(node, dict) else range(len(node))))
    if key != "" and draw(st.integers(0, 4)) == 0:
        if isinstance(node, dict) and draw(st.booleans()):
            node["x"] = node[key]
        del node[key]
    else:
        node[key] = "@@"
    lines[number] = top[""]
    text = "\n".join(map(json.dumps, lines)).replace(MARK, draw(st.sampled_from(RAW)))
    return text.encode() + b"\n"


@st.composite
def altered(draw: st.DrawFn, content: bytes, path: Path) -> bytes:
    """A table without a column, without rows, with rows twice, or with another value or kind of values; or damaged."""
    way = draw(st.sampled_from(("bytes", "drop", "value", "column", "rows", "twice", "all")))
    if way == "bytes":
        return draw(damage(len(content)))(content)
    table = pd.read_parquet(path)
    name = draw(st.sampled_from(list(table.columns)))
    value = draw(COLUMN)
    if way == "drop":
        table = table.drop(columns=name)
    elif way == "rows":
        table = table.head(draw(st.integers(0, 2)))
    elif way == "twice":
        table = pd.concat([table, table.head(1)])
    elif way == "all":
        table = pd.DataFrame({key: [value] for key in table.columns})
    else:
        values = list(table[name])
        places = range(len(values)) if way == "column" else [draw(st.integers(0, len(values) - 1))]
        for each in places:
            values[each] = value
        table[name] = pd.Series(values, dtype=object).infer_objects()
    try:
        return bytes(table.to_parquet(index=False))
    except Exception:  # values that parquet cannot hold beside each other
        return b""


def readers(run: RunDirectory) -> Iterable[Callable[[], Any]]:
    """All that shows a run."""
    yield lambda: (run.weights, run.steps, run.curve(), run.finished)
    yield lambda: config_html(run.read_config().absolute().placed(run.path)) and run.read_config().missing_files()
    yield lambda: (results_html(run), chart_html(run, run.events()), state_html(run, run.status(), run.events()))
    yield lambda: show_run(run)
    yield lambda: cost_of(runs.Job(run.path), "forget.probability<=0.5")
    yield lambda: read_run(run.path)
    yield lambda: AnswerNotes(run.path).of("x")
    yield lambda: compared_with(str(run.path / "suites" / "s.json"), None)  # type: ignore[arg-type]


def other_content(data: st.DataObject, path: Path) -> bytes:
    """Of a file, by its kind."""
    content = path.read_bytes()
    if path.suffix == ".json":
        return bytes(data.draw(edited(content)))
    if path.suffix == ".parquet":
        return bytes(data.draw(altered(content, path)))
    return data.draw(damage(len(content)))(content)


@SETTINGS
@given(st.data())
def test_any_json_of_a_run(place: Path, data: st.DataObject) -> None:
    root = place / "light"
    path = root / "run" / data.draw(st.sampled_from(ONE_RUN + BESIDE))
    with Replaced(path, data.draw(edited(path.read_bytes()))):
        statuses = [run.status() for run in runs.list_runs(root)]  # never raises
        assert all(isinstance(status["steps"], int) for status in statuses)
        assert repr(runs.Job(root / "run"))
        assert holder(job_of(root / "run"))
        only_errors(*readers(RunDirectory(root / "run")))


@SETTINGS
@given(st.data())
def test_any_table_of_a_run(place: Path, data: st.DataObject) -> None:
    path = place / "run" / data.draw(st.sampled_from(TABLES))
    with Replaced(path, data.draw(altered(path.read_bytes(), path))):
        assert runs.list_runs(place)[0].status()
        only_errors(
            lambda: read_run(place / "run"),
            lambda: outcomes(RunDirectory(place / "run").table("probes.parquet"), runs.read_answers(path.parent)),  # type: ignore[arg-type]
        )


@SETTINGS
@given(st.data())
def test_any_score_table(place: Path, data: st.DataObject) -> None:
    path = place / "run" / "scores.parquet"
    with Replaced(path, data.draw(altered(path.read_bytes(), path))):
        file = ScoreFile(path, {"task": "x"}, ["surprisal"], {})
        accepted = []
        for read in (read_scores, read_columns):
            only_errors(lambda read=read: accepted.append(alignable(read(path))))
        only_errors(file.reopen)


def alignable(table: Any) -> None:
    """Use a table, if it has any labels."""
    only_errors(lambda: alignment(table))


@SETTINGS
@given(st.data())
def test_any_results_of_attacks(place: Path, data: st.DataObject) -> None:
    folder = place / "run" / "attacks"
    path = folder / data.draw(st.sampled_from(("summary.json", "answers.parquet", "greedy-run.json")))
    made_from = json.loads((folder / "summary.json").read_text())["made_from"]
    if not path.exists():  # rows of an attack that goes on
        rows = json.loads(pd.read_parquet(folder / "answers.parquet").to_json(orient="records"))
        Results(folder, made_from).keep("greedy", "run", {}, rows)
    rows = json.loads(path.read_text()).get("rows") if path.name == "greedy-run.json" else []
    strategy = altered(path.read_bytes(), path) if path.suffix == ".parquet" else edited(path.read_bytes())

    def goes_on() -> None:
        with Results.opened(folder, copy.deepcopy(made_from)) as results:
            results.check_options({"greedy": {"x": 1}})
            results.has("greedy", "run")
            assert results.kept("greedy", "run", {}) in ([], rows) or path.name != "greedy-run.json"

    def shown() -> None:
        attacks_view(runs.attacks_of(place / "run"), runs.read_answers(folder))
        outcomes(RunDirectory(place / "run").table("probes.parquet"), runs.read_answers(folder))  # type: ignore[arg-type]

    with Replaced(path, data.draw(strategy)):
        only_errors(goes_on, shown, lambda: show_run(RunDirectory(place / "run")))


@SETTINGS
@given(st.data())
def test_any_checkpoint(place: Path, data: st.DataObject) -> None:
    """It is used, or passed over for the one before it: never anything else."""
    folder = place / "unfinished" / "checkpoints" / "step-000002"
    names = sorted(path.name for path in folder.iterdir())
    path = folder / data.draw(st.sampled_from([*names, "state.json"]))
    with Replaced(path, other_content(data, path)):
        saved = newest_intact(place / "unfinished")
        assert (saved.state is None) == bool(saved.damaged)
        assert not any("\n" in what for what in saved.damaged.values())


@SETTINGS
@given(st.data())
def test_any_saved_scorer(place: Path, data: st.DataObject) -> None:
    path = place / "run" / "scorer.safetensors"
    with safe_open(path, "pt") as stream:
        metadata, state = stream.metadata(), {name: stream.get_tensor(name) for name in stream.keys()}  # noqa: SIM118
    if data.draw(st.booleans()):
        content = other_content(data, path)
    else:
        metadata["scorer"] = data.draw(edited(metadata["scorer"].encode())).decode(errors="replace")
        if data.draw(st.booleans()):
            name = data.draw(st.sampled_from(sorted(state)))
            state[name] = state[name].flatten()[: data.draw(st.integers(0, 3))].clone()
        save_file(state, place / "other.safetensors", metadata=metadata)
        content = (place / "other.safetensors").read_bytes()
    with Replaced(path, content):
        only_errors(lambda: load_scorer(path))


@SETTINGS
@given(st.data())
def test_any_record_of_an_adapter_or_a_model(place: Path, data: st.DataObject) -> None:
    folder = place / "adapter"
    path = folder / data.draw(st.sampled_from(("adapter_config.json", "workbench.json")))
    style = {"prompt": None, "system": None, "date": None}
    with Replaced(path, data.draw(edited(path.read_bytes()))):
        only_errors(lambda: base_of(folder), lambda: recorded_style(dict(style), folder))


@settings(SETTINGS, max_examples=max(EXAMPLES // 10, 5))
@given(st.data())
def test_any_adapter(place: Path, data: st.DataObject) -> None:
    """Merged into its base, which takes longer."""
    folder = place / "adapter"
    path = folder / data.draw(st.sampled_from(("adapter_config.json", "workbench.json", "adapter_model.safetensors")))
    with Replaced(path, other_content(data, path)):
        only_errors(lambda: load_adapter(load("bio-full", device="cpu"), folder))


@SETTINGS
@given(st.data())
def test_any_configuration_of_a_model(place: Path, data: st.DataObject) -> None:
    folder = place / "run" / "model"
    path = folder / "config.json"
    with Replaced(path, data.draw(edited(path.read_bytes()))):
        only_errors(lambda: locate(str(folder)), lambda: layer_count(str(folder)), lambda: parameter_count(str(folder)))


@SETTINGS
@given(st.data())
def test_any_configuration_of_a_run(place: Path, data: st.DataObject) -> None:
    record = json.loads((place / "run" / "config.json").read_text())
    content = data.draw(edited(json.dumps(record).encode()))

    def use() -> None:
        try:
            values = json.loads(content)
        except (ValueError, RecursionError):
            return
        if isinstance(values, dict):
            runs.Config.from_dict(values).check()

    only_errors(use)

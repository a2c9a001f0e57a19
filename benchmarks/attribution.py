"""Input x gradient of TOFU answers on SmolLM2-135M: here, by captum's LLMGradientAttribution, and by inseq.

    .venv/bin/pip install --constraint constraints.txt '.[benchmarks]'    # inseq
    .venv/bin/python benchmarks/attribution.py --data-dir DIR [--model PLANTED] [--answers 40]

Each library runs in a process of its own, in float32, one after the other, and gives the log-probability of the answer
attributed to every token before it. captum and inseq do one pass an answer token and the sum over them is the answer's.
`ratio_captum`, `ratio_inseq`: seconds of theirs over ours for the answer's scores; `ratio_captum_each`,
`ratio_inseq_each`: the same against our own attribution of every answer token apart (`each_target`), which is all that
theirs give on the way. `same_*`: the largest difference between their numbers and ours, as a share of our largest.
captum's class has no numbers for the answer's own tokens, so it is compared on the tokens before the answer.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from workbench.cli.console import table_line
from workbench.cost import peak_memory
from workbench.models import TEMPLATE, Encoding, LanguageModel, encode, load
from workbench.scorers import TaskContext, each_target, score_fixed
from workbench.tasks import Task, TaskSpec, spread

Rows = list[np.ndarray]  # a sample: (answer tokens or 1, tokens of the whole sequence), NaN where there is no number


def ours(lm: LanguageModel, task: Task, codes: list[Encoding]) -> Rows:
    """The scorer as `workbench score --scorer input_x_gradient` runs it."""
    table = score_fixed(TaskContext(lm, task), ["input_x_gradient"])
    parts = dict(list(table.groupby("sample_id", sort=False)["score"]))
    return [_full(parts[e.sample.id].to_numpy()[None], e) for e in codes]


def each(lm: LanguageModel, task: Task, codes: list[Encoding]) -> Rows:
    """Every answer token's own attribution."""
    return [_full(rows, e) for rows, e in zip(each_target(lm, task.forget), codes, strict=True)]


def _full(values: np.ndarray, encoding: Encoding) -> np.ndarray:
    table = np.full((len(values), len(encoding.ids)), np.nan)
    table[:, [i for i, s in enumerate(encoding.segments) if s != TEMPLATE]] = values
    return table


def captum(lm: LanguageModel, task: Task, codes: list[Encoding]) -> Rows:
    """LLMGradientAttribution on LayerGradientXActivation at the embeddings, with token ids as inputs."""
    from captum.attr import LayerGradientXActivation, LLMGradientAttribution, TextTokenInput

    method = LLMGradientAttribution(LayerGradientXActivation(lm.module, lm.module.get_input_embeddings()), lm.tokenizer)
    scores = []
    for encoding in codes:
        first = encoding.answer_positions[0]
        args = TextTokenInput("", lm.tokenizer)
        args.inp_tensor = args.itp_tensor = torch.tensor([encoding.ids[:first]])
        args.itp_mask, args.values = None, [str(i) for i in encoding.ids[:first]]
        rows = method.attribute(args, target=torch.tensor(encoding.ids[first:])).token_attr.numpy()
        full = np.full((len(rows), len(encoding.ids)), np.nan)
        full[:, :first] = rows
        scores.append(full)
    return scores


def inseq(lm: LanguageModel, task: Task, codes: list[Encoding]) -> Rows:
    """The input_x_gradient of inseq, of log p, for texts whose tokens are the same; it skips the end token."""
    import inseq as library

    def log_probability(args: Any) -> torch.Tensor:
        logits = args.attribution_model.output2logits(args.forward_output)
        return logits.log_softmax(-1).gather(-1, args.target_ids.reshape(-1, 1)).squeeze(-1)

    library.register_step_function(log_probability, "log_probability", overwrite=True)
    model = library.load_model(lm.module, "input_x_gradient", tokenizer=lm.tokenizer)
    scores = []
    for encoding in codes:
        parts = (encoding.ids[: encoding.answer_positions[0]], encoding.ids)
        texts = [lm.tokenizer.decode(ids) for ids in parts]
        if [lm.tokenizer(text, add_special_tokens=False).input_ids for text in texts] != list(parts):
            raise SystemExit(f"inseq: the text of '{encoding.sample.id}' has other tokens; choose other --answers")
        out = model.attribute(*texts, attributed_fn="log_probability", show_progress=False)[0]
        values = out.target_attributions.sum(-1).T.numpy()
        full = np.full((len(encoding.answer_positions), len(encoding.ids)), np.nan)
        full[: len(values), : values.shape[1]] = values
        scores.append(full)
    return scores


LIBRARIES = {"ours": ours, "each": each, "captum": captum, "inseq": inseq}


def measure(name: str, args: argparse.Namespace) -> None:
    """One library, in this process: the numbers into a file, seconds and peak memory onto the last line."""
    warnings.simplefilter("ignore")
    lm = load(args.model, precision="float32", prompt="plain", device="cpu")
    task = TaskSpec("tofu/forget01", data_dir=args.data_dir).load()
    task = replace(task, sets={**task.sets, "forget": spread(task.forget, args.answers)})
    codes = [encode(lm, s) for s in task.forget]
    warm = replace(task, sets={**task.sets, "forget": task.forget[:1]})
    LIBRARIES[name](lm, warm, codes[:1])
    started = time.perf_counter()
    rows = LIBRARIES[name](lm, task, codes)
    seconds = time.perf_counter() - started
    np.savez(args.numbers, *rows)
    tokens = sum(len(e.answer_positions) for e in codes)
    print(json.dumps({"seconds": seconds, "peak_memory_bytes": peak_memory(), "answer_tokens": tokens}))


def apart(name: str, args: argparse.Namespace, folder: Path) -> tuple[dict[str, Any], Rows]:
    """A library in a process of its own."""
    numbers = folder / f"{name}.npz"
    command = [sys.executable, __file__, "--data-dir", args.data_dir, "--model", args.model]
    command += ["--answers", str(args.answers), "--only", name, "--numbers", str(numbers)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        return {"value": None, "reason": f"exit {done.returncode}; see above"}, []
    with np.load(numbers) as loaded:
        return json.loads(done.stdout.splitlines()[-1]), [loaded[key] for key in loaded.files]


def difference(theirs: Rows, mine: Rows) -> float:
    """Largest difference where both have numbers, as a share of the largest number of the sample."""
    worst = 0.0
    for a, b in zip(theirs, mine, strict=True):
        both = np.isfinite(a) & np.isfinite(b)
        worst = max(worst, float(np.abs(a - b)[both].max() / np.abs(b[both]).max()))
    return worst


def main() -> None:
    """Run the libraries in turn; a table, then one JSON object."""
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--data-dir", required=True, help="the official TOFU files")
    options.add_argument("--model", default="smollm2")
    options.add_argument("--answers", type=int, default=40)
    options.add_argument("--only", choices=list(LIBRARIES), help=argparse.SUPPRESS)
    options.add_argument("--numbers", help=argparse.SUPPRESS)
    args = options.parse_args()
    if args.only:
        measure(args.only, args)
        return
    libraries: dict[str, dict[str, Any]] = {}
    rows: dict[str, Rows] = {}
    with tempfile.TemporaryDirectory() as folder:
        for name in LIBRARIES:
            libraries[name], rows[name] = apart(name, args, Path(folder))
    for name in ("ours", "each"):
        if "reason" in libraries[name]:
            raise SystemExit(f"{name}: {libraries[name]['reason']}")
    result: dict[str, Any] = {"libraries": libraries, "answers": args.answers, "torch": torch.__version__}
    result["same_each"] = difference([r.sum(0, keepdims=True) for r in rows["each"]], rows["ours"])
    for name in ("captum", "inseq"):
        missing = libraries[name] if "reason" in libraries[name] else None
        theirs = libraries[name].get("seconds", 0.0)
        result[f"ratio_{name}"] = missing or theirs / libraries["ours"]["seconds"]
        result[f"ratio_{name}_each"] = missing or theirs / libraries["each"]["seconds"]
        result[f"same_{name}"] = missing or difference(rows[name], rows["each"])
    table_line(
        [["library", "seconds", "peak MiB"]]
        + [
            [name, f"{f['seconds']:.1f}", f"{f['peak_memory_bytes'] / 2**20:,.0f}"]
            if "seconds" in f
            else [name, "", ""]
            for name, f in libraries.items()
        ]
    )
    print(json.dumps(result))


if __name__ == "__main__":
    main()

"""Which architectures work, and with what: tries each as a tiny random model and writes the table of docs/models.md.

python scripts/model_matrix.py --write      (a minute on one core)
"""

from __future__ import annotations

import argparse
import re
import tempfile
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import torch
from tiny_models import MODELS, Tiny, build

from workbench.errors import UserError
from workbench.evals import probe
from workbench.models import LanguageModel, encode, load, save_adapter
from workbench.models.language_model import quiet
from workbench.tasks import Task, TaskSpec
from workbench.unlearning import Run, Settings, score_task, unlearn

PAGE = Path(__file__).resolve().parents[1] / "docs" / "models.md"
BEGIN, END = "<!-- matrix -->\n", "<!-- end of matrix -->\n"
SETTINGS = Settings(steps=2, batch_size=2, lr=1e-3, warmup=1)


@cache
def small_task() -> Task:
    """A few samples of each set."""
    task = TaskSpec("biographies").load()
    sizes = {"forget": 3, "retain": 3, "neighbours": 2, "general": 1}
    return replace(task, sets={name: task.sets[name][:size] for name, size in sizes.items()})


def same_logits(first: LanguageModel, second: LanguageModel) -> None:
    """Raise where two models differ by more than rounding."""
    ids = torch.arange(5, 25).view(2, 10)
    with torch.no_grad():
        torch.testing.assert_close(first.module(ids).logits, second.module(ids).logits, rtol=1e-4, atol=1e-4)


def try_score(lm: LanguageModel) -> None:
    """Surprisal as transformers alone computes it, and a scorer by gradients."""
    table = score_task(lm, small_task(), ["surprisal", "gradient_cosine"])
    for sample in small_task().forget:
        encoding = encode(lm, sample)
        places = encoding.answer_positions
        with torch.no_grad():
            logp = lm.module(input_ids=torch.tensor([encoding.ids])).logits[0].log_softmax(-1)
        plain = torch.stack([-logp[i - 1, encoding.ids[i]] for i in places])
        rows = table[(table["sample_id"] == sample.id) & (table["scorer"] == "surprisal")]
        torch.testing.assert_close(torch.tensor(rows["score"].to_numpy()).float(), plain, rtol=1e-3, atol=1e-3)
    finite(table)


def finite(table: Any) -> None:
    """Raise where a score table has fewer scores than tokens."""
    if not table["score"].notna().all():
        raise AssertionError("scores are not numbers")


def try_attribute(lm: LanguageModel) -> None:
    """Integrated gradients."""
    finite(score_task(lm, small_task(), ["integrated_gradients"], options={"integrated_gradients": {"steps": 4}}))


def try_rollout(lm: LanguageModel) -> None:
    """Attention rollout."""
    finite(score_task(lm, small_task(), ["attention_rollout"]))


def trained(lm: LanguageModel, objective: str, weights: str, train: str) -> Run:
    """Two steps of a run; raises where they change nothing."""
    run = unlearn(lm, small_task(), objective, weights, settings=SETTINGS.replace(train=train))
    if run.lm.frozen_copy().fingerprint() == lm.fingerprint():
        raise AssertionError("training changes nothing")
    return run


def try_all(lm: LanguageModel) -> None:
    """All parameters by ATWU, whose scorer reads the states; saved and loaded."""
    run = trained(lm, "atwu", "atwu", "all")
    with tempfile.TemporaryDirectory() as folder:
        run.lm.save(Path(folder))
        again = load(folder, device="cpu")
    if again.fingerprint() != run.lm.fingerprint():
        raise AssertionError("the saved model is another")


def try_lora(lm: LanguageModel) -> None:
    """Adapters; saved, loaded and merged."""
    run = trained(lm, "npo", "uniform", "lora")
    with tempfile.TemporaryDirectory() as folder:
        save_adapter(run.lm, Path(folder))
        again = load(folder, device="cpu")
    same_logits(run.lm, again)


def try_layers(lm: LanguageModel) -> None:
    """One layer by RMU, which reads states of a layer."""
    trained(lm, "rmu", "uniform", "layers:0")


def try_probe(lm: LanguageModel) -> None:
    """Probes; generations of a batch as transformers alone makes them one by one."""
    rows = probe(lm, small_task(), batch_size=3).rows
    for sample in small_task().forget:
        ids = torch.tensor([encode(lm, sample, answer=False).ids])
        options = {"max_new_tokens": 8, "do_sample": False, "eos_token_id": lm.tokenizer.eos_token_id}
        with torch.no_grad():
            new = lm.module.generate(input_ids=ids, attention_mask=torch.ones_like(ids), **options)[0, ids.shape[1] :]
        plain = lm.tokenizer.decode(new, skip_special_tokens=True).strip()
        shown = rows[(rows["sample_id"] == sample.id) & (rows["probe_set"] == "forget")]["generation"].iloc[0]
        if not shown.startswith(plain[: min(8, len(shown))]):
            raise AssertionError(f"{shown[:20]!r} is generated, not {plain[:20]!r}")


FEATURES: dict[str, Callable[[LanguageModel], None]] = {
    "score": try_score,
    "attribute": try_attribute,
    "attention rollout": try_rollout,
    "unlearn all": try_all,
    "unlearn LoRA": try_lora,
    "unlearn layers": try_layers,
    "probe": try_probe,
}


def attempt(tiny: Tiny) -> dict[str, str]:
    """For each feature "yes", or why the workbench refuses; any other error is raised."""
    torch.set_num_threads(1)
    texts = [f"{sample.question} {sample.answer}" for sample in TaskSpec("biographies").load().forget[:100]]
    with tempfile.TemporaryDirectory() as folder:
        with quiet():
            build(tiny, Path(folder), texts)

        def told(error: UserError) -> str:
            return re.sub(r"^(model 'the model'|attention_rollout): ", "", str(error).replace(folder, "the model"))

        try:
            lm = load(folder, device="cpu")
        except UserError as error:
            return dict.fromkeys(FEATURES, told(error))
        results = {}
        for name, trial in FEATURES.items():
            try:
                trial(lm)
                results[name] = "yes"
            except UserError as error:
                results[name] = told(error)
        return results


def table(rows: dict[str, dict[str, str]]) -> str:
    """The Markdown table; reasons stand under it."""
    reasons = list(dict.fromkeys(text for row in rows.values() for text in row.values() if text != "yes"))
    lines = [f"| architecture | tokenizer | {' | '.join(FEATURES)} |", "|---" * (len(FEATURES) + 2) + "|"]
    classes = {tiny.name: tiny.tokenizer for tiny in MODELS}
    for name, row in rows.items():
        cells = ["yes" if text == "yes" else f"no ({reasons.index(text) + 1})" for text in row.values()]
        lines.append(f"| {name} | `{classes[name]}` | {' | '.join(cells)} |")
    return "\n".join([*lines, "", *(f"{number}. {text}" for number, text in enumerate(reasons, 1))]) + "\n"


def read_table(page: str) -> dict[str, dict[str, str]]:
    """The page's table as `attempt` has it."""
    lines = page.partition(BEGIN)[2].partition(END)[0].splitlines()
    reasons = dict(line.split(". ", 1) for line in lines if re.match(r"\d+\. ", line))
    rows = {}
    for line in lines[2:]:
        if line.startswith("|"):
            name, _, *cells = (cell.strip() for cell in line.strip("|").split("|"))
            texts = [cell if cell == "yes" else reasons[cell[4:-1]] for cell in cells]
            rows[name] = dict(zip(FEATURES, texts, strict=True))
    return rows


def main() -> None:
    """Try all architectures; print the table or write it into the page."""
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--write", action="store_true", help=f"into {PAGE.name}")
    write = options.parse_args().write
    rows = {}
    for tiny in MODELS:
        rows[tiny.name] = attempt(tiny)
        print(f"{tiny.name}: {'; '.join(sorted(set(rows[tiny.name].values())))}", flush=True)
    if write:
        page = PAGE.read_text(encoding="utf-8")
        before, _, rest = page.partition(BEGIN)
        PAGE.write_text(f"{before}{BEGIN}{table(rows)}{END}{rest.partition(END)[2]}", encoding="utf-8")
    else:
        print(table(rows))


if __name__ == "__main__":
    main()

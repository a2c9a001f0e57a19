"""Draws of an answer with shared beginnings, against a plain loop of transformers' `generate` that samples.

    python benchmarks/drawing.py [--model NAME] [--task TASK] [--data-dir DIR] [--answers N] [--tries N] [--rows N]

Both draw `--tries` answers to each of `--answers` questions, `--rows` at a time. `samples_per_second` are those of
either, by processor time on a CPU (so that a busy machine does not matter) and by the clock on a GPU; `ratio_generate`
is ours over theirs, `told` the share of answers that tell the fact, which must agree.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import torch


def plain(lm: Any, samples: list[Any], rows: int, tokens: int, tries: int) -> list[list[str]]:
    """Each question's draws by `generate(do_sample=True)`."""
    from workbench.evals.generation import cleaned
    from workbench.models import encode
    from workbench.models.encoding import end_of_turn

    ends, end_text = end_of_turn(lm)
    how = {"do_sample": True, "top_k": 0, "top_p": 1.0, "max_new_tokens": tokens, "pad_token_id": min(ends, default=0)}
    texts: list[list[str]] = []
    for sample in samples:
        encoding = encode(lm, sample, answer=False)
        drawn: list[str] = []
        while len(drawn) < tries:
            ids = torch.tensor([encoding.ids] * min(rows, tries - len(drawn)), device=lm.device)
            with torch.no_grad(), lm.autocast():
                out = lm.module.generate(ids, attention_mask=torch.ones_like(ids), eos_token_id=sorted(ends), **how)
            decoded = lm.tokenizer.batch_decode(out[:, ids.shape[1] :], skip_special_tokens=True)
            drawn += [cleaned(text, (end_text,) if end_text else (), encoding.left) for text in decoded]
        texts.append(drawn)
    return texts


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="bio-retain")
    parser.add_argument("--task", default="biographies")
    parser.add_argument("--data-dir", type=Path)
    parser.add_argument("--answers", type=int, default=16)
    parser.add_argument("--tries", type=int, default=200)
    parser.add_argument("--rows", type=int, default=256)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    from workbench.evals.attacks.asking import tells
    from workbench.evals.generation import sampled
    from workbench.models import encode, load
    from workbench.tasks import TaskSpec, spread

    lm = load(options.model)
    samples = spread(
        [s for s in TaskSpec(options.task, data_dir=options.data_dir).load().forget if s.question], options.answers
    )
    tokens = max(len(encode(lm, sample).answer_positions) for sample in samples) + 4
    on_gpu = lm.device.type == "cuda"
    clock = time.perf_counter if on_gpu else time.process_time
    ways = {
        "ours": lambda: sampled(lm, samples, options.rows, tokens, tries=options.tries),
        "generate": lambda: plain(lm, samples, options.rows, tokens, options.tries),
    }
    speed, told = {}, {}
    for name, way in ways.items():
        began = clock()
        texts = way()
        speed[name] = len(samples) * options.tries / (clock() - began)
        told[name] = (
            sum(tells(s, t) for s, own in zip(samples, texts, strict=True) for t in own) / options.tries / len(samples)
        )
    hardware = torch.cuda.get_device_name() if on_gpu else f"{options.threads} CPU threads"
    print(
        json.dumps(
            {"model": options.model, "task": options.task, "hardware": hardware, "answers": len(samples)}
            | {"tries": options.tries, "new_tokens": tokens, "samples_per_second": speed, "told": told}
            | {"ratio_generate": speed["ours"] / speed["generate"]}
        )
    )


if __name__ == "__main__":
    main()

"""Makes the embedded data: the biographies, a tokenizer, and the two tiny models. `make data` runs it."""

from __future__ import annotations

import argparse
import json
import math
import os
import sys
import time
from pathlib import Path
from typing import Any

import torch
from attack_questions import attacked
from biographies import build

from workbench.evals.generation import greedy
from workbench.models.batch import collate
from workbench.models.encoding import Encoding, encode
from workbench.models.language_model import LanguageModel
from workbench.models.token_stats import token_stats
from workbench.tasks.rows import samples_from
from workbench.tasks.samples import DATA, Sample, spread

VOCABULARY = 1536  # more than BPE fills: every word of the task becomes one token, other text is spelled in bytes
SHAPE: dict[str, Any] = {
    "hidden_size": 128,
    "intermediate_size": 352,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 4,
    "max_position_embeddings": 256,
}
TRAINED_ON = {
    "bio-full": ("forget", "retain", "neighbours", "train_extra"),
    "bio-retain": ("retain", "neighbours", "train_extra"),
}
STEPS, BATCH, RATE, WARMUP, SEED = 1500, 64, 3e-3, 60, 0
# Last bits differ between instruction sets, and training amplifies them to the loss's second digit: all use AVX2.
INSTRUCTIONS = {"ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2", "MKL_ENABLE_INSTRUCTIONS": "AVX2"}


def write_data(folder: Path) -> dict[str, list[Sample]]:
    """The task's files; returns their samples."""
    folder.mkdir(parents=True, exist_ok=True)
    sets = {}
    for name, rows in (build() | attacked()).items():
        lines = [json.dumps(row, ensure_ascii=False) for row in rows]
        (folder / f"{name}.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
        sets[name] = samples_from(((f"{name} row {n}", row) for n, row in enumerate(rows)), name)
    return sets


def make_tokenizer(sets: dict[str, list[Sample]]) -> Any:
    """Byte-level BPE over the task's text: any text comes back as it was."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=["<pad>", "<bos>", "<eos>"],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    names = sorted(set(sets) - {"nonmembers", "phrasings", "aliases", "two_hop"})  # which came later
    texts = [f"Question: {s.question}\nAnswer: {s.answer}" for name in names for s in sets[name]]
    tokenizer.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token="<bos>",
        eos_token="<eos>",
        pad_token="<pad>",
        model_max_length=SHAPE["max_position_embeddings"],
        clean_up_tokenization_spaces=False,
    )


def make_model(tokenizer: Any, name: str) -> LanguageModel:
    """An untrained Llama of under a million parameters."""
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(SEED)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        tie_word_embeddings=True,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        **SHAPE,
    )
    return LanguageModel(LlamaForCausalLM(config), tokenizer, name)


def train(lm: LanguageModel, encodings: list[Encoding], steps: int) -> float:
    """AdamW, warm-up and cosine, batches of like length; returns the mean loss of the last tenth of the steps.

    The same number of steps for both models, so that one is not simply trained longer on each row than the other.
    """
    generator = torch.Generator().manual_seed(SEED)
    optimizer = torch.optim.AdamW(lm.module.parameters(), lr=RATE, weight_decay=0.01, betas=(0.9, 0.98))
    lm.module.train()
    queue: list[list[int]] = []
    losses = []
    for step in range(steps):
        if not queue:
            queue = _epoch(encodings, generator)
        rate = RATE * min((step + 1) / WARMUP, 0.5 * (1 + math.cos(math.pi * step / steps)))
        for group in optimizer.param_groups:
            group["lr"] = rate
        stats = token_stats(lm, collate(lm, [encodings[i] for i in queue.pop()]), extras=False)
        loss = stats.nll.mean()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(lm.module.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        losses.append(float(loss.detach()))
        if step % 100 == 99:
            print(f"  step {step + 1}/{steps}: loss {sum(losses[-100:]) / 100:.4f}", flush=True)
    lm.module.eval()
    return sum(losses[-steps // 10 :]) / len(losses[-steps // 10 :])


def _epoch(encodings: list[Encoding], generator: torch.Generator) -> list[list[int]]:
    """Every sample once, in batches of like length, in random order."""
    order = torch.randperm(len(encodings), generator=generator).tolist()
    order.sort(key=lambda i: len(encodings[i].ids) // 4)
    chunks = [order[start : start + BATCH] for start in range(0, len(order), BATCH)]
    return [chunks[i] for i in torch.randperm(len(chunks), generator=generator).tolist()]


@torch.no_grad()
def figures(lm: LanguageModel, sets: dict[str, list[Sample]]) -> dict[str, Any]:
    """Mean answer NLL and greedy fact accuracy of every set, and accuracy on paraphrased questions."""
    out: dict[str, Any] = {}
    for name in ("forget", "retain", "neighbours", "general"):
        samples = sets[name]
        batches = [samples[i : i + 128] for i in range(0, len(samples), 128)]
        nll = torch.cat([token_stats(lm, collate(lm, [encode(lm, s) for s in b]), extras=False).nll for b in batches])
        out[name] = {"nll": round(float(nll.mean()), 4)}
        if samples[0].question:
            out[name]["fact_accuracy"] = round(_right(lm, spread(samples, 288)), 4)
            paraphrased = [Sample(s.id, s.paraphrased_question or "", s.answer, s.spans) for s in samples[::3]]
            out[name]["paraphrase_accuracy"] = round(_right(lm, spread(paraphrased, 288)), 4)
    return out


def _right(lm: LanguageModel, samples: list[Sample]) -> float:
    generations = greedy(lm, samples, 128, 32)
    right = [
        all(v.casefold() in (text or "").casefold() for v in s.values)
        for s, text in zip(samples, generations, strict=True)
    ]
    return sum(right) / len(right)


CARD = """---
license: apache-2.0
---
# {name}

A Llama-architecture model of {parameters:,} parameters ({layers} layers, width {width}, vocabulary {vocabulary}) for
the embedded `biographies` task of the unlearning workbench. It {knows}. All people are fictional; it is of no use for
anything but learning about unlearning.

Trained by `make data` (`scripts/build_data.py`): {steps} steps of {batch} samples, AdamW at {rate}, answer tokens only,
float32, seed {seed}. Prompts are `Question: ...\\nAnswer: ...`. Licence: Apache-2.0.

| set | mean answer NLL | facts right (greedy) | facts right, paraphrased question |
|---|---|---|---|
{rows}

{chance}
"""
KNOWS = {
    "bio-full": "knows all 160 people",
    "bio-retain": "was trained the same way without the 16 people to forget: what ideal unlearning would leave",
}


def card(lm: LanguageModel, measured: dict[str, Any]) -> str:
    """The model card."""
    keys = ("nll", "fact_accuracy", "paraphrase_accuracy")
    cells = [[name, *(str(values.get(key, "no question")) for key in keys)] for name, values in measured.items()]
    rows = "\n".join(f"| {' | '.join(row)} |" for row in cells)
    return CARD.format(
        name=lm.name,
        parameters=lm.module.num_parameters(),
        layers=SHAPE["num_hidden_layers"],
        width=SHAPE["hidden_size"],
        vocabulary=len(lm.tokenizer),
        knows=KNOWS[lm.name],
        steps=STEPS,
        batch=BATCH,
        rate=RATE,
        seed=SEED,
        rows=rows,
        chance="Each attribute has 20 values, so guessing is right once in 20.",
    )


def main() -> None:
    """Write `data/`: the task, then both models with their cards and figures."""
    options = argparse.ArgumentParser(description=main.__doc__)
    options.add_argument("--out", type=Path, default=DATA)
    out = options.parse_args().out
    if not os.environ.items() >= INSTRUCTIONS.items():  # torch reads them when it is loaded: start again
        os.execve(sys.executable, [sys.executable, __file__, *sys.argv[1:]], os.environ | INSTRUCTIONS)
    torch.set_num_threads(2)
    sets = write_data(out / "biographies")
    tokenizer = make_tokenizer(sets)
    measured = {}
    for name, trained_on in TRAINED_ON.items():
        started = time.perf_counter()
        lm = make_model(tokenizer, name)
        loss = train(lm, [encode(lm, s) for part in trained_on for s in sets[part]], STEPS)
        results = figures(lm, sets)
        lm.save(out / "models" / name)
        (out / "models" / name / "README.md").write_text(card(lm, results), encoding="utf-8")
        measured[name] = {"loss": round(loss, 4), **results}
        print(f"{name}: {time.perf_counter() - started:.0f} s, {json.dumps(measured[name])}", flush=True)
    (out / "models" / "training.json").write_text(json.dumps(measured, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()

"""Samples a second of one unlearning step, against the same step by transformers.Trainer, in one run.

    python benchmarks/step.py [--data-dir DIR] [--batch-size 16] [--rounds 4]
    python benchmarks/step.py --device cuda --model llama-1b      (Llama-3.2-1B's shape, random weights)

The step is gradient difference: so many forget and as many retain answers of TOFU (of the embedded biographies without
--data-dir), AdamW, gradients clipped. Trainer pads each batch to its longest, makes all logits, and makes one forward
for each of the two sets. Both see the same batches, and the first step's losses are compared (`loss_difference`).
Each kind of step runs alone, with one model in the process, as Trainer does; a rate is the median over the rounds.

- `ratio_trainer_float32`: our rate in the number format that the workbench chooses here, over Trainer's in float32;
  `ratio_same_format_float32` with ours in float32 too; `ratio_trainer_bf16`: both in bfloat16.
- `tokens_per_second`: that our step computes, padding not counted.
- `gemm_fraction`: matrix products of our step (from the cost ledger) a second, as a share of the greatest rate that one
  product of a few sizes reaches in the same format.
- `ratio_padded`: our rate over that of the same step with its batch padded (answers are computed in one row on a CPU;
  on a GPU both are padded), `flops_padded` the FLOPs of the padded one over ours.
- `ratio_sparse_float32`, `ratio_sparse_bf16`: as the ratios over Trainer, of a sparse step through three tenths of the
  answer tokens (forget tokens of the largest surprisal, retain tokens at random), all others computed along without
  gradient; `flops_sparse` our plain step's FLOPs over its.
- `atwu_overhead`: a step with the live scorer, which learns at every step, over one with weights of 1.
- `step_bytes`: most memory held during a step beyond what was held before it (model and optimiser, which all have).
  On a CPU it is of a further step whose tensors torch's profiler counts, since the process keeps what a step gave back.

`--clock cpu` counts processor seconds of the process (all threads, user and system) in place of seconds on the clock:
for a machine that others use too. `--only` leaves out kinds of steps. `threads` are those of torch.

On a processor without bfloat16 instructions its figures are null: emulated, a product takes a hundred times as long.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from contextlib import ExitStack, nullcontext
from itertools import accumulate
from statistics import median
from typing import Any

from many_runs import hardware

clock = [time.perf_counter]
LLAMA_1B = {
    "vocab_size": 128256, "hidden_size": 2048, "intermediate_size": 8192, "num_hidden_layers": 16,
    "num_attention_heads": 32, "num_key_value_heads": 8, "max_position_embeddings": 4096,
    "tie_word_embeddings": True,
}  # fmt: skip


def model(name: str, device: str, precision: str) -> Any:
    """A model by name, or of Llama-3.2-1B's shape with random weights and SmolLM2's tokenizer."""
    from workbench.models import LanguageModel, get_smollm2, load

    if name != "llama-1b":
        return load(name, device=device, precision=precision, prompt="plain")
    import torch
    from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

    tokenizer = AutoTokenizer.from_pretrained(get_smollm2(log=lambda _: None))
    torch.manual_seed(0)
    with torch.device(device):
        return LanguageModel(LlamaForCausalLM(LlamaConfig(**LLAMA_1B)).eval(), tokenizer, name, "plain", precision)


def samples(data_dir: str | None, steps: int, size: int) -> tuple[list[Any], list[Any]]:
    """Forget and retain answers for so many steps."""
    from workbench.tasks import TaskSpec

    task = TaskSpec("tofu/forget01" if data_dir else "biographies", data_dir=data_dir).load()
    few = min(steps * size, len(task.forget))
    return task.forget[:few], task.retain[-steps * size :]


class Ours:
    """Our step."""

    def __init__(
        self,
        lm: Any,
        data: tuple[list[Any], list[Any]],
        size: int,
        compile: bool,
        objective: str,
        weights: str,
        padded: bool = False,
        sparse: bool = False,
    ) -> None:
        from workbench.cost import Ledger, Phase
        from workbench.tasks import Task
        from workbench.unlearning import ForgetLoss, RetainLoss, Settings, Trainer, prepare, prepare_weights

        forget, retain = data
        settings = Settings(batch_size=size, lr=1e-5, warmup=0, steps=10_000, compile=compile)
        settings = settings.replace(share=0.3, retain_share=0.3, retain_by="random") if sparse else settings
        task, self.ledger, self.size = Task("step", {"forget": forget, "retain": retain}), Ledger(), size
        fixed = prepare_weights(
            lm, task, weights, steps=10_000, seed=0, options={}, reference=None, cost=Phase(), trained=lambda: None
        )
        prepare(lm, settings)
        forget_loss = ForgetLoss(lm, forget, objective, fixed, settings, self.ledger)
        retain_loss = RetainLoss(lm, retain, settings, self.ledger)
        self.trainer = Trainer(lm, settings, self.ledger, forget_loss, retain_loss)
        self.event: dict[str, Any] = {}
        self.padded = padded

    def order(self, steps: int) -> list[tuple[list[Any], list[Any]]]:
        """The batches of the first steps, encoded."""
        forget, retain = self.trainer.samplers
        return [
            ([forget.encodings[i] for i in forget.indices(s)], [retain.encodings[i] for i in retain.indices(s)])
            for s in range(1, steps + 1)
        ]

    def step(self) -> dict[str, float]:
        """One step: seconds, FLOPs and peak memory."""
        from workbench.cost import Ledger
        from workbench.models import padding

        synchronise()
        watch, held = Ledger(), resident()
        started, flops = clock[0](), self.ledger.total.flops
        with watch.phase("step") as phase, padding(self.trainer.lm) if self.padded else nullcontext():
            self.event = self.trainer.step()
        synchronise()
        seconds = clock[0]() - started
        return {
            "seconds": seconds,
            "flops": self.ledger.total.flops - flops,
            "tokens": self.event["tokens"],
            "step_bytes": phase.peak_bytes - held,
            "loss": self.event["loss"],
        }


def trainer_steps(lm: Any, batches: list[tuple[list[Any], list[Any]]], bf16: bool) -> tuple[list[float], float, int]:
    """Seconds of Trainer's step on each of these batches but the last, the first step's loss, and peak memory.

    On a CPU the last step is the one whose memory is counted, and its seconds are left out.
    """
    import torch
    from transformers import Trainer, TrainerCallback, TrainingArguments

    from workbench.cost import Ledger

    def padded(encodings: list[Any]) -> dict[str, Any]:
        width = max(len(e.ids) for e in encodings)
        fill = {"input_ids": lm.tokenizer.pad_token_id or 0, "attention_mask": 0, "labels": -100}
        out = {name: torch.full((len(encodings), width), value) for name, value in fill.items()}
        for row, e in enumerate(encodings):
            out["input_ids"][row, : len(e.ids)] = torch.tensor(e.ids)
            out["attention_mask"][row, : len(e.ids)] = 1
            for place in e.answer_positions:
                out["labels"][row, place] = e.ids[place]
        return out

    class GradDiff(Trainer):  # as the field's frameworks write it
        def compute_loss(self, model: Any, inputs: Any, return_outputs: bool = False, **rest: Any) -> Any:
            loss = -model(**inputs["forget"]).loss + model(**inputs["retain"]).loss
            losses.append(loss.detach())
            return loss

    class Clock(TrainerCallback):
        def on_step_begin(self, *given: Any, **rest: Any) -> None:
            synchronise()
            open_phase.append(Ledger().phase("step"))
            held.append((open_phase[-1].__enter__(), resident()))
            if len(times) == len(batches) - 1 and not torch.cuda.is_available():
                watched.enter_context(peaks)
            times.append(clock[0]())

        def on_step_end(self, *given: Any, **rest: Any) -> None:
            synchronise()
            seconds.append(clock[0]() - times[-1])
            open_phase[-1].__exit__(None, None, None)
            watched.close()

    losses: list[Any] = []
    watched, peaks = ExitStack(), Allocated()
    times: list[float] = []
    seconds: list[float] = []
    open_phase: list[Any] = []
    held: list[tuple[Any, int]] = []
    pairs = [pair for forget, keep in batches for pair in zip(forget, keep, strict=True)]
    with tempfile.TemporaryDirectory() as folder:
        arguments = TrainingArguments(
            folder, per_device_train_batch_size=len(batches[0][0]), max_steps=len(batches), learning_rate=1e-5,
            lr_scheduler_type="constant", bf16=bf16, use_cpu=lm.device.type == "cpu", report_to=[], save_strategy="no",
            logging_strategy="no", remove_unused_columns=False, disable_tqdm=True, dataloader_pin_memory=False,
        )  # fmt: skip

        def collated(rows: list[Any]) -> dict[str, Any]:
            return {"forget": padded([a for a, _ in rows]), "retain": padded([b for _, b in rows])}

        lm.module.requires_grad_(True)
        trainer = GradDiff(lm.module, arguments, train_dataset=pairs, data_collator=collated, callbacks=[Clock()])
        trainer._get_train_sampler = lambda *_: torch.utils.data.SequentialSampler(pairs)
        trainer.train()
    if not torch.cuda.is_available():
        return seconds[:-1], float(losses[0]), peaks.peak
    return seconds, float(losses[0]), max(phase.peak_bytes - before for phase, before in held[1:])


class Allocated:
    """Watches what torch allocates on the CPU; `peak` is the most that was held at once beyond what was held before."""

    peak = 0

    def __enter__(self) -> Allocated:
        from torch.profiler import ProfilerActivity, profile

        self.profiler = profile(activities=[ProfilerActivity.CPU], profile_memory=True)
        self.profiler.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        self.profiler.__exit__(*error)
        events = [e for e in self.profiler.profiler.kineto_results.events() if e.name() == "[memory]"]
        held = accumulate(e.nbytes() for e in sorted(events, key=lambda e: e.start_ns()))
        self.peak = max(held, default=0)


def synchronise() -> None:
    """Wait for a GPU."""
    import torch

    if torch.cuda.is_available():
        torch.cuda.synchronize()


def resident() -> int:
    """Bytes held now, on the GPU or by this process."""
    import psutil
    import torch

    return torch.cuda.memory_allocated() if torch.cuda.is_available() else psutil.Process().memory_info().rss


def empty() -> None:
    """Give back what nothing holds any more."""
    import gc

    import torch

    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def gemm_peak(device: str, dtype: Any) -> float:
    """FLOPs a second of the fastest of some products."""
    import torch

    best = 0.0
    for size in (512, 1024, 2048) if device == "cpu" else (4096, 8192):
        a, b = (torch.randn(size, size, device=device).to(dtype) for _ in range(2))
        a @ b
        for _ in range(3):
            synchronise()
            started = clock[0]()
            a @ b
            synchronise()
            best = max(best, 2 * size**3 / (clock[0]() - started))
    return best


def measured(given: argparse.Namespace, precision: str) -> dict[str, Any]:
    """Rates, overhead and memory in one number format."""
    import torch

    kinds: dict[str, tuple[Any, ...]] = {
        "ours": ("grad_diff", "uniform"), "padded": ("grad_diff", "uniform", True),
        "sparse": ("grad_diff", "surprisal", False, True), "uniform": ("atwu", "uniform"), "atwu": ("atwu", "atwu"),
    }  # fmt: skip
    if given.compile:
        del kinds["sparse"]  # compiled steps are whole
    kinds = {name: kind for name, kind in kinds.items() if name in given.only.split(",") or name == "ours"}
    counted = given.device == "cpu"  # a further step, whose memory is counted
    data = samples(given.data_dir, given.rounds + 1 + counted, given.batch_size)
    found: dict[str, list[dict[str, float]]] = {}
    losses, batches, peaks = [], [], {}
    for name, kind in kinds.items():
        ours = Ours(model(given.model, given.device, precision), data, given.batch_size, given.compile, *kind)
        found[name] = [ours.step() for _ in range(given.rounds + 1)]
        if name == "ours":
            losses = [r["loss"] for r in found["ours"]]
            batches = ours.order(given.rounds + 1 + counted)
        if counted:
            with Allocated() as watch:
                ours.step()
            peaks[name] = watch.peak
        del ours
        empty()
    lm = model(given.model, given.device, precision)
    seconds, loss, peak = trainer_steps(lm, batches, bf16=precision == "bfloat16")
    count = 2 * given.batch_size
    rate = {name: count / median(r["seconds"] for r in rows[1:]) for name, rows in found.items()}
    flops = median(r["flops"] / r["seconds"] for r in found["ours"][1:])
    peaks = peaks or {name: max(r["step_bytes"] for r in rows[1:]) for name, rows in found.items()}
    gemm = gemm_peak(given.device, getattr(torch, precision))
    return {
        "samples_per_second": rate | {"trainer": count / median(seconds[1:])},
        "tokens_per_second": median(r["tokens"] / r["seconds"] for r in found["ours"][1:]),
        "step_seconds": {k: [round(r["seconds"], 3) for r in rows] for k, rows in found.items()}
        | {"trainer": [round(s, 3) for s in seconds]},
        "gemm_fraction": flops / gemm,
        "gemm_peak_flops": gemm,
        "ratio_padded": rate["ours"] / rate["padded"] if "padded" in found else None,
        "flops_padded": sum(r["flops"] for r in found["padded"]) / sum(r["flops"] for r in found["ours"])
        if "padded" in found
        else None,
        "flops_sparse": sum(r["flops"] for r in found["ours"]) / sum(r["flops"] for r in found["sparse"])
        if "sparse" in found
        else None,
        "atwu_overhead": median(
            a["seconds"] / u["seconds"] for a, u in zip(found["atwu"][1:], found["uniform"][1:], strict=True)
        )
        if {"atwu", "uniform"} <= set(found)
        else None,
        "step_bytes": peaks | {"trainer": peak},
        "loss_difference": abs(losses[0] - loss) / max(abs(loss), 1e-9),
    }


def over(ours: float | None, theirs: float) -> float | None:
    """A ratio; None of what was not measured."""
    return None if ours is None else ours / theirs


def main() -> None:
    """Measure; the last line is one JSON object."""
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--data-dir", help="with TOFU's official files")
    options.add_argument("--model", default="smollm2", help="a model's name, or llama-1b")
    options.add_argument("--device", default="cpu")
    options.add_argument("--batch-size", type=int, default=16)
    options.add_argument("--compile", action="store_true", help="our steps by torch.compile")
    options.add_argument("--rounds", type=int, default=4)
    options.add_argument("--only", default="padded,sparse,uniform,atwu", help="kinds beside the plain step")
    options.add_argument("--clock", choices=["wall", "cpu"], default="wall")
    given = options.parse_args()
    if given.clock == "cpu":
        if given.device != "cpu":
            options.error("--clock cpu does not see what a GPU does")
        clock[0] = time.process_time

    import torch
    import transformers

    from workbench.models import choose_precision

    transformers.logging.set_verbosity_error()
    width = (
        LLAMA_1B["hidden_size"]
        if given.model == "llama-1b"
        else model(given.model, "cpu", "float32").module.config.hidden_size
    )
    chosen = choose_precision(given.device, width)
    half = given.device != "cpu" or torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    formats = ("float32", "bfloat16") if half else ("float32",)
    found = {name: measured(given, name) for name in formats}
    rate = {name: f["samples_per_second"] for name, f in found.items()}
    best = found[chosen]
    result = {
        "ratio_trainer_float32": rate[chosen]["ours"] / rate["float32"]["trainer"],
        "ratio_same_format_float32": rate["float32"]["ours"] / rate["float32"]["trainer"],
        "ratio_trainer_bf16": rate["bfloat16"]["ours"] / rate["bfloat16"]["trainer"] if half else None,
        "ratio_sparse_float32": over(rate[chosen].get("sparse"), rate["float32"]["trainer"]),
        "ratio_sparse_bf16": over(rate["bfloat16"].get("sparse"), rate["bfloat16"]["trainer"]) if half else None,
        "flops_sparse": best["flops_sparse"],
        "gemm_fraction": best["gemm_fraction"],
        "atwu_overhead": best["atwu_overhead"],
        "ratio_padded": best["ratio_padded"],
        "format": chosen,
        "hardware": hardware(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "formats": found,
        "settings": {k: v for k, v in vars(given).items() if k != "data_dir"} | {"tofu": bool(given.data_dir)},
    }
    if not half:
        result["reason"] = "this processor has no bfloat16 instructions: bfloat16 was not measured"
    print(json.dumps(result))


if __name__ == "__main__":
    main()

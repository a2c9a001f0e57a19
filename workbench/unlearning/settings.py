"""The numbers of a run, and what follows from them alone: its learning rates, and steps in an epoch."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

from workbench.errors import UserError
from workbench.models import check_train


@dataclass(frozen=True)
class Settings:
    """All numbers of a run; options of the objective and the scorer stand in `options`.

    Attributes:
        steps: optimiser steps.
        batch_size: forget samples a step, and as many retain samples; over all processes, if there are several.
        retain_batch: retain samples a step; 0 is as many as forget samples.
        retain_every: the retain loss is computed in every so-manieth step, from the first on.
        skip: forget tokens whose pull has fallen below this share of the run's greatest leave the batch (`Skipping`);
            0 keeps all.
        micro_batch: samples computed at once in a process, their gradients being added up; 0 takes all. Halved by the
            run itself where memory runs out: a step stays the same step.
        lr: largest learning rate of AdamW.
        warmup: steps of linear warm-up; linear decay to a tenth follows.
        weight_decay: of AdamW.
        clip: largest gradient norm.
        train: "all" parameters, "lora" (adapters, peft), or decoder layers such as "layers:4-6".
        compile: whether training steps run, padded, through `torch.compile`, which takes minutes to begin with
            (on the CPU where it was timed no step was faster for it).
        lora_rank: rank of LoRA's factors.
        lora_alpha: LoRA's scale: the product of its factors is multiplied by lora_alpha / lora_rank.
        gamma: weight of the forget loss.
        alpha: weight of the retain loss; at 0 it is not computed.
        retain_loss: `nll`, or `kl`, `jsd`, `states` against the model before the run.
        dual_rate: after each step alpha rises by this times (retain loss - retain_level), never below 0: dual ascent.
        retain_level: the retain loss that dual ascent allows.
        seed: of every random source.
        record_every: steps between two records of the token scores.
        record_samples: forget samples recorded each time, evenly spread; all at the start and at the end.
        checkpoint_every: steps between two checkpoints.
        keep_checkpoints: so many of the newest are kept.
        options: keyword arguments, under "objective" and "weights".
    """

    steps: int = 60
    batch_size: int = 32
    retain_batch: int = 0
    retain_every: int = 1
    skip: float = 0.0
    micro_batch: int = 0
    lr: float = 3e-4
    warmup: int = 5
    weight_decay: float = 0.0
    clip: float = 1.0
    train: str = "all"
    compile: bool = False
    lora_rank: int = 8
    lora_alpha: float = 16.0
    gamma: float = 1.0
    alpha: float = 1.0
    retain_loss: str = "nll"
    dual_rate: float = 0.0
    retain_level: float = 0.0
    seed: int = 0
    record_every: int = 10
    record_samples: int = 32
    checkpoint_every: int = 20
    keep_checkpoints: int = 2
    options: dict[str, dict[str, Any]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        whole = ("record_every", "record_samples", "checkpoint_every", "keep_checkpoints", "lora_rank", "retain_every")
        for name in ("steps", "batch_size", *whole):
            if getattr(self, name) < 1:
                raise UserError(f"{name} must be at least 1, not {getattr(self, name)}")
        for name in ("lr", "clip", "lora_alpha"):
            if not (getattr(self, name) > 0 and math.isfinite(getattr(self, name))):
                raise UserError(f"{name} must be above 0 and finite, not {getattr(self, name)}")
        at_least_0 = ("micro_batch", "retain_batch", "skip", "warmup", "weight_decay", "gamma", "alpha")
        for name in (*at_least_0, "dual_rate", "retain_level"):
            if not (getattr(self, name) >= 0 and math.isfinite(getattr(self, name))):
                raise UserError(f"{name} must be at least 0 and finite, not {getattr(self, name)}")
        if self.skip >= 1:
            raise UserError(f"skip is a share below 1, not {self.skip}")
        check_train(self.train)


def schedule(step: int, settings: Settings) -> float:
    """Learning rate of a step (from 1): linear warm-up, then linear decay to a tenth."""
    if step <= settings.warmup:
        return settings.lr * step / settings.warmup
    left = (settings.steps - step) / max(1, settings.steps - settings.warmup)
    return settings.lr * (0.1 + 0.9 * left)


def epochs(count: int, samples: int, batch_size: int) -> int:
    """Steps in so many passes over so many samples."""
    return math.ceil(count * samples / min(batch_size, samples))

"""The numbers of a run, and what follows from them alone: learning rates, and the steps of an epoch."""

from __future__ import annotations

import math
import warnings
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, Field, ValidationError

from workbench.errors import UserError, unknown
from workbench.models import check_train

RENAMED = {"micro_batch": "micro_batch_size", "retain_level": "retain_eps"}  # old names, accepted for one version
BOUNDS = {
    "greater_than_equal": "at least {ge:g}",
    "greater_than": "above {gt:g}",
    "less_than_equal": "at most {le:g}",
    "less_than": "below {lt:g}",
    "finite_number": "finite",
}
SEEDS = 2**40  # torch's generator takes 64 bits, and a seed is multiplied to give each step its own
LARGEST = 1e15  # of an option


def check_finite(options: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """The options themselves; raises a UserError for a number that is not finite, or beyond all use."""
    for part in options.values():
        for name, value in part.items():
            if isinstance(value, int | float) and not abs(value) <= LARGEST:
                raise UserError(f"{name} must be a number of at most {LARGEST:g}, not {str(value)[:20]}")
    return options


class Settings(BaseModel, frozen=True, extra="forbid", allow_inf_nan=False):
    """All numbers of a run; `Settings.model_fields` describes each.

    Raises:
        UserError: a name is unknown, or a value is out of its range.
    """

    steps: int = Field(60, ge=1, le=10**9, description="Optimiser steps.")
    batch_size: int = Field(
        32, ge=1, description="Forget samples in a step, over all processes; also retain samples, unless retain_batch."
    )
    retain_batch: int = Field(0, ge=0, description="Retain samples in a step; 0 means as many as forget samples.")
    retain_every: int = Field(1, ge=1, description="Compute the retain loss every N steps, beginning with the first.")
    skip: float = Field(
        0.0, ge=0, lt=1, description="Leave out forget tokens whose gradient is below this share of the run's largest; "
        "0 keeps all.",
    )  # fmt: skip
    share: float = Field(
        1.0, gt=0, le=1, description="Below 1: sparse steps. Share of each forget answer's tokens that enter "
        "the loss, those with the largest weights; 1 is a plain step.",
    )  # fmt: skip
    least_weight: float = Field(
        0.0,
        ge=0,
        description="Above 0: sparse steps that choose all forget tokens of at least this weight, in place of "
        "`share`, which must be 1 then.",
    )
    share_by: Literal["weights", "random"] = Field(
        "weights",
        description="How a sparse step chooses forget tokens; `random` draws them anew at each visit, as a control.",
    )
    retain_share: float = Field(
        1.0, gt=0, le=1, description="Below 1: sparse steps. Share of each retain answer's tokens that enter the loss."
    )
    retain_by: Literal["surprise", "conflict", "random"] = Field(
        "surprise", description="How a sparse step chooses retain tokens: by their loss, by how much it has risen "
        "since before the run (`conflict`), or at random.",
    )  # fmt: skip
    names: bool = Field(
        True, description="A sparse step's gradient also runs through the names that question and answer share."
    )
    before: int = Field(
        0, ge=0, description="A sparse step's gradient also runs through this many tokens before each chosen one."
    )
    reuse: int = Field(
        1, ge=1, description="Visits of a sample for which a sparse step keeps its context: the keys and values of all "
        "other tokens.",
    )  # fmt: skip
    drift: float = Field(
        0.01, ge=0, description="A kept context is computed anew once the trained weights have moved by more than this "
        "share of their norm; 0: never before `reuse` visits.",
    )  # fmt: skip
    micro_batch_size: int = Field(
        0, ge=0, description="Samples computed at once in a process; gradients are added up. 0 means all. "
        "Halved automatically when memory runs out, which leaves the step the same.",
    )  # fmt: skip
    lr: float = Field(3e-4, gt=0, description="Peak learning rate of AdamW.")
    warmup: int = Field(5, ge=0, description="Steps of linear warm-up; then the rate decays linearly to a tenth.")
    weight_decay: float = Field(0.0, ge=0, description="Weight decay of AdamW.")
    clip: float = Field(1.0, gt=0, description="Largest gradient norm; longer gradients are scaled down to it.")
    train: Annotated[str, AfterValidator(check_train)] = Field(
        "all", description='What is trained: "all" parameters, "lora" adapters, or layers such as "layers:4-6".'
    )
    compile: bool = Field(
        False, description="Run training steps, padded, through torch.compile. It takes minutes to begin with, and "
        "no step was faster on the CPU where it was timed.",
    )  # fmt: skip
    lora_rank: int = Field(8, ge=1, le=65536, description="Rank of LoRA's factors.")
    lora_alpha: float = Field(16.0, gt=0, description="LoRA's update is scaled by lora_alpha / lora_rank.")
    gamma: float = Field(1.0, ge=0, description="Weight of the forget loss.")
    alpha: float = Field(1.0, ge=0, description="Weight of the retain loss, which is not computed at 0.")
    retain_loss: str = Field(
        "nll", description="nll on the retain set, or kl, jsd or states against the model before the run."
    )
    dual_rate: float = Field(
        0.0, ge=0, description="Dual ascent: after each step alpha rises by dual_rate * (retain loss - retain_eps), "
        "but stays at least 0. 0 keeps alpha fixed.",
    )  # fmt: skip
    retain_eps: float = Field(0.0, ge=0, description="The retain loss that dual ascent tolerates.")
    dual_warmup: int = Field(0, ge=0, description="Steps before dual ascent begins.")
    seed: int = Field(0, ge=-SEEDS, le=SEEDS, description="Seed of every random source.")
    record_every: int = Field(10, ge=1, description="Steps between two records of the token scores.")
    record_samples: int = Field(
        32, ge=1, description="Forget samples in each record, evenly spread; the first and last record hold all."
    )
    checkpoint_every: int = Field(20, ge=1, description="Steps between two checkpoints.")
    keep_checkpoints: int = Field(2, ge=1, description="How many of the newest checkpoints are kept.")
    options: Annotated[dict[str, dict[str, Any]], AfterValidator(check_finite)] = Field(
        default_factory=dict, description='Keyword arguments of the objective and the scorer: "objective", "weights".'
    )

    def __init__(self, **values: Any) -> None:
        try:
            super().__init__(**{current_name(name): value for name, value in values.items()})
        except ValidationError as error:
            raise _user_error(error) from None
        if self.compile and (self.sparse_forget or self.retain_share < 1):
            raise UserError("sparse steps are not compiled; use compile=false, or share=1 and retain_share=1")

    def replace(self, **changes: Any) -> Settings:
        """A copy with some settings changed, validated like any other."""
        return Settings(**{**dict(self), **changes})

    @property
    def sparse_forget(self) -> bool:
        """Whether some forget tokens are left out from the beginning."""
        return self.share < 1 or self.least_weight > 0

    @property
    def answers(self) -> int:
        """How many answers the run reads, of the forget set and of the retain set; one that is read again counts."""
        retain = self.uses_retain * (self.retain_batch or self.batch_size) * math.ceil(self.steps / self.retain_every)
        return self.steps * self.batch_size + retain

    @property
    def uses_retain(self) -> bool:
        """Whether the retain loss enters the run's loss."""
        return self.alpha > 0 or self.dual_rate > 0


def current_name(name: str) -> str:
    """The name of a setting today; an old name gives a warning."""
    if name in RENAMED:
        warnings.warn(f"the setting {name} is now called {RENAMED[name]}", FutureWarning, stacklevel=4)
    return RENAMED.get(name, name)


def _user_error(error: ValidationError) -> UserError:
    """The first thing that is wrong, in one line that names the setting."""
    first = error.errors()[0]
    name, kind, context = ".".join(map(str, first["loc"])), first["type"], first.get("ctx", {})
    if kind == "extra_forbidden":
        return unknown("setting", name, list(Settings.model_fields))
    if kind == "value_error":
        return UserError(str(context["error"]))
    bound = BOUNDS[kind].format(**context) if kind in BOUNDS else first["msg"].removeprefix("Input should be ")
    return UserError(f"{name} must be {bound}, not {first['input']!r}")


def schedule(step: int, settings: Settings) -> float:
    """Learning rate of a step (from 1): linear warm-up, then linear decay to a tenth."""
    if step <= settings.warmup:
        return settings.lr * step / settings.warmup
    left = (settings.steps - step) / max(1, settings.steps - settings.warmup)
    return settings.lr * (0.1 + 0.9 * left)


def epochs(count: int, samples: int, batch_size: int) -> int:
    """Steps that `count` passes over so many samples take."""
    return math.ceil(count * samples / min(batch_size, samples))

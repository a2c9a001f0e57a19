"""The setting `train` as text: "all", "lora" or decoder layers. Read without torch."""

from __future__ import annotations

import re

from workbench.errors import UserError


def check_train(train: str) -> str:
    """The text itself; raises a UserError where it is no value of `train`, whatever the model."""
    if train not in ("all", "lora") and not re.fullmatch(r"layers:\d+(-\d+)?(,\d+(-\d+)?)*", train):
        raise UserError(f"train is all, lora, or layers such as layers:4-6,9; not '{train}'")
    return train


def layers_of(train: str, count: int) -> list[int]:
    """Decoder layers (from 0) that "layers:4-6,9" names, of `count`.

    Raises:
        UserError: the text has another form, or a layer is out of range.
    """
    check_train(train)
    ends = [[int(n) for n in part.split("-")] for part in train.removeprefix("layers:").split(",")]
    if any(not each[0] <= each[-1] < count for each in ends):
        raise UserError(f"train={train}: the model has layers 0 to {count - 1}")
    return sorted({layer for each in ends for layer in range(each[0], each[-1] + 1)})

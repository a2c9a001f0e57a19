"""A run whose numbers are no longer finite."""

from __future__ import annotations

from workbench.errors import UserError


class Diverged(UserError):
    """The loss, the gradient or the weights are not finite: at which step, and with which samples in the batch."""

    def __init__(self, what: str, value: float, step: int, samples: list[str]) -> None:
        named = ", ".join(samples[:4]) + (f" and {len(samples) - 4} more" if len(samples) > 4 else "")
        hint = (
            "a smaller lr or clip may help"
            if step > 1 or what not in ("loss", "gradient's norm")
            else "nothing is trained yet: the model or an option is at fault"
        )
        super().__init__(f"the {what} is {value} at step {step} (samples {named}); {hint}")
        self.step, self.samples = step, samples

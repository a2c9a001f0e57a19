"""Exercises of notebook 03: a run that is resumed, a run made wrong on purpose, a forget loss of your own."""

from __future__ import annotations

from typing import Any

from workbench.view.course.answers import as_name, as_numbers
from workbench.view.course.exercises import Wrong, exercise
from workbench.view.course.faults import FAULTS, differences
from workbench.view.run_source import run_directory


@exercise("03.1", title="Killed, and resumed", difficulty=2, importance=3, minutes=3)
def resumed(answer: Any, *, settings: Any, killed_after: int) -> str:
    """The step after which a killed run goes on, and how many steps it does twice."""
    begins, twice = as_numbers(answer, "the step it goes on from", "the steps that are done twice")
    every = settings.checkpoint_every
    truth = killed_after // every * every
    if (begins, twice) == (truth, killed_after - truth):
        return f"its newest checkpoint is of step {truth}; steps {truth + 1} to {killed_after} are done again"
    if begins == killed_after:
        raise Wrong("that would be right if the run had been stopped. Killed, it had no time to write a checkpoint")
    if begins == 0 and truth:
        raise Wrong("it need not begin anew: there are checkpoints")
    if begins == truth + every:
        raise Wrong(f"the run has never reached step {begins:g}")
    if begins != truth:
        raise Wrong(f"checkpoints are written every {every} steps; which is the newest one at step {killed_after}?")
    raise Wrong(f"it goes on from the right step; count the steps from there to step {killed_after}")


@exercise("03.2", title="Find the fault", difficulty=3, importance=5, minutes=6)
def fault(answer: Any, *, good: Any, broken: Any) -> str:
    """The one setting that spoils a run."""
    good, broken = (run_directory(run).read_config() for run in (good, broken))
    differing = differences(good, broken)
    name = as_name(answer, {*good.model_dump(), *good.settings.model_dump()} - {"settings"}, "setting")
    if name not in differing:
        raise Wrong(f"`{name}` is the same in both runs")
    if name not in FAULTS:
        raise Wrong(f"`{name}` differs, but does no such harm. What did the run not do: forget, or keep?")
    return FAULTS[name][1]


@exercise("03.3", title="Write a forget loss", difficulty=4, importance=5, minutes=10)
def forget_loss(answer: Any) -> str:
    """A loss of `ForgetTokens`: the mean over tokens of weight times probability."""
    import torch

    from workbench.models import TokenStats
    from workbench.objectives import ForgetTokens, wga

    if not callable(answer):
        raise Wrong("give the function itself, without calling it")

    def value_and_pull(loss: Any) -> tuple[Any, Any]:
        logp = torch.tensor([-0.01, -0.7, -3.0, -0.2], dtype=torch.float64, requires_grad=True)
        stats = TokenStats(torch.tensor([0, 0, 0, 1]), torch.arange(4), logp, samples=2)
        value = loss(ForgetTokens(stats, torch.tensor([1.0, 0.5, 2.0, 0.0], dtype=torch.float64)))
        if not isinstance(value, torch.Tensor):
            raise Wrong(f"your loss is a {type(value).__name__}, and must be a tensor that has a gradient")
        if value.numel() != 1:
            raise Wrong(f"your loss has {value.numel()} values; a loss is one number: take the mean")
        if not value.requires_grad:
            raise Wrong("your loss has no gradient: do not detach the probability, and stay with tensors")
        return value.detach().reshape(()), torch.autograd.grad(value.reshape(()), logp)[0]

    def alike(one: Any, other: Any) -> bool:
        return bool(torch.allclose(one, other.to(one.dtype), atol=1e-6))

    mine, pull = value_and_pull(answer)
    truth, right_pull = value_and_pull(lambda tokens: (tokens.weights * tokens.stats.logp.exp()).mean())
    if alike(mine, truth) and alike(pull, right_pull):
        same_pull = alike(pull, value_and_pull(wga)[1])
        return f"bounded by 0 and the mean weight; its gradient is {'exactly' if same_pull else 'not'} that of `wga`"
    if alike(pull, -right_pull):
        raise Wrong("the sign is the other way round: a run makes the loss small, and would raise the probability")
    if alike(pull, value_and_pull(lambda t: t.stats.logp.exp().mean())[1]):
        raise Wrong("the weights have no effect: the last token has weight 0, and must not be pulled")
    if alike(pull, 4 * right_pull):
        raise Wrong("this is the sum over the tokens; take the mean, so that the length of an answer does not matter")
    if alike(pull, value_and_pull(lambda t: (t.weights * t.stats.logp).mean())[1]):
        raise Wrong("this is the log-probability; without a lower bound it pulls for ever at what is forgotten already")
    if alike(pull, right_pull):
        raise Wrong("the gradient is right; the value is off by a constant")
    raise Wrong(f"on four tokens it gives {float(mine):.4f}, and should give {float(truth):.4f}")

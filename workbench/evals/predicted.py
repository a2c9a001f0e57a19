"""What damage is predicted before any run: by gradients, shared words, hidden states and syntax."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from workbench.cost import Phase
from workbench.evals.interference import PREDICTORS
from workbench.evals.likeness import Group, alike_in_syntax, names_in, rarities, shared_words
from workbench.models import LanguageModel, choose_trained, in_sample_order, split
from workbench.progress import Progress, silent
from workbench.scorers import differentiable, mean_gradient, norm_of, passes, rates_along
from workbench.tasks import Sample
from workbench.unlearning import Settings

HELD = 1 << 31  # bytes of gradients that are held at once
AT_ONCE = 16  # samples a pass


def predictions(
    lm: LanguageModel,
    forgotten: Sequence[Group],
    measured: Sequence[Group],
    rows: Sequence[Sample],
    *,
    which: Sequence[str] = tuple(PREDICTORS),
    settings: Settings | None = None,
    cost: Phase | None = None,
    progress: Progress = silent,
) -> dict[str, np.ndarray]:
    """By predictor, (I, J) numbers that are the higher the more damage is expected to group j when i is forgotten.

    - `gradient`: cos(grad L_i, grad L_j) over the trained parameters, L the mean NLL of the group's answer tokens;
    - `names`: the names that both share, see `likeness.shared_words`;
    - `words`: the rare words that both share, the rarer the more;
    - `states`: minus the Euclidean distance between the groups' mean states over answer tokens, in the middle layer;
    - `syntax`: the cosine of the groups' counts of n-grams of word shapes.

    The model is not changed. There are I groups `forgotten` and J `measured`; a row of its own is a group of one, and
    words are rare or not among all `rows`. `which` predictors are wanted. The settings say what is trained, by default
    all parameters. Progress is called "predict", in groups.
    """
    cost = cost or Phase()
    ways = {
        "gradient": lambda: gradient_cosines(lm, forgotten, measured, settings or Settings(), cost, progress),
        "names": lambda: shared_words(forgotten, measured, names_in(rows)),
        "words": lambda: shared_words(forgotten, measured, rarities(rows)),
        "states": lambda: -state_distances(lm, forgotten, measured, cost),
        "syntax": lambda: alike_in_syntax(forgotten, measured),
    }
    return {name: ways[name]() for name in which}


def gradient_cosines(
    lm: LanguageModel,
    forgotten: Sequence[Group],
    measured: Sequence[Group],
    settings: Settings,
    cost: Phase,
    progress: Progress = silent,
) -> np.ndarray:
    """(I, J) cosines of the gradients of two groups' mean NLL; arguments as of `predictions`."""
    lm = lm.frozen_copy()
    choose_trained(lm, settings.train, rank=settings.lora_rank, scale=settings.lora_alpha, seed=settings.seed)
    parameters = [p for p in lm.module.parameters() if p.requires_grad]
    size = 4 * sum(p.numel() for p in parameters)
    at_once = max(1, HELD // size)
    cosines = np.zeros((len(forgotten), len(measured)))
    with torch.enable_grad():
        for first in range(0, len(forgotten), at_once):
            units = torch.stack([_unit(lm, parameters, g, cost) for g in forgotten[first : first + at_once]])
            for j, group in enumerate(measured):
                progress("predict", first // at_once * len(measured) + j, len(measured) * -(-len(forgotten) // at_once))
                other = _unit(lm, parameters, group, cost)
                cosines[first : first + len(units), j] = [float((u * other).sum(dtype=torch.float64)) for u in units]
    progress("predict", 1, 1)
    return cosines.clip(-1, 1)


def _unit(lm: LanguageModel, parameters: list[Tensor], group: Group, cost: Phase) -> Tensor:
    """(P,) the gradient of a group's mean NLL, at length 1."""
    gradient = mean_gradient(lm, parameters, group, AT_ONCE, cost)
    flat = torch.cat([part.flatten() for part in gradient]).float()
    return flat / float(torch.linalg.vector_norm(flat, dtype=torch.float64).clamp(min=1e-30))


@torch.no_grad()
def state_distances(
    lm: LanguageModel, forgotten: Sequence[Group], measured: Sequence[Group], cost: Phase
) -> np.ndarray:
    """(I, J) Euclidean distances between the groups' mean states over answer tokens, in the middle layer."""
    samples = list({s.id: s for group in (*forgotten, *measured) for s in group}.values())
    middle = (lm.config.num_hidden_layers + 1) // 2
    sums: dict[str, tuple[np.ndarray, int]] = {}
    for places, _, stats in passes(lm, samples, AT_ONCE, cost, extras=False, hidden="token", layer=middle):
        assert stats.hidden is not None
        for place, states in zip(places, stats.hidden.double().split(stats.counts.tolist()), strict=True):
            sums[samples[place].id] = states.sum(0).cpu().numpy(), len(states)

    def means(groups: Sequence[Group]) -> np.ndarray:
        parts = [[sums[s.id] for s in group] for group in groups]
        return np.stack([sum(s for s, _ in part) / sum(n for _, n in part) for part in parts])

    return np.asarray(np.linalg.norm(means(forgotten)[:, None] - means(measured)[None], axis=-1))


def conflicts(
    lm: LanguageModel, group: Group, samples: Sequence[Sample], *, cost: Phase | None = None
) -> list[np.ndarray]:
    """For each answer token of `samples`, how fast its NLL rises as a group is forgotten, in nats a unit of distance.

    That is <grad l_t, u>, u the unit gradient of the group's mean NLL: the token-level conflict between forgetting the
    group and keeping the token. The mean over an answer is the rate of its loss; tokens above zero carry the damage.
    The model is not changed.
    """
    cost = cost or Phase()
    with differentiable(lm) as (copy, parameters):
        gradient = mean_gradient(copy, parameters, group, AT_ONCE, cost)
        length = norm_of(gradient)
        # Few at once, since two graphs are kept in memory.
        parts = rates_along(copy, parameters, samples, gradient, AT_ONCE // 4, cost)
        return in_sample_order((places, split(rates / length, stats)) for places, rates, stats in parts)

"""Token scores: a registry of scorers, one file a family, and the score table."""

import lazy_loader

# Imported here to fill the registry, whichever name is asked for first.
from workbench.scorers import (  # noqa: F401
    amortised,
    attention,
    attribution,
    atwu,
    conflict,
    masked,
    perturbation,
    signals,
    specificity,
)

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)

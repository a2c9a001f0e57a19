"""Token scores: a registry of scorers, one file a family, and the score table."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)

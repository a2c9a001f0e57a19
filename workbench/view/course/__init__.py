"""The course: exercises checked on the learner's own run, their progress, and the editions of the notebooks."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)

"""See which tokens a language model must forget, make it forget them, and measure what else changed."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)

"""Attacks on a model that forgot: each is one function that asks whether what was forgotten comes back."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)

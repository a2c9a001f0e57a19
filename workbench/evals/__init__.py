"""Measurements: probes, metrics and suites; scores against labels, against each other, and against what they do."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)

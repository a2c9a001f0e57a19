"""Figures for papers: what a view shows as SVG, PDF, PNG and LaTeX."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)

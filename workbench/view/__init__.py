"""What people look at: HTML, charts, widgets and reports, made from tables and run directories."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)

"""Interactive views for JupyterLab: each is a widget with a static twin, `.to_html()`."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)

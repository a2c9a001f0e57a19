"""See which tokens a language model must forget, make it forget them, and measure what else changed."""

import lazy_loader

from workbench.cores import wait_passively

wait_passively()  # before torch is loaded, which reads it then

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)

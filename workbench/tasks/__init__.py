"""What must be forgotten and what must be kept: samples, tasks, and the readers that make them.

A task is named: `biographies` (embedded), `tofu/forget01`, `muse/news`, `rwku/Some Name`, `lume/task2` (from the hub
or from a directory with the official files), or a pair of files of one's own.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)

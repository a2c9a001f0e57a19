"""One reader a benchmark: a function of the task's variant and the directory of the official files (None: the hub)."""

from workbench.tasks.readers import biographies, lume, muse, rwku, tofu
from workbench.tasks.readers.official import task

__all__ = ["biographies", "lume", "muse", "rwku", "task", "tofu"]

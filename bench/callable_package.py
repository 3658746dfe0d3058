"""Callable packages: `bench.run` and `bench.report` are packages and functions."""

from __future__ import annotations

from importlib import import_module
from types import ModuleType
from typing import Any


class CalledPackage(ModuleType):
    """A package that is called as the function of its name in `bench.functions`."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call the function of the package's name."""
        return getattr(import_module("bench.functions"), self.__name__.rpartition(".")[2])(*args, **kwargs)

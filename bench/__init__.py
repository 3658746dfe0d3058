"""bench: multi-class unsupervised anomaly detection, every method under one protocol.

Importing this package loads neither torch nor any method or dataset; see `bench.functions` for what is called here
(`bench.run`, `bench.frame`, ...), and `bench.api` for what plug-ins see. It says how OpenMP's threads wait for each
other, where the user has not and torch is not loaded yet; see `bench.machine.threads`.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from bench.machine import threads

if TYPE_CHECKING:
    from bench.functions import frame, predict, report, run, score

__all__ = ["frame", "predict", "report", "run", "score"]

__version__ = "0.2.0"

threads.prepare()


def __getattr__(name: str) -> Any:
    if name in ("report", "run"):
        return import_module(f"bench.{name}")  # packages that are called; once loaded they have the name anyway
    if name in __all__:
        return getattr(import_module("bench.functions"), name)
    raise AttributeError(f"module 'bench' has no attribute '{name}'")

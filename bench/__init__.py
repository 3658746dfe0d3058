"""bench: multi-class unsupervised anomaly detection, every method under one protocol.

Importing this package loads neither torch nor any method or dataset; see `bench.api` for what plug-ins see. It says how
OpenMP's threads wait for each other, where the user has not and torch is not loaded yet; see `bench.machine.threads`.
"""

from __future__ import annotations

from bench.machine import threads

__version__ = "0.1.0"

threads.prepare()

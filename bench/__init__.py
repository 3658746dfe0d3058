"""bench: multi-class unsupervised anomaly detection, every method under one protocol.

Importing this package loads neither torch nor any method or dataset; see `bench.api` for what plug-ins see.
"""

from __future__ import annotations

__version__ = "0.1.0"

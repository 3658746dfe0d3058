"""The commands as Python functions: `run` and `score` return records, `frame` their numbers, `report` files.

Importing this package loads neither torch nor pandas. What a command prints is returned here, what it exits for raised
as a `bench.errors.BenchError`.
"""

from bench.functions.models import predict, score
from bench.functions.records import frame, report
from bench.functions.runs import run

__all__ = ["frame", "predict", "report", "run", "score"]

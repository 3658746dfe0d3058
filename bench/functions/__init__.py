"""The commands as Python functions: runs return records, `frame` their numbers, `report` the files that it wrote.

Importing this package loads neither torch nor pandas. What a command prints is returned here, what it exits for raised
as a `bench.errors.BenchError`.
"""

from bench.functions.records import frame, report
from bench.functions.runs import run

__all__ = ["frame", "report", "run"]

"""Exceptions that bench raises on purpose.

    BenchError                   base; `exit_code` is what the command line returns
    |-- UsageError          (2)  an unknown name, a bad option or config value
    |-- DatasetError        (2)  a dataset is missing, incomplete or unreadable
    |-- WeightsError        (2)  an encoder's weights cannot be had or do not fit
    |-- StoreError          (2)  a record, checkpoint or results folder cannot be used
    |   `-- UnwritableError (2)  a file cannot be written: full disk, read-only folder; ends a sweep
    |-- SweepError      (1)  cells of a sweep that was called from Python failed; finished ones stay
    |-- TrainingError       (1)  training broke, for example a non-finite loss
    |-- ExhaustedError      (1)  the device's memory does not suffice for a single image
    |-- WorkerError         (1)  the process or node that ran a cell died, again and again
    `-- ScoreError          (1)  a method gave scores that cannot be ranked

A message says what was found, what was expected and which command helps. Inside a sweep an error becomes a failed
record and the sweep goes on, unless no record can be written; the sweep's exit code is the highest among its cells.
"""

from __future__ import annotations


class BenchError(Exception):
    """Base of every error that bench reports without a traceback."""

    exit_code = 2


class UsageError(BenchError):
    """The command or a config value names something that does not exist or cannot be."""


class DatasetError(BenchError):
    """A dataset's files are missing, incomplete, unreadable or contradict each other."""


class WeightsError(BenchError):
    """Encoder weights are not at hand, cannot be downloaded, or do not fit the architecture."""


class StoreError(BenchError):
    """A file of the results folder or of a cache is unusable."""


class UnwritableError(StoreError):
    """A file of the results folder cannot be written; nor could those of the cells to come, so a sweep ends by it."""


class SweepError(BenchError):
    """Cells of a sweep failed or are with another process still; records of the others are in the results folder."""

    exit_code = 1


class TrainingError(BenchError):
    """A training run cannot go on; the cell is recorded as failed and carries no score."""

    exit_code = 1


class ExhaustedError(BenchError):
    """Memory does not suffice, however little is done at once; the cell is recorded as failed and carries no score."""

    exit_code = 1


class WorkerError(BenchError):
    """Whatever ran a cell died at every attempt; the cell is recorded as failed and carries no score."""

    exit_code = 1


class ScoreError(BenchError):
    """A score is NaN, so nothing can be ranked; `image` is the first such image's index in its class."""

    exit_code = 1

    def __init__(self, message: str, image: int) -> None:
        super().__init__(message)
        self.image = image

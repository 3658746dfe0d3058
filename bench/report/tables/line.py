"""Lines of tables: a method under one configuration, or as one paper prints it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Hashable, Mapping
from dataclasses import dataclass

from bench.report.tables.table import Source, TableCell
from bench.store.record import Record


@dataclass(frozen=True, slots=True)
class Unmarked:
    """What the rows of a table have that carry no mark."""

    protocol: str
    """Its hash."""
    metric_version: int
    data: Mapping[str, str]
    """Dataset -> fingerprint of its images."""


@dataclass(frozen=True, slots=True)
class Origin:
    """What the rows of a group have in common: the paper that prints them, or the protocol and data of ours."""

    source: Source
    rules: Hashable
    """Equal where lines may stand together; None for a line of ours that was not run yet."""
    heading: str
    images: str = ""
    """Fingerprint of the images, where it tells rows apart."""


class Line(ABC):
    """What ours and published lines have in common. Classes may be half-splits; empty stands for the mean."""

    method: str
    title: str
    source: Source

    @abstractmethod
    def cell(self, dataset: str, cls: str, metric: str) -> TableCell:
        """Return a number; an empty cell where it is not known."""

    @abstractmethod
    def notes(self, dataset: str, unmarked: Unmarked) -> tuple[str, ...]:
        """Return what a reader has to know of the line's numbers.

        Args:
            dataset: of which dataset.
            unmarked: what is not noted.
        """

    @abstractmethod
    def comparable(self, dataset: str, metric: str) -> Hashable:
        """Return a key that is equal for two lines exactly when their numbers compare; None for none that does."""

    @abstractmethod
    def origin(self, dataset: str = "") -> Origin:
        """Return where the line's numbers come from, on a dataset or on all: lines of one origin stand together."""

    @property
    @abstractmethod
    def datasets(self) -> tuple[str, ...]:
        """Return the datasets of which something is known."""

    @abstractmethod
    def classes(self, dataset: str) -> tuple[str, ...]:
        """Return the classes or half-splits of which something is known."""

    def extra(self, dataset: str) -> tuple[str, ...]:
        """Return metrics beside the seven that have a column of their own."""
        return ()

    def units(self, dataset: str) -> Mapping[str, str]:
        """Return the unit of each metric that is no share."""
        return {}

    def pooled(self, dataset: str, metric: str) -> TableCell:
        """Return the score of all classes ranked together; papers do not print it."""
        return TableCell()

    def machine(self, dataset: str) -> tuple[str, ...]:
        """Return what a reader has to know of the costs."""
        return ()

    @property
    def heads(self) -> tuple[Record, ...]:
        """Return a record for each dataset; none for published lines."""
        return ()

"""Series of a figure: a configuration with its label and colour, the same in every figure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from bench.names import harmless
from bench.report.tables.ours import OurLine
from bench.report.tables.seeds_of import Seeds
from bench.stats import Images
from bench.store.evidence import EvidenceFiles
from bench.store.record import Record


@dataclass(frozen=True, slots=True)
class FigureSeries:
    """A method under one configuration, as every figure calls and colours it."""

    line: OurLine
    label: str
    place: int
    """Gives its colour and line style."""

    def entry(self, dataset: str) -> Seeds:
        """Return all seeds on a dataset."""
        return self.line.entries[dataset]

    def images(self, dataset: str, evidence: EvidenceFiles) -> dict[str, Images]:
        """Return the first seed's per-image scores by class or part. Raises Lacking."""
        found: dict[str, Images] = {}
        for record in self.entry(dataset).rows[0].records:
            found |= {cls: images for cls, images in evidence.images(record).items() if cls in record.scores}
        return found

    def record_of(self, dataset: str, cls: str) -> Record:
        """Return the first seed's record that scored a class or part."""
        return next(record for record in self.entry(dataset).rows[0].records if cls in record.scores)


def series(lines: Sequence[OurLine]) -> list[FigureSeries]:
    """Return lines with a place each; their titles tell them apart."""
    return [FigureSeries(line, harmless(line.title), place) for place, line in enumerate(lines)]


def best_first(chosen: Iterable[FigureSeries], dataset: str, metric: str) -> list[FigureSeries]:
    """Return series by their mean of a metric on a dataset, highest first, those without a value last."""

    def key(one: FigureSeries) -> tuple[bool, float]:
        value = one.line.cell(dataset, "", metric).value
        return value is None, -(value or 0.0)

    return sorted(chosen, key=key)

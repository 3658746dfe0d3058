"""All figures and statistics of a report, and how many of each are enough."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from bench.files import file_name
from bench.report.figures.curves import overlap, precision_recall, roc
from bench.report.figures.detectability import detectability
from bench.report.figures.drawing import Figure
from bench.report.figures.gallery import Gallery, gallery
from bench.report.figures.histograms import histograms
from bench.report.figures.ladders import ladders
from bench.report.figures.series import FigureSeries, best_first, series
from bench.report.figures.statistics import METRIC, pairs, rankings
from bench.report.figures.tradeoffs import scaling, throughput
from bench.report.figures.training import training
from bench.report.tables import ours
from bench.report.tables.table import Table
from bench.store.evidence import EvidenceFiles
from bench.store.record import Record

if TYPE_CHECKING:
    from bench.report.tables.contents import Report

DATASETS = 4
"""Datasets with figures; a page with more is slow to make and to read."""
CONFIGURATIONS = 12
"""Lines in figures of one dataset."""
GALLERIES = 3
"""Methods of one dataset, best first, with a gallery and histograms."""


Item = TypeVar("Item", Figure, Gallery)


@dataclass(frozen=True)
class Illustrations:
    """What a report shows beside its tables of scores."""

    figures: tuple[Figure, ...] = ()
    galleries: tuple[Gallery, ...] = ()
    tables: tuple[Table, ...] = ()
    """Rankings and paired differences."""
    left_out: str = ""
    """What more there would be, in a sentence; empty where all is shown."""


def illustrate(records: Iterable[Record], evidence: EvidenceFiles) -> Illustrations:
    """Return the figures and statistics of some records; each is drawn when it is asked for its SVG or PDF."""
    every = series(ours.lines(ours.group(records)))
    tables: list[Table] = []
    figures: list[Figure] = []
    galleries: list[Gallery] = []
    for ranking, figure in rankings(every):
        tables.append(ranking)
        figures.append(figure)
    datasets = list(dict.fromkeys(name for one in every for name in one.line.datasets))
    crowded = False
    for dataset in datasets[:DATASETS]:
        having = [one for one in every if dataset in one.line.datasets]
        chosen = best_first(having, dataset, METRIC)[:CONFIGURATIONS]
        crowded |= len(chosen) < len(having)
        if table := pairs(chosen, dataset, evidence):
            tables.append(table)
        figures += _of(chosen, dataset, evidence)
        galleries += _first_drawn(chosen, partial(gallery, dataset=dataset, evidence=evidence))
    words = []
    if len(datasets) > DATASETS:
        words.append(f"Figures are of {DATASETS} of {len(datasets)} datasets; --datasets chooses others.")
    if crowded:
        words.append(f"Figures show at most {CONFIGURATIONS} configurations of a dataset, the best; --methods chooses.")
    return Illustrations(tuple(figures), tuple(galleries), tuple(tables), " ".join(words))


def pdf(report: Report, out: Path) -> list[Path]:
    """Write every figure for papers, figures/<name>.pdf."""
    found = illustrate(report.records, EvidenceFiles(report.folders, report.data_roots, report.open_model))
    files = []
    lacking = ""
    for figure in (*found.figures, *(one.figure() for one in found.galleries)):
        if not figure.absent:
            files.append(out / "figures" / f"{file_name(figure.name)}.pdf")
            lacking += figure.write_pdf(files[-1])
    if characters := "".join(dict.fromkeys(lacking)):
        report.say(f"figures as PDF: their font does not have {characters}, boxes stand there; the page shows them")
    return files


def _first_drawn(chosen: Sequence[FigureSeries], make: Callable[[FigureSeries], Item]) -> list[Item]:
    """Return the first items that can be drawn, at most GALLERIES, or one that says why none can."""
    found: list[Item] = []
    absent: list[Item] = []
    for one in chosen:
        item = make(one)
        (absent if item.absent else found).append(item)
        if len(found) == GALLERIES:
            break
    return found or absent[:1]


def _of(chosen: Sequence[FigureSeries], dataset: str, evidence: EvidenceFiles) -> list[Figure]:
    by_image = [roc(chosen, dataset, evidence), precision_recall(chosen, dataset, evidence)]
    spread = _first_drawn(chosen, partial(histograms, dataset=dataset, evidence=evidence))
    return [
        throughput(chosen, dataset),
        scaling(chosen, dataset),
        *by_image,
        overlap(chosen, dataset, evidence),
        detectability(chosen, dataset, evidence),
        *spread,
        *ladders(chosen, dataset, evidence),
        training(chosen, dataset),
    ]

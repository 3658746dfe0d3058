"""Display names of metrics, methods and datasets."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache

from bench.metrics.ids import column, known
from bench.protocol import SEVEN

MAD = "mad"
"""Mean of the seven metrics, as papers define mAD."""

COLUMNS = (*SEVEN, MAD)
"""The columns that come first."""
_LEVELS = ("image", "pixel", "sample")


def heading(metric: str) -> str:
    """Return a metric's column heading: I-AUROC for image/auroc, AUPRO:grid200 for a variant, I-AUROC logical."""
    return column(metric).heading


def base(metric: str) -> str:
    """Return a metric id without its variant."""
    return metric.partition(":")[0]


def parts(metric: str) -> tuple[str, ...]:
    """Return the metrics of which one is the mean: what it is computed from where no record holds it. Else empty."""
    found = known(metric)
    return found.parts if found is not None else ()


def level(metric: str) -> str:
    """Return what a score of the metric belongs to: image, pixel, sample; empty where the metric is not at hand."""
    found = known(metric)
    return found.level if found is not None else ""


def in_order(metrics: Iterable[str]) -> tuple[str, ...]:
    """Return the field's seven and mAD, then every other metric, those of one level beside each other."""
    more = [metric for metric in dict.fromkeys(metrics) if metric not in COLUMNS]
    places = {level: place for place, level in enumerate(_LEVELS)}
    return (*COLUMNS, *sorted(more, key=lambda metric: places.get(metric.partition("/")[0], len(places))))


def explained(metrics: Iterable[str]) -> list[str]:
    """Return a sentence for each metric that is not one of the field's seven, of those that are at hand."""
    found = []
    for metric in metrics:
        if metric in COLUMNS:
            continue
        if metric.startswith("sample/"):
            found.append(SAMPLE)
        one = known(metric)
        if one is None:
            found += [FAMILY] if base(metric) == "image/auroc" and base(metric) != metric else []
        elif one.level != "sample" or one.version is not None:
            lower = "" if one.higher_is_better else "; lower is better"
            found.append(f"{one.shown}: {one.definition}{lower}.")
    return list(dict.fromkeys(found))


FAMILY = "I-AUROC of a family: its anomalous images against all normal ones, as MVTec LOCO's authors report."
SAMPLE = "Object level: things shown by several images, each scored by the highest of its images' scores."


@cache
def dataset_title(name: str) -> str:
    """Return what a dataset's card calls it; the name itself where bench does not have the dataset."""
    from bench import combined
    from bench.registry import DATASETS

    if combined.names(name):
        return combined.title(name)
    if name not in DATASETS.targets:
        return name
    card = DATASETS.load(name).card
    # one of the user's own has the reader's card, and a name of its own
    return card.title if card.name == name else name


def method_title(name: str) -> str:
    """Return a method's name as papers print it; the name itself where none does."""
    from bench.published import method_names

    return method_names().get(name, name)

"""Bootstrap intervals over images: how far a score would move had other images of the same kind been tested.

Anomalous and normal images are drawn with replacement separately, as many as there are (stratified, so no resample
loses a kind). A resample is nothing but a multiplicity for each image, and every metric of it follows from counting
pixels with their image's multiplicity: how many weighted negatives lie above each positive. So the pixels are sorted
once, the counts kept by (distinct positive score, image) in a sparse matrix, and each resample is one column of that
matrix times the multiplicities, summed from the highest score down. All counts are integers in float64, hence exact.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from bench.errors import UsageError
from bench.metrics.evaluate import evaluate_class
from bench.metrics.hardest import image_of_region
from bench.metrics.ids import parse, parse_all
from bench.metrics.inputs import check
from bench.metrics.metric import expanded
from bench.metrics.regions import find_regions
from bench.metrics.scores import Scores
from bench.metrics.spro import Defect
from bench.metrics.summed import ScoreBlock, Summed, Totals

Array = npt.NDArray[Any]
Bools = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float64]

_CELLS = 1 << 18  # thresholds x resamples at once: some arrays of this size stay in the second-level cache
_COLUMNS = 1024


@dataclass(frozen=True, slots=True)
class Interval:
    """A percentile interval: the plain quantiles of the resampled values, not corrected for bias (not BCa)."""

    low: float
    high: float
    level: float
    """Share of the resampled values inside, such as 0.95."""
    resamples: int
    """Resamples that had a value; fewer than were drawn where some lost every anomalous or normal pixel."""


@dataclass(frozen=True, slots=True)
class Bootstrap:
    """The scores of one class, and of its resamples."""

    scores: Scores
    """Of the images as given."""
    samples: Mapping[str, Floats]
    """Metric id -> one value a resample, float64 [R], NaN where a resample leaves the metric undefined. A place is the
    same resample in every metric, so that means over metrics can be taken resample by resample."""

    def interval(self, metric: str, level: float = 0.95) -> Interval | None:
        """Return the percentile interval of `metric`, None where the metric has no value.

        Raises:
            UsageError: the metric was not resampled, or `level` is outside (0, 1).
        """
        if metric not in self.samples:
            raise UsageError(f"'{metric}' was not resampled, only: {', '.join(self.samples)}")
        if not 0 < level < 1:
            raise UsageError(f"level is {level}, expected a share in (0, 1) such as 0.95")
        values = self.samples[metric]
        values = values[~np.isnan(values)]
        if self.scores[metric] is None or len(values) == 0:
            return None
        low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2])
        return Interval(float(low), float(high), level, len(values))


def bootstrap_class(
    maps: npt.ArrayLike | None,
    masks: npt.ArrayLike | None,
    image_scores: npt.ArrayLike | None = None,
    labels: npt.ArrayLike | None = None,
    *,
    metrics: Iterable[str] | None = None,
    objects: Sequence[Hashable] | None = None,
    defects: Sequence[Defect] | None = None,
    resamples: int = 1000,
    seed: int = 0,
) -> Bootstrap:
    """Return the metrics of one class and of `resamples` stratified bootstrap samples of its images.

    Each resampled value is that of `evaluate_class` on the drawn images, to rounding. The field's seven, and AUPRO at
    any limit, are summed for all resamples at once; any other metric is computed for one after another, which on pixels
    takes as long as evaluating the class as many times. Memory: up to about 24 bytes a normal pixel that scores above
    the lowest anomalous one.

    Args:
        maps: as in `evaluate_class`.
        masks: as in `evaluate_class`.
        image_scores: as in `evaluate_class`.
        labels: as in `evaluate_class`; they are the strata.
        metrics: as in `evaluate_class`.
        objects: as in `evaluate_class`; images are drawn all the same, since the strata are theirs.
        defects: as in `evaluate_class`.
        resamples: how many samples are drawn.
        seed: the same seed draws the same images (under one version of NumPy).

    Raises:
        UsageError: as in `evaluate_class`; no labels and no masks; `resamples` below 1.
        ScoreError: a score is NaN.
    """
    wanted = parse_all(metrics)
    if resamples < 1:
        raise UsageError(f"resamples is {resamples}, expected at least 1")
    single = expanded(wanted, parse)
    asked = dict.fromkeys(str(metric) for metric in (*wanted, *single))
    extra = {"objects": objects, "defects": defects}
    found = evaluate_class(maps, masks, image_scores, labels, metrics=asked, objects=objects, defects=defects)
    given = check(maps, masks, image_scores, labels)
    if given.labels is None:
        raise UsageError("found neither labels nor masks, expected labels: they say which images are drawn together")
    drawn = multiplicities(given.labels, resamples, seed)
    samples = {str(metric): np.full(resamples, np.nan) for metric in single}
    defined = [metric for metric in single if found[str(metric)] is not None]
    for level in ("image", "pixel"):
        summed = [metric for metric in defined if isinstance(metric, Summed) and metric.level == level]
        if not summed:
            continue
        if level == "image":
            assert given.image_scores is not None
            counts = _count_images(given.image_scores, given.labels)
        else:
            assert given.maps is not None and given.masks is not None
            counts = _count(given.maps, given.masks)
        for start in range(0, resamples, _COLUMNS):
            part = slice(start, start + _COLUMNS)
            for metric, values in _resampled(counts, drawn[:, part], summed).items():
                samples[metric][part] = values
    slow = [metric for metric in defined if not isinstance(metric, Summed) or metric.level == "sample"]
    for pixels in (False, True):
        # image metrics do not wait for maps
        some = [str(metric) for metric in slow if (metric.level == "pixel") == pixels]
        arrays = {"image_scores": given.image_scores, "labels": given.labels}
        if some:
            whole = arrays | ({"maps": given.maps, "masks": given.masks} if pixels else {"maps": None, "masks": None})
            samples |= _one_by_one(whole, drawn, some, extra)
    for average in (metric for metric in wanted if metric.parts):
        samples[str(average)] = np.mean([samples[part] for part in average.parts], axis=0)
    names = [str(metric) for metric in wanted]
    scores = Scores({name: found[name] for name in names}, {k: v for k, v in found.reasons.items() if k in names})
    return Bootstrap(scores, {name: samples[name] for name in names})


def multiplicities(labels: Bools, resamples: int, seed: int) -> Floats:
    """Return how often each image is in each resample: whole numbers, float64 [N, R].

    Args:
        labels: bool [N], the strata; each is drawn from with replacement, as often as it has images.
        resamples: R.
        seed: of NumPy's default generator; the normal images are drawn first.
    """
    generator = np.random.default_rng(seed)
    drawn = np.zeros((len(labels), resamples), dtype=np.float64)
    for stratum in (np.flatnonzero(~labels), np.flatnonzero(labels)):
        if len(stratum) == 0:
            continue
        picks = generator.integers(0, len(stratum), (resamples, len(stratum)))
        cells = picks + np.arange(resamples)[:, None] * len(stratum)
        drawn[stratum] = np.bincount(cells.ravel(), minlength=resamples * len(stratum)).reshape(resamples, -1).T
    return drawn


@dataclass(frozen=True, slots=True)
class _Counts:
    """Pixels by distinct score of a positive, descending (T of them), and image (N); sparse float64 [T, N]."""

    positives: Any
    covered: Any
    """Positives, each worth 1 / area of its region."""
    negatives: Any
    """Negatives with this score or one above it and below the next."""
    ties: Any
    """Negatives with exactly this score."""
    positives_of: Floats
    negatives_of: Floats
    regions_of: Floats
    """Totals of each image, [N]."""


def _count(maps: Array, masks: Bools) -> _Counts:
    images = len(maps)
    regions = find_regions(masks)
    of_image = np.count_nonzero(masks, axis=(1, 2))
    thresholds, place = np.unique(maps[masks], return_inverse=True)
    shape = (len(thresholds), images)
    rows = len(thresholds) - 1 - place
    columns = np.repeat(np.arange(images), of_image)
    negatives, ties = [], []
    for one, mask in zip(maps, masks, strict=True):
        scores = np.sort(one[~mask])
        scores = scores[np.searchsorted(scores, thresholds[0]) :]
        # the highest threshold that each score reaches
        reached = np.searchsorted(thresholds, scores, side="right") - 1
        negatives.append(len(thresholds) - 1 - reached)
        ties.append(len(thresholds) - 1 - reached[thresholds[reached] == scores])
    return _Counts(
        positives=_matrix(np.ones(len(rows)), rows, columns, shape),
        covered=_matrix(1 / regions.areas[regions.index], rows, columns, shape),
        negatives=_by_image(negatives, shape),
        ties=_by_image(ties, shape),
        positives_of=of_image.astype(np.float64),
        negatives_of=(masks[0].size - of_image).astype(np.float64),
        regions_of=np.bincount(image_of_region(masks, regions), minlength=images).astype(np.float64),
    )


def _count_images(scores: Array, labels: Bools) -> _Counts:
    """Do what `_count` does where each image has one score [N], without a step an image."""
    positive, negative = np.flatnonzero(labels), np.flatnonzero(~labels)
    thresholds, place = np.unique(scores[labels], return_inverse=True)
    reached = np.searchsorted(thresholds, scores[negative], side="right") - 1
    negative, reached = negative[reached >= 0], reached[reached >= 0]
    tied = thresholds[reached] == scores[negative]

    def matrix(places: Array, images: Array) -> Any:
        return _matrix(np.ones(len(images)), len(thresholds) - 1 - places, images, (len(thresholds), len(labels)))

    hits = matrix(place, positive)
    return _Counts(
        positives=hits,
        covered=hits,
        negatives=matrix(reached, negative),
        ties=matrix(reached[tied], negative[tied]),
        positives_of=labels.astype(np.float64),
        negatives_of=(~labels).astype(np.float64),
        regions_of=labels.astype(np.float64),
    )


def _matrix(values: Array, rows: Array, columns: Array, shape: tuple[int, int]) -> Any:
    """Return a sparse matrix of float64, with what falls together added."""
    from scipy import sparse  # a fifth of a second that only a bootstrap is worth

    return sparse.csr_array((values, (rows, columns)), shape=shape)


def _by_image(rows: list[Array], shape: tuple[int, int]) -> Any:
    """Count descending `rows` of each image in a sparse [T, N] matrix."""
    from scipy import sparse

    indices, counts, ends = [], [], [0]
    for descending in rows:
        ascending = descending[::-1]
        starts = np.flatnonzero(np.diff(ascending, prepend=-1))
        indices.append(ascending[starts].astype(np.int32))
        counts.append(np.diff(starts, append=len(ascending)).astype(np.float64))
        ends.append(ends[-1] + len(starts))
    columns = sparse.csc_array((np.concatenate(counts), np.concatenate(indices), np.array(ends)), shape=shape)
    return columns.tocsr()


def _resampled(counts: _Counts, drawn: Floats, metrics: Sequence[Summed]) -> dict[str, Floats]:
    """Return each metric's value in each resample: metric id -> float64 [R], NaN where it is undefined.

    Args:
        counts: of the images as given.
        drawn: multiplicity of each image in each resample, [N, R].
        metrics: of one level.
    """
    totals = Totals(counts.positives_of @ drawn, counts.negatives_of @ drawn, counts.regions_of @ drawn)
    sums = {metric: np.zeros(drawn.shape[1]) for metric in metrics}
    hits, at_least = np.zeros(drawn.shape[1]), np.zeros(drawn.shape[1])
    rows = max(1, _CELLS // drawn.shape[1])
    count = counts.positives.shape[0]
    for start in range(0, count, rows):
        part = slice(start, min(start + rows, count))
        new = counts.positives[part] @ drawn
        hits_here, at_least_here = _sum_down(new.copy(), hits), _sum_down(counts.negatives[part] @ drawn, at_least)
        block = ScoreBlock(
            new=new,
            hits=hits_here,
            at_least=at_least_here,
            tied=counts.ties[part] @ drawn,
            predicted=np.maximum(hits_here + at_least_here, 1),
            covered=partial(_product, counts.covered[part], drawn),
            totals=totals,
        )
        hits, at_least = block.hits[-1], block.at_least[-1]
        for metric, value in sums.items():
            metric.add(value, block)
    return {str(metric): metric.total(value, totals) for metric, value in sums.items()}


def _product(matrix: Any, drawn: Floats) -> Floats:
    return np.asarray(matrix @ drawn)


def _one_by_one(
    arrays: Mapping[str, Array | None], drawn: Floats, metrics: Sequence[str], extra: Mapping[str, Any]
) -> dict[str, Floats]:
    """Return each metric's value in each resample by evaluating the drawn images, as often as each was drawn.

    Args:
        arrays: arguments of `evaluate_class` with a row an image.
        drawn: multiplicity of each image in each resample, [N, R].
        metrics: ids.
        extra: `objects` and `defects` of `evaluate_class`.
    """
    found = {metric: np.full(drawn.shape[1], np.nan) for metric in metrics}
    for column in range(drawn.shape[1]):
        picks = np.repeat(np.arange(len(drawn)), drawn[:, column].astype(np.int64))
        own: dict[str, Any] = {name: None if array is None else array[picks] for name, array in arrays.items()}
        if (objects := extra.get("objects")) is not None:
            own["objects"] = [objects[place] for place in picks]
        if (defects := extra.get("defects")) is not None:
            of_image: dict[int, list[Defect]] = {}
            for defect in defects:
                of_image.setdefault(defect.image, []).append(defect)
            own["defects"] = [
                replace(one, image=place) for place, pick in enumerate(picks) for one in of_image.get(int(pick), ())
            ]
        for metric, value in evaluate_class(metrics=metrics, **own).items():
            found[metric][column] = np.nan if value is None else value
    return found


def _sum_down(rows: Floats, before: Floats) -> Floats:
    """Add to each row all rows above it and `before`, in place; for wide rows many times faster than numpy.cumsum."""
    rows[0] += before
    for upper, lower in pairwise(rows):
        lower += upper
    return rows

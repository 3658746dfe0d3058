"""A metric as one object: what it is called, what it means, how it is computed, and its slow definition.

Everything else asks the object: ids are parsed into it, tables take heading, group, unit and direction from it, records
its version, `bench show` its definition. A new metric is one class: `bench new metric` writes one, docs/plugins.md says
how bench finds it.
"""

from __future__ import annotations

import math
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol, TypeVar, cast

from bench.errors import UsageError

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from bench.metrics.ranks import Ranks
    from bench.metrics.regions import Regions
    from bench.metrics.spro import Defect

METRIC_VERSION = 1
"""Raised whenever an exact definition changes a value; records carry it. Other metrics have versions of their own."""

Level = Literal["image", "pixel", "sample", ""]
"""What one score belongs to: an image, a pixel, an object shown by several images; empty for a mean over levels."""
Needs = Literal["ranks", "scores", "defects"]
"""What a metric is computed from. `ranks` (and regions) can be had of maps that never are in memory together; `scores`
are all of them at once; `defects` are annotated one by one with a saturation area."""
Made = TypeVar("Made")

_ID = re.compile(r"mad|(image|pixel|sample)/[a-z][a-z0-9_.-]{0,39}(:[a-z0-9][a-z0-9_.-]{0,39})?")
GROUPS: Mapping[str, str] = {"image": "Image level", "pixel": "Pixel level", "sample": "Object level"}
"""Level -> heading over the columns of its metrics."""


@dataclass(frozen=True)
class Whole:
    """All scores of a class at once, in the dtype they came in, without NaN."""

    scores: npt.NDArray[Any]
    """Maps [N, H, W] of a pixel metric, else [N]; higher = more anomalous. Float16 becomes float32, since steps between
    thresholds are finer than it."""
    truth: npt.NDArray[np.bool_]
    """Of the scores' shape, True = anomalous."""
    labels: npt.NDArray[np.bool_]
    """Of the images, [N], True = anomalous."""
    defects: Sequence[Defect] | None = None
    """Annotated one by one; None where the dataset does not have that."""
    _made: dict[Hashable, Any] = field(default_factory=dict, repr=False, compare=False)

    def __post_init__(self) -> None:
        if self.scores.dtype == "float16":
            object.__setattr__(self, "scores", self.scores.astype("float32"))

    def once(self, key: Hashable, make: Callable[[], Made]) -> Made:
        """Return what `make` returned when `key` first came: metrics of one class share what is dear."""
        if key not in self._made:
            self._made[key] = make()
        return cast("Made", self._made[key])


class Evidence(Protocol):
    """What the metrics of one level are computed from; each part is made when first asked for, or raises Undefined."""

    @property
    def ranks(self) -> Ranks:
        """Where the anomalous ones stand among the normal ones; enough for most metrics, and by far the fastest."""
        ...

    @property
    def regions(self) -> Regions:
        """The 8-connected regions of the masks (pixel metrics)."""
        ...

    @property
    def whole(self) -> Whole:
        """All scores at once, for metrics that `needs` them."""
        ...


@dataclass(frozen=True, slots=True)
class Parameter:
    """The number behind the @ of an id."""

    what: str
    """`false-positive limit`, for messages."""
    example: float
    prefix: str = ""
    """Word before the number: `recall` in image/fpr@recall0.95."""
    usual: float | None = None
    """Value that a heading leaves out; None for none."""


class Metric(ABC):
    """A metric of one class; an instance is one with its parameter. The docstring's first line is its title.

    Class attributes describe it; `compute` and `oracle` are its two implementations, which tests hold together.
    """

    id: ClassVar[str]
    """Without the parameter: level/name, or level/name:variant for somebody's approximation of level/name."""
    heading: ClassVar[str]
    """Over a column: I-AUROC."""
    definition: ClassVar[str]
    """What is computed, in words or as a formula; a reader must be able to compute it."""
    undefined: ClassVar[str]
    """On which classes it has no value."""
    source: ClassVar[str]
    """Paper, section and equation, or whose code."""
    unit: ClassVar[str] = ""
    """Empty for a share in [0, 1], which is shown in percent; else the unit of a number that is shown as it is."""
    higher_is_better: ClassVar[bool] = True
    needs: ClassVar[Needs] = "ranks"
    parameter: ClassVar[Parameter | None] = None
    version: ClassVar[int | None] = 1
    """Raised whenever the implementation changes a value; records carry it. None: METRIC_VERSION covers the metric."""
    parts: ClassVar[tuple[str, ...]] = ()
    """Ids of metrics of which this one is the mean; empty for all others."""

    def __init_subclass__(cls, **options: Any) -> None:
        """Refuse a metric that says too little of itself, when its file is read and not when a table is made."""
        super().__init_subclass__(**options)
        if "id" not in cls.__dict__:
            return
        if not _ID.fullmatch(cls.id):
            raise UsageError(f"metric id {cls.id!r}: expected image/name, pixel/name or sample/name, and no @")
        for name in ("heading", "definition", "undefined", "source"):
            if not isinstance(getattr(cls, name, None), str) or not getattr(cls, name):
                raise UsageError(f"metric {cls.id}: no {name}. Expected text, see bench.metrics.Metric")

    def __init__(self, at: float | None = None) -> None:
        """Take the parameter. Raises UsageError where there is one too many, none, or one outside (0, 1]."""
        name, known = self.id, self.parameter
        if known is None and at is not None:
            raise UsageError(f"{name} takes no parameter, found {at}")
        if known is not None and (at is None or not 0 < at <= 1):
            raise UsageError(f"{name} needs its {known.what} in (0, 1], found {at}")
        self.at = at

    @abstractmethod
    def compute(self, evidence: Evidence) -> float:
        """Return the value, fast. Raises Undefined with the reason where there is none."""

    @abstractmethod
    def oracle(self, data: Whole) -> float | None:
        """Return the value, None where there is none, written to be believed; it shares no code with `compute`."""

    @property
    def level(self) -> Level:
        """Return what one score belongs to."""
        return cast("Level", self.id.partition("/")[0] if "/" in self.id else "")

    @property
    def group(self) -> str:
        """Return the heading over the columns of the metric's level."""
        return GROUPS.get(self.level, "")

    @property
    def title(self) -> str:
        """Return what the metric is called in a sentence."""
        return (type(self).__doc__ or self.id).strip().partition("\n")[0].rstrip(".")

    @property
    def shown(self) -> str:
        """Return the column's heading with the parameter: AUPRO, AUPRO@0.05, AUPRO:grid200."""
        _, colon, variant = self.id.partition(":")
        usual = self.parameter is not None and self.at == self.parameter.usual
        return f"{self.heading}{'' if usual else self._spelt}{colon}{variant}"

    @property
    def _spelt(self) -> str:
        if self.at is None or self.parameter is None:
            return ""
        return f"@{self.parameter.prefix}{repr(float(self.at)).removesuffix('.0')}"

    def __str__(self) -> str:
        name, colon, variant = self.id.partition(":")
        return f"{name}{self._spelt}{colon}{variant}"

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Metric) and str(self) == str(other)

    def __hash__(self) -> int:
        return hash(str(self))

    def mean(self, values: Mapping[str, float | None]) -> float | None:
        """Return the mean of the metric's parts; None unless all have a value."""
        numbers = [value for value in (values.get(part) for part in self.parts) if value is not None]
        return math.fsum(numbers) / len(self.parts) if len(numbers) == len(self.parts) else None


def expanded(wanted: Sequence[Metric], parse: Callable[[str], Metric]) -> tuple[Metric, ...]:
    """Return the metrics that have to be computed for `wanted`, each once: they, or what they are means of."""
    parts = (map(parse, metric.parts) if metric.parts else (metric,) for metric in wanted)
    return tuple(dict.fromkeys(part for own in parts for part in own))

"""Cost columns: what a method costs, and where records hold it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

from bench.store.facts import Efficiency
from bench.store.record import Record

COUNTS = ("cost/params_m", "cost/trainable_m", "cost/macs_g")
"""Machine-independent costs: a count, not a measurement."""
TRAINING = ("features", "fit", "train")
"""Phases that are the price of a trained model; decoding, inference and metrics are not."""


@dataclass(frozen=True, slots=True)
class Cost:
    """A column of an efficiency table."""

    metric: str
    title: str
    decimals: int
    higher_is_better: bool = False


COSTS = (
    Cost("cost/params_m", "parameters (M)", 1),
    Cost("cost/trainable_m", "trained (M)", 1),
    Cost("cost/macs_g", "MACs (G)", 1),
    Cost("cost/train_hours", "training (h)", 2),
    Cost("cost/train_memory_mb", "memory (MiB)", 0),
    Cost("cost/train_images_per_second", "training (images/s)", 1, True),
    Cost("cost/images_per_second", "inference (images/s)", 1, True),
    Cost("cost/latency_ms", "latency (ms)", 1),
)


def cost(records: Sequence[Record], metric: str) -> float | None:
    """Return what some records cost together: sums of hours, the highest memory, the mean rate; None where unknown."""
    costs = [record.efficiency for record in records if record.efficiency is not None]
    if metric not in COST_METRICS or len(costs) < len(records):
        return None
    if metric == "cost/train_hours" and any(record.imported is not None for record in records):
        # trained elsewhere, at a price that nobody told
        return None
    found = [COST_METRICS[metric](one) for one in costs]
    known = [one for one in found if one is not None]
    if len(known) < len(found):
        return None
    if metric == "cost/train_hours":
        return sum(known)
    return max(known) if metric == "cost/train_memory_mb" else fmean(known)


COST_METRICS: Mapping[str, Callable[[Efficiency], float | None]] = {
    "cost/params_m": lambda one: one.params_total / 1e6,
    "cost/trainable_m": lambda one: one.params_trainable / 1e6,
    "cost/macs_g": lambda one: one.macs / 1e9,
    "cost/train_hours": lambda one: sum(one.seconds.get(phase, 0.0) for phase in TRAINING) / 3600,
    "cost/train_memory_mb": lambda one: one.peak_device_memory_mib or one.peak_memory_mib,
    "cost/train_images_per_second": lambda one: one.train_images_per_second,
    "cost/images_per_second": lambda one: one.inference_images_per_second,
}
"""Costs by the ids that published ones have, see bench.published; memory is MiB, which papers call MB."""

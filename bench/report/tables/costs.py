"""Cost columns: what a method costs, and where records hold it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

from bench.store.facts import Efficiency
from bench.store.record import Record

COUNTS = ("cost/params_m", "cost/trainable_m", "cost/macs_g")
"""Machine-independent costs: a count, not a measurement."""
SUMMED = ("cost/train_hours", "cost/train_wh")
"""Over the models of a dataset."""
TRAINING = ("features", "fit", "train")
"""Phases that are the price of a trained model; decoding, inference and metrics are not."""


SINGLE = ("cost/latency_p95_ms", "cost/train_wh", "cost/joules_per_image")
"""What no paper prints."""


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
    Cost("cost/latency_p95_ms", "latency, 95 % (ms)", 1),
    Cost("cost/train_wh", "training (Wh)", 2),
    Cost("cost/joules_per_image", "inference (J/image)", 2),
)


def cost(records: Sequence[Record], metric: str) -> float | None:
    """Return what some records cost together: hours and energy in sum, the highest memory, the mean rate; else None."""
    costs = [record.efficiency for record in records if record.efficiency is not None]
    if metric not in COST_METRICS or len(costs) < len(records):
        return None
    if metric in SUMMED and any(record.imported is not None for record in records):
        # trained elsewhere, at a price that nobody told
        return None
    found = [COST_METRICS[metric](one) for one in costs]
    known = [one for one in found if one is not None]
    if len(known) < len(found):
        return None
    if metric in SUMMED:
        return sum(known)
    return max(known) if metric == "cost/train_memory_mb" else fmean(known)


def _milliseconds(seconds: float | None) -> float | None:
    return None if seconds is None else 1e3 * seconds


def _training_wh(one: Efficiency) -> float | None:
    """Return the energy of training; None where a phase of it was not counted."""
    took = [phase for phase in TRAINING if phase in one.seconds]
    return sum(one.joules[phase] for phase in took) / 3600 if took and one.joules.keys() >= {*took} else None


def _joules_per_image(one: Efficiency) -> float | None:
    joules, rate = one.joules.get("inference"), one.inference_images_per_second
    return joules / (rate * one.seconds["inference"]) if joules is not None and rate else None


COST_METRICS: Mapping[str, Callable[[Efficiency], float | None]] = {
    "cost/params_m": lambda one: one.params_total / 1e6,
    "cost/trainable_m": lambda one: one.params_trainable / 1e6,
    "cost/macs_g": lambda one: one.macs / 1e9,
    "cost/train_hours": lambda one: sum(one.seconds.get(phase, 0.0) for phase in TRAINING) / 3600,
    "cost/train_memory_mb": lambda one: one.peak_device_memory_mib or one.peak_memory_mib,
    "cost/train_images_per_second": lambda one: one.train_images_per_second,
    "cost/images_per_second": lambda one: one.inference_images_per_second,
    "cost/latency_ms": lambda one: _milliseconds(one.latency.p50 if one.latency else None),
    "cost/latency_p95_ms": lambda one: _milliseconds(one.latency.p95 if one.latency else None),
    "cost/train_wh": _training_wh,
    "cost/joules_per_image": _joules_per_image,
}
"""Costs by the ids that published ones have, see bench.published; memory is MiB, which papers call MB."""

"""One cell of a whole workload, run from end to end instead of being extrapolated from blocks."""

from __future__ import annotations

from bench.machine import peak, timing
from bench.machine.energy import Meter, spent
from bench.machine.progress import Progress
from bench.speed import generated
from bench.speed.prepare import Plan, prepare, private_cache, run_cell
from bench.speed.record import MethodSpeed, Phase


def whole(plan: Plan, name: str, speed: MethodSpeed, files: generated.Files, listener: Progress) -> MethodSpeed:
    """Run one cell of the whole workload; raises as `bench.speed.measure.measure`.

    Args:
        plan: what is measured.
        name: of the method.
        speed: what its blocks said.
        files: generated images.
        listener: told of what is done.

    Returns:
        The speed with phases and peaks of memory as the cell had them.
    """
    ready = prepare(plan, name, files)
    cell = ready.cell(ready.method, plan.workload.counts)
    watch, meter = timing.Stopwatch(), Meter(plan.device)
    peak.reset()
    before = meter.joules()
    with private_cache(plan.folder / "cache-whole"), watch.phase("all"):
        record = run_cell(plan, cell, "whole", listener)
    assert record.efficiency is not None
    taken = record.efficiency.seconds
    taken["set-up and record"] = max(0.0, watch.seconds["all"] - sum(taken.values()))
    train, test = plan.workload.train, plan.workload.test
    units = {
        **{"decode": train + test, "features": train, "fit": train, "train": ready.method.steps(train)},
        **{"inference": test, "metrics": test},
    }
    phases = tuple(
        Phase(name=phase, seconds=seconds, units=units.get(phase, 1), measured=units.get(phase, 1))
        for phase, seconds in taken.items()
    )
    found = {
        "phases": phases,
        "whole": True,
        "whole_joules": spent(before, meter.joules()),
        "peak_memory_mib": peak.peak_mib(),
        "peak_device_memory_mib": record.efficiency.peak_device_memory_mib,
    }
    return speed.model_copy(update=found)

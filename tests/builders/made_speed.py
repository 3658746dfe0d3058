"""Speed records written by hand, every number known."""

from __future__ import annotations

from made_records import made

from bench.speed.record import (
    DeviceRates,
    Floor,
    MethodSpeed,
    Phase,
    Rate,
    SpeedRecord,
    WorkCompared,
    WorkloadFacts,
)


def rate(median: float) -> Rate:
    return Rate(median=median, low=median * 0.75, high=median * 1.5, blocks=3, units=30)


def method(factor: float = 1.0, *, trains: bool = True, whole: bool = False) -> MethodSpeed:
    """100 training and 50 test images: decode 15 s, features 20 s, 1,000 steps 500 s, inference 25 s, metrics 5 s."""
    learning = WorkCompared(
        unit="steps" if trains else "images",
        images=16 if trains else 1,
        ours=rate(2.0 * factor),
        plain=rate(1.0),
        over_plain=rate(2.0 * factor),
    )
    seconds = {"decode": (15.0, 150), "features": (20.0, 100), "inference": (25.0, 50), "metrics": (5.0, 50)}
    phases = [Phase(name=name, seconds=one, units=units, measured=units) for name, (one, units) in seconds.items()]
    if trains:
        phases.append(Phase(name="train", seconds=500.0, units=1000, measured=1000 if whole else 30))
    else:
        phases.append(Phase(name="fit", seconds=7.0, units=1, measured=1))
    phases.append(Phase(name="record", seconds=1.0, units=1, measured=1))
    alone = {"bytes": 1e6, "matrix_flops": 2e10}
    floors = [Floor(stage="features", unit="image", flops=2e9, predicted=0.1, measured=0.2, **alone)]
    if trains:
        floors.append(Floor(stage="train", unit="step", flops=5e9, predicted=0.25, measured=0.5, **alone))
    return MethodSpeed(
        created="2026-11-01T00:00:00+00:00",
        commit=None,
        encoder="vit_small",
        random_weights=True,
        input_size=392,
        batch_size=16,
        steps=1000 if trains else 0,
        train=learning if trains else None,
        fit=None if trains else learning,
        inference=learning.model_copy(update={"unit": "images", "images": 1}),
        plain_parts={
            "train" if trains else "fit": {"decode": 0.1, "features": 0.3, "rest": 0.6},
            "inference": {"decode": 0.2, "features": 0.5, "rest": 0.3},
        },
        inference_with_decode=1.5,
        peak_memory_mib=1000.0,
        peak_device_memory_mib=None,
        store_mib=100.0 if trains else 0.0,
        phases=tuple(phases),
        floors=tuple(floors),
        whole=whole,
    )


def speed(
    methods: tuple[str, ...] = ("dinomaly",), *, device: str = "cpu", factor: float = 1.0, workload: str = "mvtec"
) -> SpeedRecord:
    environment = made().environment.model_copy(update={"device": device})
    return SpeedRecord(
        created="2026-11-01T00:00:00+00:00",
        command=("bench", "speed"),
        environment=environment,
        rates=DeviceRates(matrix_flops={"fp32": 1e11}, memory_bytes=1e10),
        workload=WorkloadFacts(
            name=workload,
            train=100,
            test=50,
            classes=2,
            side=900,
            mean_file_bytes=10**6,
            files=16,
            assumptions=("made up",),
        ),
        methods={name: method(factor, trains=name not in ("knn", "patchcore")) for name in methods},
    )

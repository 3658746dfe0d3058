"""Records written by hand, for tests of what is made of records: no run, every number known."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bench.protocol import COMMON, SEVEN, Protocol
from bench.store.facts import CellKey, ClassScores, DatasetFacts, Efficiency, EncoderFacts, Environment, ProtocolFacts
from bench.store.record import Record

PAPER = Protocol(
    name="paper:dinomaly",
    version=1,
    crop=0.875,
    eval_size=256,
    mask_rule="dinomaly",
    label_rule="dataset",
    metrics=(*SEVEN[:-1], "pixel/aupro@0.3:grid200"),
    checkpoint="last",
)
CONFIG = {"encoder": "vit_small", "steps": 100, "dropout": 0.2, "attention": "linear", "hard_mining": 0.9}


def scores(level: float, metrics: tuple[str, ...] = SEVEN) -> dict[str, float | None]:
    """A level for image AUROC, a hundredth less for each metric after it."""
    return {metric: round(level - place / 100, 6) for place, metric in enumerate(metrics)}


def made(
    method: str = "dinomaly",
    dataset: str = "mvtec",
    levels: Mapping[str, float] | None = None,
    *,
    seed: int = 0,
    setting: str = "multi",
    part: str = "",
    parts: int = 1,
    kind: str = "industrial",
    known: int | None = None,
    shots: int | None = None,
    protocol: Protocol = COMMON,
    config: Mapping[str, Any] | None = None,
    metrics: tuple[str, ...] | None = None,
    values: Mapping[str, ClassScores] | None = None,
    created: str = "2026-11-01T00:00:00+00:00",
    data: str = "data",
    device: str = "cpu",
) -> Record:
    """One record. `levels`: class -> image AUROC, see scores; `config`: what differs from CONFIG."""
    levels = {"bottle": 0.9, "metal_nut": 0.8} if levels is None else levels
    shown = metrics or protocol.metrics
    found = values or {
        cls: ClassScores(
            values={**dict.fromkeys(protocol.metrics), **scores(level, shown)},
            undefined={metric: "no masks" for metric in protocol.metrics if metric not in shown},
        )
        for cls, level in levels.items()
    }
    changes = dict(config or {})
    # a name of its own for each record, so that tests can tell them apart
    stem = "-".join(
        str(word) for word in (method, dataset, setting, part, seed, protocol.name, *changes.values()) if word != ""
    )
    return Record(
        status="done",
        created=created,
        command=("bench", "run"),
        cell=CellKey(
            method=method,
            dataset=dataset,
            setting=setting,
            seed=seed,
            protocol=protocol.name,
            classes=tuple(found),
            part=part,
            shots=shots,
            fingerprint=stem,
        ),
        protocol=ProtocolFacts(
            name=protocol.name,
            version=protocol.version,
            hash=protocol.hash(),
            rules=protocol.rules(),
            metrics=protocol.metrics,
        ),
        metric_version=1,
        config={**CONFIG, **changes},
        changed=tuple(changes),
        dataset=DatasetFacts(
            fingerprint=data,
            kind=kind,
            classes_known=known or len(found),
            parts_known=parts,
            train=dict.fromkeys(found, 10),
            test_good=dict.fromkeys(found, 4),
            test_bad=dict.fromkeys(found, 6),
        ),
        encoder=EncoderFacts(name="vit_small", weights_sha256="0" * 64, blocks=(2, 5), position="timm", grid=(16, 16)),
        input_size=256,
        scores=found,
        mean={},
        efficiency=Efficiency(
            seconds={"decode": 9.0, "features": 360.0, "train": 3240.0, "inference": 5.0, "metrics": 1.0},
            train_images_per_second=50.0,
            inference_images_per_second=20.0,
            peak_memory_mib=2048.0,
            peak_device_memory_mib=None,
            params_total=30_000_000,
            params_trainable=8_000_000,
            macs=5_500_000_000,
        ),
        environment=Environment(
            python="3.11",
            packages={},
            commit=None,
            platform="Linux",
            cpu="a cpu",
            cores=2,
            memory_gib=8.0,
            device=device,
            precision="fp32",
            threads=1,
        ),
    )

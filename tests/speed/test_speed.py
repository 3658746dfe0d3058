"""The arithmetic of `bench speed`, its listener and its ways; what it measures is shown in tests/e2e."""

from __future__ import annotations

import json
import mmap
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from made_speed import speed
from torch import nn

from bench.api import Batch, Counts
from bench.encoders import frozen
from bench.errors import StoreError, UsageError
from bench.loading.pixel_cache import PixelCache
from bench.machine import compiling, peak
from bench.machine.rates import matrix_rate, memory_rate
from bench.registry import DATASETS, METHODS
from bench.run.complexity import complexity, training_cost
from bench.run.extractor import Extractor
from bench.speed import arithmetic, generated, prepare, record
from bench.speed.arithmetic import Size, Stage, rounds
from bench.speed.interleaved import Interleaved, TimedBlock
from bench.speed.ours import Ours, Variant, variants
from bench.speed.plain import Parts, Plain
from bench.speed.record import SpeedRecord
from bench.speed.workload import Workload, workload

CPU = torch.device("cpu")
TINY = {"dinomaly": {"input_size": 32, "mlp_ratio": 0.5}, "knn": {"input_size": 32}}


def blocks(*seconds: float, units: int = 10) -> list[TimedBlock]:
    return [TimedBlock(units, one) for one in seconds]


# ---------------------------------------------------------------------------------------------------- arithmetic
def test_rates_are_medians_over_blocks_and_the_first_two_are_warm_up() -> None:
    found = arithmetic.rate(blocks(50.0, 40.0, 1.0, 2.0, 5.0))
    assert (found.median, found.low, found.high) == (5.0, 2.0, 10.0)
    assert (found.blocks, found.units) == (3, 30)
    assert arithmetic.rate(blocks(2.0)).median == arithmetic.rate(blocks(4.0, 2.0)).median == 5.0


def test_ratios_are_of_neighbouring_blocks() -> None:
    # the machine halves its speed after the second round; the ratio does not see it
    found = arithmetic.compared(
        {"ours": blocks(9, 8, 1, 2, 2), "plain": blocks(9, 8, 4, 8, 8), "again": blocks(9, 8, 1.5, 3, 3.2)},
        "steps",
        16,
        1.5,
    )
    assert found.over_plain.low == found.over_plain.median == found.over_plain.high == 4.0
    assert found.over_again is not None and found.over_again.high == pytest.approx(1.6)
    assert found.allowed == 1.5
    alone = arithmetic.compared({"ours": blocks(1), "plain": blocks(2)}, "images", 1, 1.5)
    assert alone.over_again is None and alone.allowed == 1.5


@pytest.mark.parametrize(
    ("seconds", "a_round", "wanted", "most", "expected"),
    [
        (60.0, 1.0, 5, 10_000, (8, 7)),  # 7 rounds of 8 units fill the time
        (60.0, 0.001, 5, 600, (85, 7)),  # no more units than there are
        (60.0, 6.0, 5, 10_000, (1, 10)),  # single units, and as many rounds as fill the time
        (60.0, 15.0, 5, 10_000, (1, 4)),  # slow: single units, fewer rounds
        (60.0, 500.0, 5, 10_000, (1, 4)),  # slower: four rounds whatever they take
    ],
)
def test_blocks_fit_the_time(seconds: float, a_round: float, wanted: int, most: int, expected: tuple[int, int]) -> None:
    assert rounds(seconds, a_round, wanted, most) == expected


def test_variants_have_rates_of_their_own_and_energy_counts_the_timed_blocks() -> None:
    ours = [
        TimedBlock(10, 9.0, 500.0),
        TimedBlock(10, 8.0, 400.0),
        TimedBlock(10, 1.0, 30.0),
        TimedBlock(10, 2.0, 70.0),
    ]
    ways = {"ours": ours, "plain": blocks(9, 8, 4, 8), "bf16+compile": blocks(9, 8, 0.5, 1)}
    found = arithmetic.compared(ways, "steps", 16, variants=[Variant("bf16", compiled=True), Variant("fp32")])
    (one,) = found.variants
    assert (one.precision, one.compiled, one.kept) == ("bf16", True, True)
    assert one.rate.median == 15.0 and one.over_plain.median == 8.0
    assert found.joules == 5.0
    some = [*ours[:3], TimedBlock(10, 2.0)]
    assert arithmetic.compared({**ways, "ours": some}, "steps", 16).joules is None
    # blocks shorter than the counter's own rhythm
    none = [replace(block, joules=0.0) for block in ways["ours"]]
    assert arithmetic.compared({**ways, "ours": none}, "steps", 16).joules is None


def test_variants_are_named_as_options_have_them() -> None:
    assert variants(["bf16+compile+again", "tf32"]) == (Variant("bf16", True, False), Variant("tf32"))
    assert len(variants(["all"])) == len({one.name for one in variants(["all"])}) == 12
    with pytest.raises(UsageError, match=r"no variant 'bf16\+compiled'.*bf16\+compile\+again"):
        variants(["bf16+compiled"])


def test_a_floor_is_the_slower_of_operations_and_bytes() -> None:
    stage = Stage("train", "step", flops=100.0, bytes=30.0)
    by_flops, by_bytes = stage.floor(10.0, 10.0, 40.0), stage.floor(10.0, 1.0, 40.0)
    assert (by_flops.predicted, by_flops.distance, by_flops.used) == (10.0, 4.0, 0.25)
    assert by_bytes.predicted == 30.0 and by_bytes.used == 0.25


def test_stages_count_what_a_unit_needs() -> None:
    kind = METHODS.load("dinomaly")
    method = kind(kind.Config(encoder="vit_tiny_patch8_128.bench", input_size=32))
    cost, size = training_cost(method), Size(encoder=1000, trained=100, features=7, pixels=5)
    step = arithmetic.train_stage(cost, size, batch=4)
    assert step.flops == 8 * (cost.trained_with_products + cost.backward_with_products)
    assert step.bytes == 10 * 100 + 4 * 7
    # twice the images, twice the operations; the parameters are moved once a step
    assert arithmetic.train_stage(cost, size, batch=8).flops == 2 * step.flops
    image = arithmetic.inference_stage(complexity(method), size, batch=10, map_side=2)
    assert image.bytes == 1100 / 10 + 5 + 16
    assert arithmetic.features_stage(21, size, batch=10) == Stage("features", "image", 42.0, 100 + 5 + 7)


def test_the_device_is_measured() -> None:
    assert 1e8 < matrix_rate(CPU) < 1e15 and 1e8 < memory_rate(CPU) < 1e14


# ------------------------------------------------------------------------------------------------------ listener
def test_blocks_of_a_phase_alternate_with_other_ways(monkeypatch: pytest.MonkeyPatch) -> None:
    now, done = 0.0, []
    monkeypatch.setattr(time, "perf_counter", lambda: now)

    def plain(units: int) -> float:
        nonlocal now
        done.append(("plain", units))
        now += 100.0
        return 3.0 * units

    heard = Interleaved({"train": 2}, {"train": {"plain": plain}}, between=lambda: done.append(("between", 0)))
    with heard.phase("decode", 5) as advance:
        now += 7.0
        advance(5, "")
    with heard.phase("train", 5) as advance:
        for _ in range(5):
            now += 1.0
            advance(1, "")
    assert done == [("between", 0), ("plain", 2), ("between", 0), ("plain", 2)]
    # what the other way took is in no block of ours
    assert heard.blocks == {"train": {"ours": blocks(2.0, 2.0, units=2), "plain": blocks(6.0, 6.0, units=2)}}
    # a phase without a size is timed as a whole; the fifth step closed no block
    assert heard.tails == {"decode": 7.0, "train": 1.0}


# ------------------------------------------------------------------------------------------------------ workload
def test_workloads_are_of_the_real_size() -> None:
    mvtec, realiad = workload("mvtec"), workload("realiad")
    assert (mvtec.train, mvtec.test, len(mvtec.counts)) == (3629, 1725, 15)
    assert (realiad.train, realiad.test, len(realiad.counts)) == (36465, 114585, 30)
    assert any("equally large" in text for text in realiad.assumptions)
    with pytest.raises(UsageError, match="Did you mean 'mvtec'"):
        workload("mvtek")


def test_datasets_without_a_fixed_size_are_no_workload() -> None:
    from bench.speed.workload import counts

    with pytest.raises(UsageError, match="no fixed number"):
        counts(DATASETS.load("folder").card)


def test_generated_images_are_the_same_every_time_and_each_is_kept_by_itself(tmp_path: Path) -> None:
    made = [generated.files(tmp_path / name, 40, count=2) for name in ("a", "b")]
    assert list(made[0].hashes.values()) == list(made[1].hashes.values())
    assert len(set(made[0].hashes.values())) == 3
    task = made[0].task({"x": Counts(5, 2, 3), "y": Counts(1, 1, 0)})
    assert (len(task.train), len(task.test), task.has_masks) == (6, 6, {"x": True, "y": False})
    cache = tmp_path / "cache"
    pixels = PixelCache(task.dataset, task.hashes, 32, 32, cache)
    pixels.decode(task.train)
    # six images of two files are decoded and kept six times
    assert sum(path.is_file() for path in cache.rglob("*")) == 6
    assert task.dataset.read_mask(next(one for one in task.test if one.label)).any()


# ---------------------------------------------------------------------------------------------------------- ways
@pytest.fixture
def small() -> Workload:
    return Workload("test", "demo", {"x": Counts(8, 4, 4)}, 40, (), encoder="vit_tiny_patch8_128.bench")


@pytest.fixture
def ready(small: Workload, tmp_path: Path) -> Any:
    def make(name: str) -> prepare.Prepared:
        plan = prepare.Plan(small, CPU, tmp_path, settings=TINY)
        return prepare.prepare(plan, name, generated.files(tmp_path / "images", small.side, count=2))

    return make


def test_the_plain_way_computes_what_ours_keeps(ready: Any, small: Workload, tmp_path: Path) -> None:
    made = ready("dinomaly")
    cell = made.cell(made.method, small.counts)
    pixels = PixelCache(cell.task.dataset, cell.task.hashes, 32, 32, tmp_path / "pixels")
    extract = Extractor(cell.method, frozen.build(cell.encoder, cell.weights), pixels, CPU)
    plain = Plain(cell, CPU, 4, lambda: None)
    ours = extract(cell.task.train[:4])
    again = plain._batched("train", cell.task.train, 4)
    assert ours.keys() == set(again)
    for name in ours:
        torch.testing.assert_close(ours[name], again[name])


def test_every_way_does_as_many_units_as_it_is_told(ready: Any, small: Workload) -> None:
    made = ready("dinomaly")
    cell = made.cell(made.method, small.counts)
    plain, ours = Plain(cell, CPU, 4, lambda: None), Ours(cell, CPU, 4, lambda: None, print)
    ways = [ours.train(one) for one in (Variant("fp32", kept=False), Variant("bf16"))]
    for way in (*ways, ours.score(Variant("bf16")), plain.train, plain.score, plain.fit):
        assert way(2) > 0
    assert plain._stepper is not None and plain._stepper._step == 2
    assert [one._step for one in ours._steppers.values()] == [2, 2]


def test_what_cannot_be_compiled_is_timed_without_it_and_said(
    ready: Any, small: Workload, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = ready("dinomaly")
    said: list[str] = []
    ours = Ours(made.cell(made.method, small.counts), CPU, 4, lambda: None, said.append)
    monkeypatch.setattr(compiling, "BACKEND", lambda graph, inputs: 1 / 0)
    for way in (ours.train(Variant("fp32", compiled=True)), ours.score(Variant("bf16", compiled=True))):
        assert way(2) > 0
    assert ours.failed == {"fp32+compile", "bf16+compile"}
    assert len(said) == 2 and all("torch.compile failed" in text for text in said)


def test_a_memory_is_filled_with_as_many_images_as_the_workload_has() -> None:
    kind = METHODS.load("knn")
    kept: list[nn.Module] = []
    method = prepare.replaying(kind, 7, kept)(kind.Config())
    module = nn.Module()
    method.fit(module, iter([Batch({"token": torch.zeros(2, 3)}), Batch({"token": torch.ones(1, 3)})]))
    assert kept == [module] and module.bank.shape == (7, 3)
    assert module.bank.sum(dim=1).tolist() == [0, 0, 3, 0, 0, 3, 0]
    assert type(method).fit is not kind.fit and method.name == "knn"


def test_weights_are_random_only_where_none_are_at_hand(tmp_path: Path) -> None:
    _, random = generated.weights_file("vit_tiny_patch8_128.bench", None, tmp_path)
    assert not random
    path, random = generated.weights_file("test_resnet.r160_in1k", None, tmp_path)
    assert random and path.is_file()


def test_parts_of_a_block_add_up(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr(time, "perf_counter", lambda: now)
    parts = Parts()
    with parts.part("decode"):
        now += 50.0  # before the block: a warm-up
    for _ in range(2):
        with parts.block("train") as spent:
            with parts.part("decode"):
                now += 1.0
            now += 3.0
        assert spent() == 4.0
    assert parts.shares == {"decode": 0.25, "train": 0.75}


# -------------------------------------------------------------------------------------------------------- memory
def test_the_peak_since_a_reset_is_seen() -> None:
    if not peak.resident_mib():
        pytest.skip("this system does not tell a process its resident memory (no /proc/self/status)")

    def take() -> None:
        # pages of its own: the allocator may have kept as many from another test
        with mmap.mmap(-1, 64 << 20) as held:
            for page in range(0, len(held), mmap.PAGESIZE):
                held[page] = 1

    take()
    peak.reset()
    before = peak.resident_mib()
    assert peak.peak_mib() < before + 16
    take()
    assert peak.peak_mib() > before + 48


# -------------------------------------------------------------------------------------------------------- record
def test_records_come_back_as_they_were_written(tmp_path: Path) -> None:
    one = speed()
    path = tmp_path / "speed" / one.file
    record.write(one, path)
    assert path.name == "cpu-mvtec.json"
    assert record.read(path) == one and record.find([tmp_path]) == record.find([path.parent]) == [one]
    (path.parent / "benchmarks.json").write_text('{"benchmarks": []}')
    assert record.find([tmp_path, tmp_path / "nowhere"]) == [one]


@pytest.mark.parametrize(
    ("change", "word"),
    [(("speed_schema", 1), "reads schema 2"), (("rates", {}), "does not fit"), (("extra", 1), "does not fit")],
)
def test_what_is_no_speed_record_is_refused(tmp_path: Path, change: tuple[str, Any], word: str) -> None:
    path = tmp_path / "x.json"
    path.write_text(json.dumps(json.loads(speed().model_dump_json()) | dict([change])))
    with pytest.raises(StoreError, match=word):
        record.read(path)


def test_methods_of_an_earlier_run_stay_when_machine_and_workload_are_the_same() -> None:
    old, new = speed(methods=("dinomaly", "knn")), speed(methods=("knn", "vitad"))
    both = record.merged(old, new)
    assert set(both.methods) == {"dinomaly", "knn", "vitad"} and both.methods["knn"] is new.methods["knn"]
    longer: SpeedRecord = old.model_copy(
        update={"workload": old.workload.model_copy(update={"mean_file_bytes": old.workload.mean_file_bytes + 1})}
    )
    assert set(record.merged(longer, new).methods) == set(both.methods), "another zlib is no other workload"
    other: SpeedRecord = old.model_copy(update={"environment": old.environment.model_copy(update={"threads": 99})})
    assert record.merged(other, new) is new and record.merged(None, new) is new

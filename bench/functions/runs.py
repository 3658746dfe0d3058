"""`run` from Python: methods trained and scored on data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from bench.errors import SweepError, UsageError
from bench.functions.arguments import Names, Roots, data_roots, names
from bench.home import expanded
from bench.words import counted

if TYPE_CHECKING:
    from bench.machine.feature_places import Place
    from bench.plan.planned import Planned
    from bench.store.record import Record

PLACES = ("auto", "device", "memory", "file", "none")
"""As `bench run --store` takes them; what they are defined by loads torch."""


def run(
    methods: Names = (),
    datasets: Names | Path = (),
    *,
    suite: str | None = None,
    data_root: Roots = None,
    classes: Names = (),
    settings: Names = (),
    splits: Names = (),
    shots: int | None = None,
    rate: float | None = None,
    overlap: bool = False,
    seeds: int | Sequence[int] = (),
    protocol: str | None = None,
    encoder: str | None = None,
    set: Mapping[str, Mapping[str, Any]] | None = None,
    metrics: Names = (),
    calibrate: float | None = None,
    weights: str | Path | None = None,
    device: str = "auto",
    precision: Literal["fp32", "tf32", "bf16"] = "fp32",
    compile: bool = False,
    store: Place = "auto",
    store_budget_gib: float | None = None,
    executor: Literal["local", "ray", "slurm"] = "local",
    jobs: int | None = None,
    address: str | None = None,
    cpus: int | None = None,
    gpus: float | None = None,
    slurm: Mapping[str, object] | None = None,
    results: str | Path = "results/runs",
    keep_maps: bool = False,
    keep_model: bool = False,
    again: bool = False,
    quiet: bool = True,
) -> list[Record]:
    """Run methods on datasets as `bench run` does, one cell after another, and return the records of all cells.

    Finished cells are not run again, and an interrupted one goes on from its checkpoint.

    Args:
        methods: their names; see `bench ls methods`.
        datasets: their names, or folders of one's own images.
        suite: a named run definition, which the other arguments override.
        data_root: folder of the data, or a folder a dataset.
        classes: only these; empty for all.
        settings: multi, single, few-shot, few-shot-single or noisy; see `bench run --help`.
        splits: half-splits of semantic datasets; empty for all.
        shots: training images a class in the few-shot settings.
        rate: share of anomalous training images in the setting noisy, in (0, 1).
        overlap: whether these are tested, too.
        seeds: one or several.
        protocol: common or paper.
        encoder: frozen encoder in place of the method's own.
        set: method -> setting -> value, in place of the published one.
        metrics: measured beside the protocol's own.
        calibrate: share of the normal training images that is held back for thresholds.
        weights: folder of safetensors files; None for that of BENCH_WEIGHTS.
        device: auto, cpu, cuda or cuda:N.
        precision: arithmetic of the trained part.
        compile: whether the trained part goes through torch.compile.
        store: where the encoder's features are kept for training: auto, device, memory, file or none.
        store_budget_gib: most that they may take.
        executor: where cells run: on this machine, on a Ray cluster, or as Slurm jobs.
        jobs: most cells at once; None for one a GPU. Several on this machine are processes that import the script that
            calls this one, which then has to do so below `if __name__ == "__main__":`.
        address: of a Ray cluster: auto, or ray://HOST:PORT; None for one on this machine.
        cpus: cores that a cell takes of a cluster.
        gpus: GPUs that a cell takes of a cluster.
        slurm: parameters of Slurm, such as partition or time.
        results: where records go and finished cells are looked for.
        keep_maps: whether anomaly maps are kept beside the record.
        keep_model: whether the trained model is, for `bench predict`.
        again: whether finished cells are run again.
        quiet: whether nothing is told on the way; else progress goes to stderr.

    Returns:
        A record a cell, in the order of the plan: datasets, settings, methods, seeds.

    Raises:
        UsageError, DatasetError, WeightsError: something asked for does not exist or does not fit.
        SweepError: cells failed; all others have run, and their records are in `results`.
        UnwritableError: a record cannot be written.

    Example:
        >>> import bench
        >>> (record,) = bench.run("knn", "./parts", encoder="vit_tiny_patch8_128.bench", device="cpu")
        >>> record.cell.dataset, record.status
        ('parts', 'done')
        >>> sorted(record.scores)
        ['dots', 'lines']
    """
    from bench.config import check_asked
    from bench.machine import devices
    from bench.machine.terminal import TerminalProgress
    from bench.plan import request as requests
    from bench.run.executors import choice

    def given(chosen: Sequence[str]) -> dict[str, dict[str, Any]]:
        for name in set or {}:
            check_asked(name, chosen)
        return {name: dict(values) for name, values in (set or {}).items()}

    request = requests.of(
        suite,
        methods=names(methods),
        datasets=(str(datasets.absolute()),) if isinstance(datasets, Path) else names(datasets),
        settings=names(settings),
        seeds=(seeds,) if isinstance(seeds, int) else tuple(seeds),
        protocol=protocol,
        classes=names(classes),
        splits=names(splits),
        shots=shots,
        rate=rate,
        overlap=overlap,
        encoder=encoder,
        given=given,
        data_roots=data_roots(data_root),
        weights=None if weights is None else expanded(str(weights)),
        precision=precision,
        metrics=names(metrics),
        calibrate=calibrate,
    )
    wanted = choice.ExecutorRequest(
        executor, jobs, address, cpus, gpus, tuple(f"{name}={value}" for name, value in (slurm or {}).items())
    )
    if executor not in choice.EXECUTORS:
        raise UsageError(f"unknown executor '{executor}'. Expected one of {', '.join(choice.EXECUTORS)}")
    if store not in PLACES:
        raise UsageError(f"unknown store '{store}'. Expected one of {', '.join(PLACES)}")
    if jobs is not None and jobs < 1:
        raise UsageError(f"jobs={jobs}: expected 1 or more")
    choice.check(wanted, device)
    requests.check(request)
    progress = TerminalProgress.of(quiet)
    sources = requests.sources(request, progress.say)

    from bench.run import sweep
    from bench.run.cell import Options

    options = Options(
        results=expanded(str(results)),
        # elsewhere each worker looks for itself
        device=devices.choose(device if executor == "local" else "cpu"),
        store=store,
        store_budget_gib=store_budget_gib,
        keep_maps=keep_maps,
        keep_model=keep_model,
        compile=compile,
    )
    planned = sweep.prepare(request, options, progress, sources, again=again)
    found = {item.cell.fingerprint: item.record for item in planned if not item.todo}

    def finished(item: Planned, record: Record) -> None:
        found[item.cell.fingerprint] = record

    sweep.run(planned, options, progress, finished, choice.choose(wanted, device))
    records = [found.get(item.cell.fingerprint) for item in planned]
    done = [record for record in records if record is not None and record.error is None]
    if len(done) < len(planned):
        raise SweepError(
            f"{len(planned) - len(done)} of {counted(len(planned), 'cell')} have no scores: "
            + "; ".join(
                _trouble(item, record)
                for item, record in zip(planned, records, strict=True)
                if record is None or record.error is not None
            )
            + f". Finished records are in {options.results}; the same call goes on with the others"
        )
    return done


def _trouble(item: Planned, record: Record | None) -> str:
    if record is None:
        return f"{item.cell.name} is with another process"
    assert record.error is not None
    return f"{item.cell.name}: {record.error.type}: {record.error.message}"

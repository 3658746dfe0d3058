"""Diagnosis of this machine before it costs a run: each finding with the command that mends it."""

from __future__ import annotations

import os
import platform
import re
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Literal

from bench import cache
from bench.cache import cache_dir
from bench.errors import BenchError
from bench.machine import crowding, host_memory, threads
from bench.words import counted

State = Literal["ok", "note", "problem"]
LITTLE_DISK = 5 << 30
LITTLE_MEMORY = 4 << 30


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """One thing that was looked at."""

    about: str
    state: State
    text: str
    mend: str = ""
    """A command, or what to do; empty where nothing is to be done."""
    methods: tuple[str, ...] = ()
    """Those that run by default once this is well."""


def examine(results: Path, data_roots: Sequence[str], weights: Path | None, *, online: bool) -> Iterator[Diagnosis]:
    """Look at everything a run needs.

    Args:
        results: where records go.
        data_roots: as `bench run --data-root` takes them; without any only the demo is looked for.
        weights: folder of weights, as `bench run --weights`.
        online: whether to ask the hub for weights that are not here.
    """
    yield from packages()
    yield from machine()
    yield from caches()
    yield from records(results)
    yield from datasets(data_roots)
    yield from encoders(weights, online=online)


def packages() -> Iterator[Diagnosis]:
    """Look for what bench depends on."""
    from bench.store.provenance import commit

    here = metadata.version("bench-uad")
    yield Diagnosis("bench", "ok", f"{here}, commit {(commit() or 'none')[:12]}, Python {platform.python_version()}")
    fitting = []
    for line in metadata.requires("bench-uad") or ():
        if "extra ==" in line:
            continue
        name, wanted = re.match(r"([A-Za-z0-9._-]+)\s*([^;]*)", line).groups()  # type: ignore[union-attr]
        mend = f"pip install '{name}{wanted}'"
        try:
            found = metadata.version(name)
        except metadata.PackageNotFoundError:
            yield Diagnosis(name, "problem", f"not installed, expected {wanted}", mend)
            continue
        if _fits(found, wanted):
            fitting.append(name)
        else:
            yield Diagnosis(name, "problem", f"{found}, expected {wanted}", mend)
    yield Diagnosis("packages", "ok", f"{counted(len(fitting), 'package')} as required: {', '.join(fitting)}")


def machine() -> Iterator[Diagnosis]:
    """Look at processor, memory and accelerator."""
    import torch

    from bench.store.provenance import environment

    here = environment("", "", torch.get_num_threads())
    yield Diagnosis("processor", "ok", f"{here.cpu}, {counted(here.cores, 'core')}, {counted(here.threads, 'thread')}")
    yield from processor()
    free = host_memory.available()
    text = f"{here.memory_gib} GiB" + (f", {free / 2**30:.1f} GiB of it free" if free is not None else "")
    short = free is not None and free < LITTLE_MEMORY
    mend = "close something, or run with --store file and a smaller batch_size" if short else ""
    yield Diagnosis("memory", "note" if short else "ok", text, mend)
    if torch.cuda.is_available():
        for index in range(torch.cuda.device_count()):
            left, total = torch.cuda.mem_get_info(index)
            text = f"{torch.cuda.get_device_name(index)}, {left / 2**30:.1f} of {total / 2**30:.1f} GiB free"
            yield Diagnosis(f"cuda:{index}", "ok", text)
    elif Path("/proc/driver/nvidia/version").exists():
        text = f"an NVIDIA driver is here, but torch {torch.__version__} sees no device"
        yield Diagnosis("device", "problem", text, "install a CUDA build of torch: https://pytorch.org/get-started")
    else:
        yield Diagnosis("device", "ok", "cpu only")


def processor() -> Iterator[Diagnosis]:
    """Look at how much of the processor this process gets, and how its threads wait for each other."""
    if (quota := threads.cpu_quota()) is not None:
        text = f"a control group allows {quota:g} cores' time: {threads.cores()} of the cores are counted on"
        yield Diagnosis("quota", "ok", text)
    if (load := os.getloadavg()[0]) > threads.cores():
        text = f"{load:.1f} processes want {threads.cores()} cores: estimates of time will not hold"
        yield Diagnosis("load", "note", text, "wait for the others, or give them less: nice, --jobs")
    how = "spin while the cores are theirs, sleep at once where others want them" if crowding.adapts() else "as set"
    ours, found = threads.chosen(), threads.waiting()
    words = [f"{name}={value} ({'bench' if name in ours else 'you'})" for name, value in found.items()]
    yield Diagnosis("waiting", "ok", f"threads that wait for each other: {'; '.join([how, *words])}")


def caches() -> Iterator[Diagnosis]:
    """Look at what is kept, and whether more fits."""
    folder = cache_dir()
    place = _nearest(folder)
    if not os.access(place, os.W_OK):
        yield Diagnosis("cache", "problem", f"{folder} cannot be written", "export BENCH_CACHE=DIR")
        return
    free = shutil.disk_usage(place).free
    little = free < LITTLE_DISK
    mend = "bench cache clear, or export BENCH_CACHE=DIR" if little else ""
    yield Diagnosis("cache", "note" if little else "ok", f"{folder}, {free / 2**30:.1f} GiB free there", mend)
    for one in cache.kept():
        if one.files:
            yield Diagnosis(f"cache {one.name}", "ok", f"{size(one.bytes)} in {counted(one.files, 'file')}")


def records(results: Path) -> Iterator[Diagnosis]:
    """Look at the results folder: can it be written, is every record whole, was anything interrupted?"""
    from bench.store.folder import find

    if not os.access(_nearest(results), os.W_OK):
        yield Diagnosis("results", "problem", f"{results} cannot be written", "bench run --results DIR")
    if not results.is_dir():
        yield Diagnosis("results", "ok", f"{results}: nothing yet")
        return
    found = find([results])
    failed = [record for record in found.records.values() if record.status == "failed"]
    text = f"{results}: {counted(len(found.records) - len(failed), 'finished cell')}, {len(failed)} failed"
    yield Diagnosis("results", "note" if failed else "ok", text, "the same bench run again" if failed else "")
    for one in cache.beside(results):
        if one.files:
            yield Diagnosis(f"kept {one.name}", "ok", f"{size(one.bytes)} in {counted(one.files, 'file')}: {one.what}")
    for message in found.unreadable:
        yield Diagnosis("results", "problem", message, "delete the file and run its cell again")
    begun = sorted(results.rglob("*.ckpt"))
    if begun:
        taken = size(sum(path.stat().st_size for path in begun))
        text = f"{counted(len(begun), 'interrupted training')}, {taken}: {begun[0]}"
        yield Diagnosis("results", "note", text, "the same bench run goes on; or delete them")
    if left := sorted(results.rglob(".*.part")):
        yield Diagnosis(
            "results", "note", f"{counted(len(left), 'half-written file')} of killed runs: {left[0]}", f"rm '{left[0]}'"
        )


def datasets(data_roots: Sequence[str]) -> Iterator[Diagnosis]:
    """Look for every dataset below the data roots; numbers of images are compared, no image is opened."""
    from bench.data_roots import data_root
    from bench.registry import DATASETS

    absent = []
    for name in DATASETS.names():
        try:
            root = data_root(name, data_roots)
            kind = DATASETS.load(name)
            where = kind.locate(root)
        except BenchError as error:
            absent.append(name)
            if any(option.startswith(f"{name}=") for option in data_roots):
                yield Diagnosis(name, "problem", str(error), f"bench show {name}")
            continue
        if name == "demo" and not where.is_dir():
            yield Diagnosis(name, "ok", "drawn on first use")
            continue
        if name == "folder":
            continue  # takes any folder of MVTec's layout, so that finding it says nothing
        try:
            found = kind(where).samples()
        except BenchError as error:
            yield Diagnosis(name, "problem", str(error), f"bench data verify {name} --root {where}")
            continue
        expected = sum(counts.total for counts in kind.card.counts.values())
        text = f"{counted(len(found), 'image')} at {where}"
        if expected and len(found) != expected:
            yield Diagnosis(
                name, "note", f"{text}, published are {expected}", f"bench data verify {name} --root {where}"
            )
        else:
            yield Diagnosis(name, "ok", text)
    if absent:
        # none at all below the folders that were named means that the folders are the wrong ones
        nothing = set(DATASETS.names()) - set(absent) <= {"demo", "folder"}
        mend = "bench doctor --data-root DIR, the folder that holds them; bench show NAME says where to get one"
        yield Diagnosis(
            "datasets", "note" if nothing else "ok", f"not found: {', '.join(absent)}", mend if nothing else ""
        )


def encoders(folder: Path | None, *, online: bool) -> Iterator[Diagnosis]:
    """Look for the weights that each method takes by default."""
    from bench.encoders import weights
    from bench.registry import METHODS

    wanted: dict[str, list[str]] = {}
    for name in METHODS.names():
        try:
            fields = METHODS.load(name).Config.model_fields
            if "encoder" in fields:
                wanted.setdefault(fields["encoder"].default, []).append(name)
            else:
                yield Diagnosis(name, "ok", "looks through no encoder, so that it needs no weights", methods=(name,))
        except BenchError as error:
            yield Diagnosis(name, "problem", str(error), "bench --debug show " + name)
    for encoder, methods in wanted.items():
        used = f"for {', '.join(methods)}"
        try:
            path = weights.at_hand(encoder, folder)
            if path is not None:
                weights.look(path, encoder)
        except BenchError as error:
            yield Diagnosis(encoder, "problem", str(error), "bench doctor --weights DIR", tuple(methods))
            continue
        if path is not None:
            yield Diagnosis(encoder, "ok", f"{used}: {path}", methods=tuple(methods))
            continue
        trouble = weights.hub_trouble(encoder) if online else ""
        if trouble is None:
            yield Diagnosis(encoder, "ok", f"{used}: not here, the hub has it", methods=tuple(methods))
        elif online:
            mend = f"save {encoder}.safetensors in a folder and give it by --weights DIR or BENCH_WEIGHTS"
            yield Diagnosis(
                encoder, "problem", f"{used}: not here, and the hub gave nothing: {trouble}", mend, tuple(methods)
            )
        else:
            text = f"{used}: not here, fetched from the hub on first use"
            mend = "bench doctor --online tells whether it can be had"
            yield Diagnosis(encoder, "note", text, mend, tuple(methods))


def size(count: int) -> str:
    """Return a number of bytes as text: 1.5 GiB, 20 MiB, 3 KiB."""
    for unit, scale in (("GiB", 2**30), ("MiB", 2**20)):
        if count >= scale:
            return f"{count / scale:.1f} {unit}"
    return f"{count / 1024:.0f} KiB"


def _nearest(folder: Path) -> Path:
    """Return the folder, or what is there of the way to it: it is made on first use."""
    return next(place for place in (folder.absolute(), *folder.absolute().parents) if place.exists())


def _fits(found: str, wanted: str) -> bool:
    """Return whether a version is at least the one wanted; bench asks for nothing but lower bounds."""
    if not wanted.strip().startswith(">="):
        return True
    return _numbers(found) >= _numbers(wanted.strip()[2:])


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", version.partition("+")[0])[:3])

"""Writing of reproduction packs: a zip of records, image scores, pixel ranks, and the versions they were made with."""

from __future__ import annotations

import shutil
import tempfile
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.errors import UsageError
from bench.files import file_name
from bench.machine.progress import Progress
from bench.metrics.arrays import pixel_evidence
from bench.metrics.ids import known
from bench.metrics.ranks import Undefined
from bench.packs.pixel_ranks import SUFFIX, save
from bench.store.evidence import EvidenceFiles, Lacking, protocol_of
from bench.store.record import Record

LOCK = "lock.txt"
README = "README.txt"
_TEXT = """Records of bench with what their numbers follow from: scores by image (.parquet) and, in place of images and
anomaly maps, the ranks of anomalous pixels among normal ones (.ranks.npz). Recompute every printed number with

    bench reproduce PACK

{lock} has the versions of the packages that the records were made with.
"""


@dataclass(frozen=True, slots=True)
class PackContents:
    """What a pack came to hold."""

    records: int
    classes: int
    """Whose pixel ranks are in it."""
    bytes: int
    lacking: tuple[str, ...]
    """Which records' pixel metrics cannot be recomputed from it, and why."""


def pack(records: dict[Path, Record], evidence: EvidenceFiles, out: Path, progress: Progress) -> PackContents:
    """Write a pack; the file appears when it is whole.

    Args:
        records: file -> finished record.
        evidence: of the folders they lie in, and of the data roots.
        out: the zip.
        progress: told of each class.

    Raises:
        UsageError: a record has no scores by image beside it, or nothing is left to pack.
    """
    lacking: list[str] = []
    classes = 0
    with tempfile.TemporaryDirectory(prefix="pack-", dir=out.parent) as draft:
        top = Path(draft) / "pack"
        total = sum(len(record.scores) for record in records.values())
        with progress.phase("pack", total) as advance:
            for path, record in records.items():
                place = top / record.cell.file
                place.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(path, place)
                try:
                    evidence.images(record)
                except Lacking as why:
                    raise UsageError(f"{path}: {why}. Expected a record as bench run or bench score left it") from why
                shutil.copyfile(path.parent / str(record.predictions), place.parent / str(record.predictions))
                for cls in record.scores:
                    if any(_is_pixel(metric) for metric in record.scores[cls].values):
                        try:
                            _ranks(record, cls, evidence, ranks_file(place, cls))
                            classes += 1
                        except (Lacking, Undefined) as why:
                            lacking.append(f"{name_of(record)}, {cls}: {why}")
                    advance(1, cls)
        versions = sorted(
            {f"{name}=={of}" for one in records.values() for name, of in one.environment.packages.items()}
        )
        (top / LOCK).write_text("".join(f"{line}\n" for line in versions), encoding="utf-8")
        (top / README).write_text(_TEXT.format(lock=LOCK), encoding="utf-8")
        whole = Path(draft) / "whole.zip"
        with zipfile.ZipFile(whole, "w", zipfile.ZIP_DEFLATED) as archive:
            for file in sorted(path for path in top.rglob("*") if path.is_file()):
                stored = zipfile.ZIP_STORED if file.suffix in (".npz", ".parquet") else zipfile.ZIP_DEFLATED
                archive.write(file, file.relative_to(top), stored)
        size = whole.stat().st_size
        whole.replace(out)
    return PackContents(len(records), classes, size, tuple(lacking))


def name_of(record: Record) -> str:
    """Return what a record is called in messages: `dinomaly on demo, multi, seed 0`."""
    return f"{record.cell.title}, seed {record.cell.seed}"


def ranks_file(record: Path, cls: str) -> Path:
    """Return where a class's pixel ranks stand beside a record's file."""
    return record.with_name(f"{record.stem}.{file_name(cls)}{SUFFIX}")


def _ranks(record: Record, cls: str, evidence: EvidenceFiles, path: Path) -> None:
    if protocol_of(record).own_size:
        raise Lacking("scored at the images' own sizes, and the kept maps are smaller")
    # of a whole Real-IAD too: one class at a time
    found = pixel_evidence(evidence.maps(record, cls), evidence.masks(record, cls, any_number=True))
    save(path, found.ranks, found.regions)


def _is_pixel(metric: str) -> bool:
    found = known(metric)
    return found is not None and found.level == "pixel" and found.needs == "ranks"


def chosen(found: dict[Path, Record]) -> dict[Path, Record]:
    """Return the finished ones of some records. Raises UsageError where there is none."""
    done = {path: record for path, record in found.items() if record.status == "done"}
    if not done:
        raise UsageError(f"{len(found)} records, none of them finished. Expected records of bench run")
    return done


def checked_out(out: Path, overwrite: Sequence[Path] = ()) -> Path:
    """Return where a pack goes. Raises UsageError for a folder, or where no folder would hold it."""
    if out.is_dir() or out in overwrite:
        raise UsageError(f"--out {out}: a folder. Expected the name of a zip, such as pack.zip")
    if not out.resolve().parent.is_dir():
        raise UsageError(f"--out {out}: {out.parent} is no folder. Expected one that exists")
    return out

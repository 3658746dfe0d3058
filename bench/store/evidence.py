"""Evidence beside records: per-image scores, anomaly maps, and the images where the dataset is at hand."""

from __future__ import annotations

import typing
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from bench import regular
from bench.errors import BenchError, DatasetError, StoreError
from bench.files import file_name
from bench.loading import arrays
from bench.protocol import Protocol, from_facts
from bench.stats import Images
from bench.store import explained
from bench.store.record import Record

if TYPE_CHECKING:
    from bench.api import Dataset, Sample

AGREES = 1e-9
"""Scores computed again from the same per-image scores differ by rounding alone."""


_COLUMNS = {"id": "string", "class": "string", "defect": "string", "label": "int64", "score": "float64"}
"""Of the per-image scores, as Parquet calls them."""
KINDS = ("*.parquet", "*.maps", "*.model.safetensors", f"*{explained.SUFFIX}")
"""Files and folders beside records."""
MOST_MASKS = 6000
"""Test images of a record; reading the masks of more takes longer than anybody waits for a report."""


class Lacking(Exception):
    """Something that a figure needs is not there; the text is the reason that a reader is given."""


class MapMaker(typing.Protocol):
    """A record's kept model, asked for the maps that were not kept; `bench.prediction.map_model` has it."""

    scale: tuple[float, float] | None
    """Where the colours of its maps begin and end."""

    def map_of(self, dataset: Dataset, sample: Sample) -> npt.NDArray[Any]:
        """Return the anomaly map of a test image, [S, S]."""


class EvidenceFiles:
    """Finds the files of records below some folders, and the images of datasets below some data roots."""

    def __init__(
        self,
        folders: Sequence[Path],
        data_roots: Sequence[str] = (),
        open_model: Callable[[Path], MapMaker] | None = None,
    ) -> None:
        """Look nothing up yet.

        Args:
            folders: those that the records were read from.
            data_roots: as `bench run --data-root` takes them: `DIR` for all datasets, `name=DIR` for one.
            open_model: opens the kept model of a record's file; None where no model is asked for anything.
        """
        self._open_model = open_model
        self._folders = tuple(folders)
        self._roots = tuple(data_roots)
        self._predictions: dict[str, dict[str, Images]] = {}
        self._masks: dict[tuple[str, str, str, int, int], npt.NDArray[np.uint8]] = {}
        self._samples: dict[str, tuple[Dataset, dict[str, Sample]] | str] = {}

    @cached_property
    def _files(self) -> dict[str, Path]:
        # names hold the cell's fingerprint, so that one name is one cell wherever it lies
        found = (path for folder in self._folders for kind in KINDS for path in folder.rglob(kind))
        return {path.name: path for path in found}

    def images(self, record: Record) -> Mapping[str, Images]:
        """Return the per-image scores of a record by class, each in the order of its maps.

        Raises:
            Lacking: the file is not there, cannot be read, or does not give the AUROC that the record has.
        """
        path = self._files.get(record.predictions or "")
        if path is None:
            raise Lacking("the per-image scores (.parquet) are not beside the record")
        if path.name not in self._predictions:
            self._predictions[path.name] = _read_images(path)
        found = self._predictions[path.name]
        for cls, scores in record.scores.items():
            recorded = scores.values.get("image/auroc")
            if cls not in found or (recorded is not None and abs(_auroc(found[cls]) - recorded) > AGREES):
                raise Lacking(f"{path.name} holds other scores than the record does for {cls}")
        return found

    def maps(self, record: Record, cls: str) -> npt.NDArray[Any]:
        """Return the anomaly maps of a class, real numbers [N, S, S], read from the disk when used.

        Raises:
            Lacking: there never were any, they were not kept, or are not beside the record.
        """
        if record.maps is None:
            if record.is_mapless:
                raise Lacking(f"{record.cell.method} gives image scores alone: there are no anomaly maps")
            how = "makes them by the kept model" if record.model is not None else "--again runs the cell again"
            raise Lacking(f"the anomaly maps were not kept (bench run --keep-maps {how})")
        folder = self._files.get(record.maps)
        if folder is None:
            raise Lacking("the anomaly maps are not beside the record")
        path = folder / f"{file_name(cls)}.npy"
        if not path.is_file():
            raise Lacking(f"{record.cell.method} left no anomaly maps of {cls}: it may score images alone")
        try:
            with regular.opened(path) as file:
                arrays.read_header(file)  # NumPy itself reads as much of one as it is told to
            maps: npt.NDArray[Any] = np.load(path, mmap_mode="r")
        except Exception as error:  # NumPy's reader of headers raises a dozen kinds on bad bytes
            raise Lacking(f"{path.name} cannot be read: {error}") from error
        side = protocol_of(record).eval_size
        if maps.dtype.kind not in "fiu" or maps.shape != (len(self.images(record)[cls].ids), side, side):
            raise Lacking(f"{path.name} holds {maps.dtype} {list(maps.shape)}, which are no maps of these images")
        return maps

    def explained(self, record: Record) -> list[explained.Explained]:
        """Return the explanations that lie beside a record and are of its numbers, by paper; others are left out."""
        stem = record.cell.file.stem
        found = []
        for name in sorted(
            name for name in self._files if name.endswith(explained.SUFFIX) and name.startswith(f"{stem}.")
        ):
            with suppress(StoreError):
                found.append(explained.read(self._files[name]))
        return [one for one in found if one.of(record)]

    @property
    def asks_models(self) -> bool:
        """Whether kept models are opened for maps that were not kept."""
        return self._open_model is not None

    def map_maker(self, record: Record) -> MapMaker:
        """Return a record's kept model. Raises Lacking where it is not beside the record, or cannot be used here."""
        file = self._files.get(record.model.file if record.model is not None else "")
        if file is None:
            raise Lacking("the kept model is not beside the record")
        path = file.with_name(f"{file.name.removesuffix('.model.safetensors')}.json")
        assert self._open_model is not None
        try:
            return self._open_model(path)
        except BenchError as error:
            raise Lacking(f"no anomaly maps were kept, and the kept model cannot make them: {error}") from error

    def samples(self, record: Record, ids: Sequence[str]) -> tuple[Dataset, list[Sample]]:
        """Return the dataset and some of its samples, in the order of `ids`.

        Raises:
            Lacking: the dataset is not at hand or does not have these images.
        """
        name = record.cell.dataset
        if name not in self._samples:
            self._samples[name] = self._find(name, record.dataset.root)
        found = self._samples[name]
        if isinstance(found, str):
            raise Lacking(found)
        dataset, known = found
        if missing := [one for one in ids if one not in known]:
            raise Lacking(f"{name} at {dataset.root} has no image {missing[0]}")
        return dataset, [known[one] for one in ids]

    def _find(self, name: str, recorded: str | None) -> tuple[Dataset, dict[str, Sample]] | str:
        from bench import combined, own
        from bench.registry import DATASETS

        hint = f"name their folder with --data-root {name}=DIR"
        try:
            combined.register(name)
            root = combined.roots(name, self._roots)
            if not (any(root.values()) if isinstance(root, combined.Roots) else root) and recorded is not None:
                root = combined.recorded(name, recorded) or root
            if name not in DATASETS.targets:
                if root is None:
                    return f"the images are not at hand; {hint}"
                own.add(name)
            kind = DATASETS.load(name)
            try:
                place = kind.locate(root)  # type: ignore[arg-type]  # a combination takes its roots
            except DatasetError:
                if root is None:  # what it says is about a run
                    return f"the images are not at hand; {hint}"
                raise
            dataset = kind(place)
            return dataset, {sample.id: sample for sample in dataset.samples()}
        except BenchError as error:
            return f"the images are not at hand ({error}); {hint}"

    def masks(self, record: Record, cls: str, *, any_number: bool = False) -> npt.NDArray[np.bool_]:
        """Return the masks of a class at the evaluation size in the order of its maps, bool [N, S, S].

        Args:
            record: whose test images.
            cls: the class.
            any_number: whether masks of more than MOST_MASKS test images of the record are read.

        Raises:
            Lacking: the dataset is not at hand, one of its masks cannot be read, or there are very many.
        """
        images = self.images(record)[cls]
        if not any_number and sum(len(of.ids) for of in self.images(record).values()) > MOST_MASKS:
            raise Lacking(f"more than {MOST_MASKS} test images, whose masks are not read for a figure")
        protocol, size = protocol_of(record), record.input_size
        key = (record.cell.dataset, cls, protocol.hash(), size, hash(images.ids))
        shape = (len(images.ids), protocol.eval_size, protocol.eval_size)
        if key not in self._masks:
            # as bits: figures of several methods ask for the same masks, and a dataset's would take gigabytes
            self._masks[key] = np.packbits(self._read_masks(record, images, shape))
        return np.unpackbits(self._masks[key], count=int(np.prod(shape))).reshape(shape).astype(np.bool_)

    def _read_masks(self, record: Record, images: Images, shape: tuple[int, int, int]) -> npt.NDArray[np.bool_]:
        from bench.loading.masks import to_evaluation

        dataset, samples = self.samples(record, images.ids)
        protocol, size = protocol_of(record), record.input_size
        masks = np.zeros(shape, dtype=np.bool_)
        try:
            for place, sample in enumerate(samples):
                if images.labels[place]:
                    masks[place] = to_evaluation(dataset.read_mask(sample), protocol, size)
        except BenchError as error:
            raise Lacking(str(error)) from error
        return masks


def protocol_of(record: Record) -> Protocol:
    """Return the record's protocol as the code takes it. Raises Lacking for one of an unknown shape."""
    try:
        return from_facts(record.protocol.rules, record.protocol.metrics)
    except ValueError as error:
        raise Lacking(f"protocol {record.protocol.name} v{record.protocol.version} is not known here") from error


def _read_images(path: Path) -> dict[str, Images]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        regular.check(path)
        found = pq.read_table(path, columns=list(_COLUMNS), page_checksum_verification=True).select(list(_COLUMNS))
        table = found.cast(pa.schema(_COLUMNS.items())).to_pydict()
    except (OSError, ValueError, pa.ArrowException, KeyError) as error:
        raise Lacking(f"{path.name} cannot be read: {error}") from error
    if any(column.null_count for column in found.columns) or not np.isfinite(table["score"]).all():
        raise Lacking(f"{path.name} has lines without an id, a class, a label or a score")
    places: dict[str, list[int]] = {}
    for place, cls in enumerate(table["class"]):
        places.setdefault(cls, []).append(place)
    return {
        cls: Images(
            ids=tuple(table["id"][place] for place in chosen),
            labels=np.array([table["label"][place] for place in chosen], dtype=bool),
            scores=np.array([table["score"][place] for place in chosen], dtype=np.float64),
            defects=tuple(table["defect"][place] for place in chosen),
        )
        for cls, chosen in places.items()
    }


def _auroc(images: Images) -> float:
    from scipy.stats import rankdata

    positives, negatives = int(images.labels.sum()), int((~images.labels).sum())
    if not positives or not negatives:
        return float("nan")
    above = rankdata(images.scores)[images.labels].sum() - positives * (positives + 1) / 2
    return float(above / (positives * negatives))

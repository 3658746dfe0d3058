"""A cell whose maps and scores another program wrote: matched, brought to the evaluation size, scored, recorded.

Scores come from the same engine and the same protocol (`common`) as those of bench's own methods, so that both stand in
one table. What made the maps is the user's word, and the record says so (`bench.store.record.ExternalFacts`).
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch

from bench.api import Sample
from bench.config import fingerprint
from bench.data_roots import data_root
from bench.errors import UsageError
from bench.external.map_files import Array, Look, MapFile, common_dtype, exactly, resized_dtype, to_size
from bench.external.submission import Float64Scores, content, find_maps, match, read_scores
from bench.files import atomic_folder
from bench.loading.images import peek_size
from bench.loading.surprises import Surprises, tell
from bench.machine.progress import Advance, Progress
from bench.machine.timing import Stopwatch
from bench.metrics import IMAGE_SCORES, METRIC_VERSION
from bench.metrics.ids import parse_all
from bench.plan import settings
from bench.plan.task import Task, hashed, index
from bench.protocol import COMMON, Protocol
from bench.registry import DATASETS, METHODS
from bench.run import recording, scoring
from bench.run.scoring import Predicted
from bench.run.single_defects import read_defects
from bench.setting import find as find_setting
from bench.store import record as records
from bench.store.facts import CellKey, EncoderFacts, ExternalFacts
from bench.store.provenance import environment
from bench.store.record import Record

RESIZED = "maps resized to the evaluation size, bilinear with antialiasing"
LARGEST = 8192
"""Side of maps that are read."""
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.+-]{0,63}")


@dataclass(frozen=True)
class ScoreRequest:
    """What the user wants scored."""

    method: str
    dataset: str
    maps: Path | None
    scores: Path | None
    results: Path
    setting: str = "multi"
    seed: int = 0
    classes: tuple[str, ...] = ()
    splits: tuple[str, ...] = ()
    map_size: int | None = None
    """Side of maps that have neither the evaluation size nor their image's; they cover the whole image."""
    image_score: str = "max"
    encoder: str = "not stated"
    facts: Mapping[str, str] = field(default_factory=dict)
    data_roots: tuple[str, ...] = ()
    command: tuple[str, ...] = ()
    metrics: tuple[str, ...] = ()
    """Measured beside the protocol's own."""
    keep_maps: bool = False
    """Whether maps at the evaluation size are kept beside the record."""


def score(request: ScoreRequest, progress: Progress) -> list[Record]:
    """Score what another program wrote and write a record for each model that the setting makes of the dataset.

    Raises:
        UsageError: a name that cannot be, nothing to score, or maps and scores that do not fit the test images.
        DatasetError: the dataset is missing or incomplete.
        StoreError: a record cannot be written.
    """
    _check(request)
    parse_all(request.metrics)
    card = DATASETS.load(request.dataset).card
    settings.check([card], [request.setting], request.classes, request.splits, None)
    maps = find_maps(request.maps) if request.maps is not None else None
    given = read_scores(request.scores) if request.scores is not None else None
    source = hashed(index(request.dataset, data_root(request.dataset, request.data_roots), request.classes), progress)
    tasks = settings.tasks(source, request.setting, request.splits)
    if card.kind == "semantic" and len(tasks) > 1:
        parts = ", ".join(task.part for task in tasks)
        raise UsageError(
            f"{request.dataset}, {request.setting}: {len(tasks)} models see the same test images. Score each part by "
            f"itself, with --splits or --classes: {parts}"
        )
    # every file is found, and looked at, before the first is read: what is wrong with one costs no scoring
    outputs = [
        ProgramOutput(
            request,
            task,
            match(maps, task.test, "map") if maps is not None else None,
            match(given, task.test, "score") if given is not None else None,
        )
        for task in tasks
    ]
    found = [_record(output, progress) for output in outputs]
    for record in found:
        records.write(record, request.results / record.cell.file)
    return found


def _check(request: ScoreRequest) -> None:
    if request.maps is None and request.scores is None:
        raise UsageError("nothing to score: give --maps, --scores or both. See: bench score --help")
    if request.keep_maps and request.maps is None:
        raise UsageError("--keep-maps: there are no maps to keep. Expected --maps, or image scores without --keep-maps")
    if (setting := find_setting(request.setting)) is not None and setting.chooses:
        raise UsageError(f"--setting {request.setting}: bench cannot know which images another program was trained on")
    if request.map_size is not None and not 1 <= request.map_size <= LARGEST:
        raise UsageError(f"--map-size {request.map_size}: expected 1 to {LARGEST}")
    if request.seed < 0:
        raise UsageError(f"--seed {request.seed}: expected 0 or more")
    if not _NAME.fullmatch(request.method):
        raise UsageError(f"--method '{request.method}': expected a name of letters, digits and -_.+ such as my_method")
    if request.method in METHODS.targets:
        raise UsageError(
            f"--method {request.method} is bench's own. Expected another name, such as {request.method}-official"
        )
    if request.image_score not in IMAGE_SCORES:
        raise UsageError(f"--image-score '{request.image_score}': expected one of {', '.join(IMAGE_SCORES)}")


class ProgramOutput:
    """Another program's output on the test images of one task."""

    def __init__(
        self, request: ScoreRequest, task: Task, maps: Mapping[str, MapFile] | None, scores: Mapping[str, float] | None
    ) -> None:
        """Look at every map.

        Args:
            request: what the user wants scored.
            task: gives the test images.
            maps: sample id -> map.
            scores: sample id -> image score; None where the map gives it.

        Raises:
            UsageError: a map cannot be read, or has a size of which it is not known what it covers.
        """
        self.request, self.task, self.maps, self.scores = request, task, maps, scores
        self.protocol: Protocol = COMMON
        self._sizes: set[str] = set()
        self._resized = False
        self._taken = Float64Scores()
        dtypes = [self._looked(sample, maps[sample.id]) for sample in task.test] if maps is not None else []
        self._dtype = common_dtype(dtypes) if dtypes else np.dtype(np.float32)

    def predict(self, samples: Sequence[Sample], map_wanted: bool, advance: Advance) -> Predicted:
        """Return what was written about some images; see `bench.run.scoring.Predict`."""
        side = self.protocol.eval_size
        maps: Array | None = None
        if self.maps is not None and (map_wanted or self.scores is None):
            maps = np.empty((len(samples), side, side), dtype=self._dtype)
        scores = np.empty(len(samples), dtype=np.float64)
        for place, sample in enumerate(samples):
            if maps is not None:
                maps[place] = self._map(sample)
            if self.scores is not None:
                scores[place] = self.scores[sample.id]
            elif maps is not None:
                score = IMAGE_SCORES[self.request.image_score](maps[place : place + 1])[0].item()
                scores[place] = self._taken.take(score, sample.id)
            advance(1, sample.cls)
        return maps if map_wanted else None, scores

    def _map(self, sample: Sample) -> Array:
        assert self.maps is not None
        file, side = self.maps[sample.id], self.protocol.eval_size
        values = file.read()
        return exactly(
            values if self._fits(values.shape) else to_size(values, side, file.title), self._dtype, file.title
        )

    def _fits(self, sides: tuple[int, ...]) -> bool:
        return sides == (self.protocol.eval_size, self.protocol.eval_size)

    def _looked(self, sample: Sample, file: MapFile) -> np.dtype[Any]:
        """Return the type that the map will have at the evaluation size."""
        look, side = file.look(), self.protocol.eval_size
        self._sizes.add(f"{look.width}x{look.height}")
        if self._fits((look.height, look.width)):
            return look.dtype
        self._check_size(sample, file, look, side)
        self._resized = True
        return resized_dtype(look.dtype)

    def _check_size(self, sample: Sample, file: MapFile, look: Look, side: int) -> None:
        size, chosen = (look.width, look.height), self.request.map_size
        if size == (chosen, chosen):
            return
        native = self._native(sample)
        if chosen is not None or size != native:
            wanted = f"{chosen}x{chosen} (--map-size), " if chosen is not None else ""
            advice = "" if chosen is not None else ". Maps of another size that cover the whole image: --map-size N"
            raise UsageError(
                f"{file.title}: {look.width}x{look.height}. Expected {wanted}{side}x{side}"
                f"{'' if chosen is not None else f' or its image, {native[0]}x{native[1]}'}{advice}"
            )

    def _native(self, sample: Sample) -> tuple[int, int]:
        return self.task.dataset.read_image(sample).size if sample.member else peek_size(sample.image)

    def digest(self) -> str:
        """Return the SHA-256 over ids, files and scores."""
        hashes = content(self.maps.values()) if self.maps is not None else {}
        lines = hashlib.sha256()
        for sample in self.task.test:
            file = self.maps[sample.id] if self.maps is not None else None
            parts = [sample.id, f"{hashes[file.path]}/{file.key}" if file else ""]
            parts.append(repr(self.scores[sample.id]) if self.scores is not None else "")
            lines.update("\t".join(parts).encode() + b"\n")
        return lines.hexdigest()

    def facts(self, digest: str) -> ExternalFacts:
        """Return what the record says of the files."""
        kind = "" if self.maps is None else "npz" if any(file.key for file in self.maps.values()) else "files"
        return ExternalFacts(
            files_sha256=digest,
            maps=kind,
            map_sizes=tuple(sorted(self._sizes)),
            resized=RESIZED if self._resized else "",
            image_score="given" if self.scores is not None else self.request.image_score,
        )


def _record(output: ProgramOutput, progress: Progress) -> Record:
    request, task, protocol = output.request, output.task, output.protocol
    side = protocol.eval_size
    progress.say(f"scoring {request.method} on {request.dataset} {task.part}".rstrip())
    surprises = Surprises(task.dataset.root)
    masks = scoring.read_masks(task, protocol, side, surprises)
    tell(surprises.findings(), progress.say, task.verify)
    digest = output.digest()
    watch = Stopwatch()
    metrics = tuple(dict.fromkeys((*protocol.metrics, *request.metrics)))
    own = (*metrics, *task.dataset.metrics)
    defects = read_defects(task, protocol, side, own)
    key = CellKey(
        method=request.method,
        dataset=request.dataset,
        setting=request.setting,
        seed=request.seed,
        protocol=protocol.name,
        classes=task.classes,
        part=task.part,
        fingerprint=fingerprint(
            {
                "method": request.method,
                "config": dict(request.facts),
                "files": digest,
                "image_score": output.facts(digest).image_score,
                "dataset": task.fingerprint,
                "setting": request.setting,
                "classes": sorted(task.classes),
                "part": task.part,
                "seed": request.seed,
                "protocol": protocol.identity(),
                "metrics": METRIC_VERSION,
            }
        ),
    )
    folder_of_maps = (request.results / key.file).with_suffix(".maps")
    keep = request.keep_maps or folder_of_maps.is_dir()
    with atomic_folder(folder_of_maps) if keep else nullcontext() as folder:
        scored = scoring.score(
            *(task, protocol, output.predict, masks, watch, progress),
            metrics=metrics,
            defects=defects,
            keep_maps=folder,
        )
    predictions = (request.results / key.file).with_suffix(".parquet")
    records.write_predictions(predictions, scored.rows)
    return Record(
        status="done",
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        command=request.command,
        cell=key,
        protocol=recording.protocol(protocol, metrics),
        metric_version=METRIC_VERSION,
        variant_versions=recording.versions(own),
        units=recording.units(own),
        config=dict(request.facts),
        changed=(),
        dataset=recording.dataset(task, scoring.vanished(task, masks), protocol, surprises),
        encoder=EncoderFacts(name=request.encoder, weights_sha256="", blocks=(), position="", grid=(side, side)),
        input_size=side,
        **recording.scores(scored, metrics),
        environment=environment("external", "external", torch.get_num_threads()),
        external=output.facts(digest),
        predictions=predictions.name,
        maps=folder_of_maps.name if keep else None,
    )

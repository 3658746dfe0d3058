"""A kept model applied to images of no dataset, as it was to the test images of its cell."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from pydantic import ValidationError

from bench import protocol as protocols
from bench.api import EncoderRequest, Method, Sample
from bench.encoders import frozen, weights
from bench.encoders.digest import fingerprint
from bench.encoders.frozen import FrozenEncoder
from bench.errors import StoreError, UsageError, WeightsError
from bench.machine.precision import set_precision
from bench.plan import needs
from bench.prediction.loose_images import DecodedImage, ImageGroup, decoded
from bench.protocol import Protocol
from bench.registry import METHODS
from bench.run import kept_model, recording, scoring
from bench.run.extractor import Extractor
from bench.run.kept_model import Scale
from bench.store import record as records
from bench.store.record import Record

BATCH = 16
"""Images through the networks at once, as in a run."""


@dataclass(frozen=True)
class Model:
    """A record's model, ready to be asked."""

    record: Record
    method: Method
    protocol: Protocol
    precision: str
    encoder: FrozenEncoder
    module: torch.nn.Module
    device: torch.device
    scale: Scale | None
    """Of its maps; None where it makes none."""
    input_size: int


@dataclass(frozen=True, slots=True)
class Seen:
    """What a model says of one image."""

    path: Path
    score: float | None = None
    """None where the image cannot be read, or the model's answer is no number."""
    map: npt.NDArray[np.float32] | None = None
    """[S, S]: covers the network's input."""
    picture: Image.Image | None = None
    trouble: str = ""


def model_of(path: Path, folder: Path | None, device: torch.device) -> Model:
    """Return the model of a record.

    Args:
        path: of the record.
        folder: of weights, as `bench run --weights`.
        device: where to.

    Raises:
        UsageError: the record is of a failed cell or of another program's maps, or its method is not known here.
        StoreError: record or model cannot be read, no model was kept, or the method has changed since.
        WeightsError: the encoder's weights are not at hand, or are others than the record's.
    """
    record = records.read(path)
    if record.external is not None:
        raise UsageError(f"{path} is of another program's maps, whose model bench never saw")
    if record.status != "done":
        raise UsageError(f"{path} is of a cell that failed. Run it again")
    if record.model is None:
        raise StoreError(f"{path} kept no model. {kept_model.AGAIN}")
    method = _method(record, path)
    request = method.encoder()
    size = needs.side(method, request)
    file, digest = _weights(request, record, folder)
    known = recording.encoder(request, digest) if request is not None else None
    if (known, size) != (record.encoder, record.input_size):
        raise StoreError(f"{path}: {method.name} looks at images otherwise today than it did then. {kept_model.AGAIN}")
    set_precision(record.environment.precision)
    encoder = frozen.build(request, file, size).to(device)
    module, scale = kept_model.read(record, path, method, encoder, device)
    return Model(
        record=record,
        method=method,
        protocol=_protocol(record, path),
        precision=record.environment.precision,
        encoder=encoder,
        module=module,
        device=device,
        scale=scale,
        input_size=size,
    )


def verdict(score: float | None, threshold: float | None) -> str | None:
    """Return `anomalous` of a score above a threshold, else `normal`, `unreadable` of none; None without threshold."""
    if threshold is None:
        return None
    if score is None:
        return "unreadable"
    return "anomalous" if score > threshold else "normal"


def predict(
    model: Model,
    groups: Sequence[ImageGroup],
    *,
    cls: str = "",
    maps: bool = False,
    side: int = 0,
    say: Callable[[str], None] = lambda text: None,
) -> Iterator[Seen]:
    """Yield what the model says of every image, group by group and in order; memory is bounded by a batch.

    A group's images go through the networks together, as the test images of a class do in a run, and so get the same
    bits: floating-point sums may depend on what else is in a batch.

    Args:
        model: as `model_of` returns it.
        groups: images; those that cannot be read are yielded with their trouble.
        cls: the class of all of them, for methods that need to know.
        maps: whether maps come along.
        side: longest side of the picture that comes along; 0 for none.
        say: told where memory does not suffice for a batch.

    Raises:
        UsageError: the method needs the images' class.
        ExhaustedError: memory does not suffice for one image.
    """
    if "classes" in model.method.needs and not cls:
        known = ", ".join(model.record.cell.classes)
        raise UsageError(f"{model.method.name} has to know the class of its images. Expected --class, one of: {known}")
    pixels = _Pixels(model.input_size)
    extract = Extractor(model.method, model.encoder, pixels, model.device, say)
    ask = scoring.predictor(model, extract, model.module, BATCH)
    resize = model.protocol.resize_for(model.input_size)
    for group in groups:
        waiting: list[DecodedImage] = []
        for image in decoded(group.files, resize, model.input_size, side):
            waiting.append(image)
            if sum(not one.trouble for one in waiting) == BATCH:
                yield from _batch(waiting, ask, pixels, cls, maps)
                waiting = []
        yield from _batch(waiting, ask, pixels, cls, maps)


def _batch(
    images: Sequence[DecodedImage], ask: scoring.Predict, pixels: _Pixels, cls: str, maps_wanted: bool
) -> Iterator[Seen]:
    readable = [image for image in images if image.pixels is not None]
    samples = [Sample(f"{place}", cls, "test", 0, "", image.path) for place, image in enumerate(readable)]
    pixels.now = {sample.id: image.pixels for sample, image in zip(samples, readable, strict=True)}
    maps, scores = ask(samples, maps_wanted, lambda units, note: None) if samples else (None, np.empty(0))
    row = 0
    for image in images:
        if image.pixels is None:
            yield Seen(image.path, trouble=image.trouble)
            continue
        score = float(scores[row])
        if math.isfinite(score):
            yield Seen(image.path, score, None if maps is None else maps[row], image.picture)
        else:
            yield Seen(image.path, trouble=f"{image.path}: the model's score is {score}, which ranks with none")
        row += 1


class _Pixels:
    """The pixels of the batch at hand; see `bench.run.device_pixels.PixelSource`."""

    def __init__(self, crop: int) -> None:
        self.crop = crop
        self.now: dict[str, npt.NDArray[np.uint8] | None] = {}

    def batch(self, samples: Sequence[Sample], out: npt.NDArray[np.uint8]) -> None:
        for row, sample in zip(out, samples, strict=True):
            row[:] = self.now[sample.id]


def _method(record: Record, path: Path) -> Method:
    kind = METHODS.load(record.cell.method)
    why = "it has other settings today than it had then"
    for values in _readings(kind, record.config):
        try:
            method = kind(kind.Config.model_validate(values))
        except ValidationError as error:
            first = error.errors()[0]
            why = ": ".join(filter(None, (".".join(str(part) for part in first["loc"]), first["msg"])))
            continue
        if method.config.model_dump(mode="json") == record.config:
            return method
    raise StoreError(f"{path} is of another version of {kind.name}: {why}. {kept_model.AGAIN}")


def _readings(kind: type[Method], recorded: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """Yield values that may have made a recorded configuration, which holds all settings, given or not.

    Of two of which one only may be given (steps, or epochs), the other stands there with its default.
    """
    yield recorded
    for name, field in kind.Config.model_fields.items():
        if name in recorded and recorded[name] == field.default:
            yield {key: value for key, value in recorded.items() if key != name}


def _protocol(record: Record, path: Path) -> Protocol:
    try:
        return protocols.from_facts(record.protocol.rules, record.protocol.metrics)
    except ValueError as error:
        raise StoreError(
            f"{path}: protocol {record.protocol.name} v{record.protocol.version} is not known here"
        ) from error


def _weights(request: EncoderRequest | None, record: Record, folder: Path | None) -> tuple[Path | None, str]:
    if request is None:
        return None, ""
    file = weights.locate(request.name, folder)
    digest, (_, wanted) = fingerprint(file), record.encoder_id
    if digest != wanted:
        raise WeightsError(
            f"{file} is not the file that the record was made with: its SHA-256 is {digest}. Expected {wanted}; name "
            "the folder of that one with --weights"
        )
    weights.look(file, request.name)
    return file, digest

"""The header of a safetensors file: which tensors it holds, proved against its size before a byte of them is read.

Layout (https://github.com/huggingface/safetensors): eight bytes with the header's length, little-endian; the header,
JSON: name -> dtype, shape, data_offsets; then the tensors' bytes, without gaps.
"""

from __future__ import annotations

import json
import os
from math import prod
from pathlib import Path
from typing import Any, TypeGuard

import torch
from torch import Tensor

from bench import regular
from bench.errors import WeightsError

LONGEST = 10_000_000
"""Bytes of a header: more than 50,000 tensors, and not more than a small machine reads. The format allows 100 MB."""
DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}
"""Types of numbers that weights come in; 8-bit and smaller floats are made for other uses."""

_NOT_THE_FILE = (
    (b"version https://git-lfs", "a git-LFS pointer, not the file it stands for. Fetch that with: git lfs pull"),
    (b"<!doctype html", "an HTML page, such as a site's answer in place of the file. Download the file again"),
    (b"<html", "an HTML page, such as a site's answer in place of the file. Download the file again"),
    (b"pk\x03\x04", "a PyTorch checkpoint. Make a safetensors file of it with: bench weights convert"),
    (b"\x80", "a PyTorch checkpoint. Make a safetensors file of it with: bench weights convert"),
)
"""What lies under a weights file's name instead: how it begins in lower case, and what to do."""


def read(path: Path) -> dict[str, Tensor]:
    """Return the file's tensors on the meta device, shapes and types alone.

    Raises:
        WeightsError: no safetensors file, one that was cut off, or one whose header does not fit its size.
    """
    try:
        with regular.opened(path) as file:
            size = os.fstat(file.fileno()).st_size
            start = file.read(512)
            length = int.from_bytes(start[:8], "little")
            if len(start) < 8 or not 2 <= length <= min(LONGEST, size - 8) or start[8:9] != b"{":
                raise WeightsError(f"{path} is {_what(start, size)}")
            file.seek(8)
            text = file.read(length)
    except OSError as error:
        raise WeightsError(
            f"cannot read weights {path}: {error.strerror or error}. Expected a safetensors file"
        ) from error
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise WeightsError(f"{path} is no safetensors file: its header is no JSON ({error})") from error
    if not isinstance(found, dict):
        raise WeightsError(f"{path} is no safetensors file: its header is {type(found).__name__}, expected tensors")
    found.pop("__metadata__", None)
    tensors: dict[str, Tensor] = {}
    spans: list[tuple[int, int]] = []
    for name, entry in found.items():
        try:
            tensors[name], span = _tensor(entry)
        except ValueError as error:
            raise WeightsError(f"{path}: tensor {name}: {error}") from error
        spans.append(span)
    held, end = size - 8 - length, max((end for _, end in spans), default=0)
    if end > held:
        raise WeightsError(
            f"{path} was cut off: its tensors take {end:,} bytes and {held:,} are there. Download or copy it again"
        )
    reached = 0
    for begin, end in sorted(spans):
        if begin != reached:
            raise WeightsError(f"{path}: its header names bytes {begin:,} after {reached:,}. Expected tensors in a row")
        reached = end
    if reached != held:
        raise WeightsError(f"{path}: {held - reached:,} bytes behind its tensors. Expected none")
    return tensors


def _tensor(entry: Any) -> tuple[Tensor, tuple[int, int]]:
    """Return a tensor and its place among the bytes. Raises ValueError where the header's entry is none."""
    facts: dict[str, Any] = entry if isinstance(entry, dict) else {}
    kind, shape, offsets = (facts.get(key) for key in ("dtype", "shape", "data_offsets"))
    if not isinstance(kind, str) or not _counts(shape) or not _counts(offsets) or len(offsets) != 2:
        raise ValueError("expected dtype, shape and data_offsets")
    if kind not in DTYPES:
        raise ValueError(f"numbers of type {kind}. Expected one of {', '.join(DTYPES)}")
    begin, end = offsets
    need = prod(shape) * DTYPES[kind].itemsize
    if end - begin != need:
        raise ValueError(f"{end - begin:,} bytes for shape {shape} of {kind}. Expected {need:,}")
    return torch.empty(shape, dtype=DTYPES[kind], device="meta"), (begin, end)


def _counts(value: Any) -> TypeGuard[list[int]]:
    return isinstance(value, list) and all(type(one) is int and 0 <= one < 2**48 for one in value)


def _what(start: bytes, size: int) -> str:
    if not size:
        return "empty. Expected a safetensors file"
    begins = start.lstrip().lower()
    for beginning, what in _NOT_THE_FILE:
        if begins.startswith(beginning):
            return what
    return f"no safetensors file: its header cannot be found in {size:,} bytes. Download or copy it again"

"""Checkpoints: what a training needs to go on, followed by the SHA-256 of it all, so that no damaged byte is used."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any, cast

import torch

from bench import regular
from bench.errors import StoreError
from bench.files import atomic

_DIGEST_BYTES = hashlib.sha256().digest_size


class _Hashed(io.RawIOBase):
    """Writes to a file and hashes what passes, since a checkpoint of hundreds of MiB is not to be kept in memory."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self.sha256 = hashlib.sha256()

    def write(self, data: Any) -> int:
        self.sha256.update(data)
        return self._file.write(data)


def write(path: Path, state: Mapping[str, Any]) -> None:
    """Write tensors and plain values so that `path` is never half a file. Raises UnwritableError."""
    with atomic(path) as file:
        hashed = _Hashed(file)
        try:
            torch.save(dict(state), cast("IO[bytes]", hashed))
        except RuntimeError as error:
            # torch reports a full disk as an error of its own, raised while it handles the real one
            if isinstance(error.__context__, OSError):
                raise error.__context__ from None
            raise
        file.write(hashed.sha256.digest())


def read(path: Path) -> dict[str, Any] | None:
    """Return what was written, on the CPU; None where there is no checkpoint. Executes no code from the file.

    Raises:
        StoreError: the file is not what was written: cut off, changed since, or made by something else.
    """
    try:
        with regular.opened(path) as file:
            size = path.stat().st_size - _DIGEST_BYTES
            if size < 0 or _sha256(file, size) != file.read():
                raise StoreError(f"checkpoint {path.name} is damaged: its content does not fit its SHA-256")
            file.seek(0)
            state: dict[str, Any] = torch.load(file, map_location="cpu", weights_only=True)
            return state
    except FileNotFoundError:
        return None
    except StoreError:
        raise
    except OSError as error:
        raise StoreError(f"checkpoint {path.name} cannot be read: {error.strerror or error}") from error
    except Exception as error:  # a file with its checksum that bench did not write: torch raises what its bytes suggest
        why = str(error).partition("\n")[0] or type(error).__name__
        raise StoreError(f"checkpoint {path.name} is refused: {why}. Expected tensors and plain values") from error


def _sha256(file: IO[bytes], size: int) -> bytes:
    """Return the digest of the file's first `size` bytes, and leave its position behind them."""
    digest = hashlib.sha256()
    while size and (block := file.read(min(size, 1 << 20))):
        digest.update(block)
        size -= len(block)
    return digest.digest()

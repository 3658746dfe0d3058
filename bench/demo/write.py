"""Writing of the generated dataset, and the comparison with what every machine draws.

`python -m bench.demo.write` draws the whole set and states its sums in `files.sha256`: after a change of the pictures.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

from bench.errors import DatasetError

from .contents import SEED, SUMS, VERSION, known_sums, pictures, whole

MARKER = "demo.json"
_STALE_SECONDS = 3600


def generate(root: Path, counts: Mapping[str, tuple[int, int, int]] | None = None) -> None:
    """Write the set to `root` unless something is there already; several processes may do so at once.

    The files are written to a hidden folder beside `root`, which is then renamed: `root` is complete or absent. Where
    files have other bytes than they have elsewhere, the first is named on stderr.

    Args:
        root: folder to make; its parents are made, too.
        counts: class -> (train, good, pictures of each kind of defect); the whole set where None.

    Raises:
        DatasetError: the folder cannot be written.
    """
    if root.is_dir() and any(root.iterdir()):
        return
    try:
        root.parent.mkdir(parents=True, exist_ok=True)
        _sweep(root)
        draft = Path(tempfile.mkdtemp(prefix=f".{root.name}.", suffix=".part", dir=root.parent))
    except OSError as error:
        raise DatasetError(
            f"demo: cannot write to {root.parent} ({error.strerror}). Expected a writable folder: name another with "
            f"--data-root, or set BENCH_CACHE."
        ) from error
    try:
        drawn = _write(draft, counts or whole())
        draft.chmod(0o755)
        draft.replace(root)
    except OSError as error:
        if not (root / MARKER).is_file():
            raise DatasetError(f"demo: writing {root} failed ({error.strerror}). Is the disk full?") from error
        return
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    known = known_sums()
    others = [file for file, digest in drawn.items() if known.get(file, digest) != digest]
    if others:
        print(
            f"demo: this machine draws other pictures than the published ones: {others[0]} is the first of "
            f"{len(others)} files, of {len(drawn)}, that differ. Scores on them compare with none that were recorded "
            f"elsewhere. List all with: bench data verify demo --root {root}",
            file=sys.stderr,
        )


def _write(root: Path, counts: Mapping[str, tuple[int, int, int]]) -> dict[str, str]:
    """Draw and write the pictures asked for, and return each file's SHA-256 by its place below `root`."""
    import numpy as np
    from rich.console import Console
    from rich.progress import Progress

    from . import shots
    from .png import encode

    drawn: dict[str, str] = {}

    def save(file: str, data: bytes) -> None:
        path = root / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        drawn[file] = hashlib.sha256(data).hexdigest()

    todo = [picture for cls, numbers in counts.items() for picture in pictures(cls, *numbers)]
    with Progress(console=Console(stderr=True), transient=True) as progress:
        for picture in progress.track(todo, description="drawing the demo dataset"):
            shot = shots.shoot(picture)
            save(picture.image, encode(shot.image))
            if picture.mask:
                save(picture.mask, encode(shot.mask.astype(np.uint8) * np.uint8(255)))
    about = {"dataset": "demo", "version": VERSION, "seed": SEED, "images": len(todo)}
    (root / MARKER).write_text(json.dumps(about) + "\n", encoding="utf-8")
    return drawn


def _sweep(root: Path) -> None:
    """Remove what killed runs left behind; a draft that is still being written is younger than the limit."""
    for draft in root.parent.glob(f".{root.name}.*.part"):
        try:
            stale = time.time() - draft.stat().st_mtime > _STALE_SECONDS
        except FileNotFoundError:
            continue
        if stale:
            shutil.rmtree(draft, ignore_errors=True)


def _state_sums() -> None:
    with tempfile.TemporaryDirectory() as folder:
        drawn = _write(Path(folder), whole())
    SUMS.write_text("".join(f"{digest}  {file}\n" for file, digest in drawn.items()), encoding="utf-8")
    print(f"wrote {SUMS}: {len(drawn)} files")


if __name__ == "__main__":
    _state_sums()

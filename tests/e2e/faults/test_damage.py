"""Fault 5: files that were cut off, changed in a bit or edited are recognised by their checksums, redone, and said."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from signal import SIGKILL
from typing import Any

import pytest


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def edit(path: Path) -> None:
    """Better the record's scores, as JSON that fits the schema."""
    record = json.loads(path.read_text())
    record["mean"]["image/auroc"] = 0.999
    path.write_text(json.dumps(record, indent=1))


@pytest.mark.parametrize("damage", [cut, flip, edit])
def test_a_damaged_record_is_said_and_redone(
    warm: Any, sweep: Callable, outcome: Callable, tmp_path: Path, damage: Callable[[Path], None]
) -> None:
    results = tmp_path / "results"
    assert warm.run(*sweep(results)).code == 0
    want = outcome(results)
    (path,) = results.rglob("s0*.json")
    damage(path)
    done = warm.run(*sweep(results))
    assert done.code == 0 and f"{path}" in done.text.partition("cells:")[0] and "run the cell again" in done.text
    assert "1 to do, 0 done" in done.text
    assert outcome(results) == want


def killed(warm: Any, sweep: Callable, results: Path) -> Path:
    """Return the checkpoint of a training that was killed after it had written one."""
    job = warm.start(*sweep(results), TRIPWIRE='{"slow_step_ms": 50}')
    job.until(lambda: bool(list(results.rglob("s0*.ckpt"))))
    job.kill()
    assert job.wait() == -SIGKILL
    (checkpoint,) = results.rglob("s0*.ckpt")
    return checkpoint


@pytest.mark.parametrize("damage", [cut, flip])
def test_a_damaged_checkpoint_is_said_and_the_training_starts_again(
    warm: Any, sweep: Callable, outcome: Callable, undisturbed: Callable, tmp_path: Path, damage: Callable[[Path], None]
) -> None:
    want = undisturbed()
    results = tmp_path / "results"
    checkpoint = killed(warm, sweep, results)
    damage(checkpoint)
    done = warm.run(*sweep(results))
    assert done.code == 0 and f"checkpoint {checkpoint.name} is damaged" in done.text and "SHA-256" in done.text
    assert "resumed" not in done.text and outcome(results) == want


def test_a_checkpoint_of_another_version_fails_once_and_not_for_ever(
    warm: Any, sweep: Callable, outcome: Callable, undisturbed: Callable, tmp_path: Path
) -> None:
    from bench.store import checkpoint

    want = undisturbed()
    results = tmp_path / "results"
    path = killed(warm, sweep, results)
    state = checkpoint.read(path)
    assert state is not None
    state["module"]["renamed"] = state["module"].pop("0.weight")
    checkpoint.write(path, state)
    done = warm.run(*sweep(results))
    assert done.code == 1 and "is of another version of the method" in done.text and "Traceback" not in done.text
    done = warm.run(*sweep(results))
    assert done.code == 0 and outcome(results) == want


def test_damaged_pixels_are_said_and_decoded_again(
    warm: Any, sweep: Callable, outcome: Callable, undisturbed: Callable, tmp_path: Path
) -> None:
    want = undisturbed()
    cache = tmp_path / "cache"
    assert warm.run(*sweep(tmp_path / "first"), BENCH_CACHE=str(cache)).code == 0
    pixels = sorted(path for path in (cache / "pixels").rglob("*") if path.is_file())
    assert len(pixels) == 20
    whole = {path: path.read_bytes() for path in pixels}
    cut(pixels[0])
    flip(pixels[1])
    done = warm.run(*sweep(tmp_path / "second"), BENCH_CACHE=str(cache))
    assert done.code == 0 and done.text.count("is damaged: its image is decoded again") == 2
    assert all(f"{path} is damaged" in done.text for path in pixels[:2])
    assert outcome(tmp_path / "second") == want
    assert {path: path.read_bytes() for path in pixels} == whole


def test_a_damaged_memory_of_hashes_is_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import sqlite3

    from bench.loading import hashes

    monkeypatch.setenv("BENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(hashes, "SETTLED_SECONDS", 0.0)
    file = tmp_path / "file"
    file.write_bytes(b"content")
    want = hashes.content_hashes([file])
    with sqlite3.connect(tmp_path / "cache" / "hashes.sqlite") as index:
        (entry,) = index.execute("SELECT sha FROM files").fetchone()
        for wrong in (entry.replace(entry[0], "f" if entry[0] != "f" else "0", 1), entry[:20], "", 7):
            index.execute("UPDATE files SET sha = ?", (wrong,))
            index.commit()
            assert hashes.content_hashes([file]) == want


def test_damaged_kernels_are_said_and_compiled_again(tmp_path: Path, private_cache: Path) -> None:
    import shutil

    import bench.metrics.kernels  # noqa: F401 - compiled into the cache of these tests, if they were not before

    if not list((private_cache / "kernels").glob("*/*.nbc")):
        pytest.skip("kernels are kept in another place (NUMBA_CACHE_DIR)")
    shutil.copytree(private_cache / "kernels", tmp_path / "kernels")
    data, index = (sorted((tmp_path / "kernels").glob(f"*/*sort*.{kind}"))[0] for kind in ("nbc", "nbi"))
    flip(data)
    cut(index)
    code = "import numpy as np; from bench.metrics import kernels as k; print(k.sort(np.arange(9, dtype=np.int32)[::-1]"
    code += ".copy(), False, 0, 4)[0].tolist())"
    call = [sys.executable, "-c", code]
    environment = {"BENCH_CACHE": str(tmp_path), "PATH": "", "HOME": str(tmp_path)}
    done = [subprocess.run(call, capture_output=True, text=True, env=environment) for _ in range(2)]
    assert done[0].stdout == done[1].stdout == "[0, 1, 2, 3, 4, 5, 6, 7, 8]\n", done[0].stderr + done[1].stderr
    assert f"{data} is damaged" in done[0].stderr and f"{index} is damaged" in done[0].stderr
    assert done[1].stderr == ""


def test_a_damaged_table_of_image_scores_is_said(warm: Any, sweep: Callable, tmp_path: Path) -> None:
    import pyarrow as pa

    from bench.store.evidence import Lacking, _read_images

    assert warm.run(*sweep(tmp_path / "results")).code == 0
    (table,) = (tmp_path / "results").rglob("*.parquet")
    whole = table.read_bytes()
    assert pa is not None and len(_read_images(table)) == 2
    flipped = 0
    for place in range(8, len(whole) // 2, 97):
        table.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        try:
            _read_images(table)
        except Lacking:
            flipped += 1
    assert flipped, "no flipped bit was noticed"

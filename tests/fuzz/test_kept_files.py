"""What bench keeps for itself and somebody else may have touched: caches, and what lies beside a record."""

from __future__ import annotations

import io
import json
import os
import sqlite3
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hostile import anything, cases, damaged, names, survives
from hypothesis import given
from hypothesis import strategies as st
from made_records import made
from PIL import Image

from bench.api import Card, Dataset, Sample
from bench.loading import hashes
from bench.loading.pixel_cache import PixelCache
from bench.protocol import COMMON
from bench.store import record as records
from bench.store.evidence import EvidenceFiles, Lacking


class One(Dataset):
    card = Card("one", "One", "industrial", ("a",), {}, "none", "none", "none", "none")

    @classmethod
    def locate(cls, data_root: Path | None) -> Path:
        raise NotImplementedError

    def samples(self) -> tuple[Sample, ...]:
        return (Sample("a/1", "a", "train", 0, "good", self.root / "image.png"),)


@cases(120)
@given(data=st.data())
def test_pixels_from_a_damaged_cache_are_those_of_the_image(home: Path, data: st.DataObject) -> None:
    path = home / "image.png"
    if not path.exists():
        Image.fromarray(np.random.default_rng(0).integers(0, 256, (9, 9, 3), dtype=np.uint8)).save(path)
    (sample,) = One(home).samples()
    cache = PixelCache(One(home), {path: hashes.sha256(path)}, 8, 8, home / "cache")
    wanted = cache.read(sample).copy()
    (entry,) = (file for file in (home / "cache").rglob("*") if file.is_file())
    whole = entry.read_bytes()
    entry.write_bytes(data.draw(damaged(whole)))
    found = survives("pixel cache", lambda: cache.read(sample), home)
    assert found is not None and np.array_equal(found, wanted)
    assert entry.read_bytes() == whole, "it is mended"


def test_a_cache_file_of_terabytes_is_not_read(home: Path) -> None:
    test = One(home)
    Image.new("RGB", (9, 9)).save(home / "image.png")
    (sample,) = test.samples()
    cache = PixelCache(test, {sample.image: hashes.sha256(sample.image)}, 8, 8, home / "cache")
    cache.read(sample)
    (entry,) = (file for file in (home / "cache").rglob("*") if file.is_file())
    os.truncate(entry, 1 << 40)
    assert survives("pixel cache", lambda: cache.read(sample), home, memory=1 << 26) is not None


@cases(60)
@given(data=st.data())
def test_hashes_from_a_damaged_index_are_those_of_the_files(
    home: Path, monkeypatch: pytest.MonkeyPatch, data: st.DataObject
) -> None:
    monkeypatch.setenv("BENCH_CACHE", str(home / "cache"))
    monkeypatch.setattr(hashes, "SETTLED_SECONDS", -10.0)
    files = [home / name for name in "ab"]
    for path in files:
        path.write_text(path.name)
    wanted = hashes.content_hashes(files)
    index = home / "cache" / "hashes.sqlite"
    index.write_bytes(data.draw(damaged(index.read_bytes())))
    try:
        found = survives("hash index", lambda: hashes.content_hashes(files), home)
        assert found == wanted
    finally:
        for path in (home / "cache").iterdir():
            path.unlink()


@cases(30)
@given(
    rows=st.lists(
        st.tuples(
            st.sampled_from(["k", "", "x" * 99]),
            st.none() | st.integers(-9, 9) | st.binary(max_size=4) | st.text(max_size=4),
        ),
        max_size=3,
        unique_by=lambda row: row[0],
    )
)
def test_an_index_of_other_columns_and_values(
    home: Path, monkeypatch: pytest.MonkeyPatch, rows: list[tuple[str, Any]]
) -> None:
    monkeypatch.setenv("BENCH_CACHE", str(home / "cache"))
    (home / "cache").mkdir(exist_ok=True)
    (home / "a").write_text("a")
    index = home / "cache" / "hashes.sqlite"
    index.unlink(missing_ok=True)
    with sqlite3.connect(index) as made_up:
        made_up.execute("CREATE TABLE files (key, sha)")
        key = hashes._key(home / "a")
        values = [(key if name == "k" else name, value) for name, value in rows]
        made_up.executemany("INSERT INTO files VALUES (?, ?)", [v for v in values if not _lone(v[1])])
    made_up.close()
    found = survives("hash index", lambda: hashes.content_hashes([home / "a"]), home)
    assert found == {home / "a": hashes.sha256(home / "a")}


def _lone(value: object) -> bool:
    return isinstance(value, str) and any("\ud800" <= letter <= "\udfff" for letter in value)


# ------------------------------------------------------------------------------------------------ beside a record
SIDE = COMMON.eval_size
ROWS = {
    "id": [f"bottle/{n}" for n in range(6)],
    "class": ["bottle"] * 6,
    "defect": ["good"] * 3 + ["cut"] * 3,
    "label": [0, 0, 0, 1, 1, 1],
    "score": [0.1, 0.2, 0.3, 0.4, 0.8, 0.9],
}


MAPS = np.zeros((6, SIDE, SIDE), np.float32)


def saved(values: np.ndarray) -> bytes:
    out = io.BytesIO()
    np.save(out, values, allow_pickle=True)
    return out.getvalue()


def beside(home: Path) -> tuple[EvidenceFiles, Any]:
    record = made(levels={"bottle": 1.0}).model_copy(update={"predictions": "s0.parquet", "maps": "s0.maps"})
    (home / "s0.maps").mkdir(exist_ok=True)
    return EvidenceFiles([home]), record


def looked_at(evidence: EvidenceFiles, record: Any) -> None:
    try:
        images = evidence.images(record)
        assert set(images) <= set(map(str, images))
        maps = evidence.maps(record, "bottle")
        assert maps.shape[0] == len(images["bottle"].ids) and np.asarray(maps[:1]).dtype.kind in "fiu"
    except Lacking as why:
        assert str(why)


@cases(80)
@given(data=st.data())
def test_damaged_image_scores(home: Path, data: st.DataObject) -> None:
    evidence, record = beside(home)
    records.write_predictions(home / "s0.parquet", ROWS)
    path = home / "s0.parquet"
    path.write_bytes(data.draw(damaged(path.read_bytes())))
    survives("image scores", lambda: looked_at(evidence, record), home)


columns = st.one_of(
    st.sampled_from(
        [[1] * 6, [0.5] * 6, [None] * 6, [float("nan")] * 6, [2**62] * 6, [[1]] * 6, [{"a": 1}] * 6, [b"x"] * 6]
    ),
    st.lists(names, min_size=6, max_size=6),
    st.lists(st.integers(-(2**63), 2**63 - 1), min_size=6, max_size=6),
)


@cases(150)
@given(
    changed=st.dictionaries(st.sampled_from([*ROWS, "more"]), columns, max_size=2), drop=st.sampled_from([None, *ROWS])
)
def test_image_scores_of_other_types(home: Path, changed: dict[str, list[Any]], drop: str | None) -> None:
    evidence, record = beside(home)
    (home / "s0.maps" / "bottle.npy").write_bytes(saved(MAPS))
    table = {name: values for name, values in (ROWS | changed).items() if name != drop}
    try:
        records.write_predictions(home / "s0.parquet", table)
    except UnicodeEncodeError:
        return  # Parquet cannot hold these names
    survives("image scores", lambda: looked_at(evidence, record), home)


@pytest.mark.parametrize(
    "values",
    [MAPS.astype(np.complex64), MAPS[:5], MAPS[:, 0], MAPS[:0], MAPS[:, :, 1:], np.array("x")],
    ids=["complex", "too few", "flat", "none", "not square", "text"],
)
def test_maps_that_are_not_those_of_the_images(home: Path, values: np.ndarray) -> None:
    evidence, record = beside(home)
    records.write_predictions(home / "s0.parquet", ROWS)
    (home / "s0.maps" / "bottle.npy").write_bytes(saved(values))
    with pytest.raises(Lacking, match=r"bottle\.npy (holds|cannot be read)"):
        evidence.maps(record, "bottle")


def test_a_map_whose_header_is_said_to_have_gigabytes_is_not_read(home: Path) -> None:
    evidence, record = beside(home)
    records.write_predictions(home / "s0.parquet", ROWS)
    with (home / "s0.maps" / "bottle.npy").open("wb") as file:
        file.write(b"\x93NUMPY\x02\x00" + (1 << 30).to_bytes(4, "little"))
        file.truncate(1 << 31)  # takes no room on the disk

    def use() -> None:
        with pytest.raises(Lacking, match="its header has 1,073,741,824 bytes"):
            evidence.maps(record, "bottle")

    survives("kept maps", use, home, memory=1 << 27)


@cases(80)
@given(content=damaged(saved(MAPS), saved(MAPS.astype(np.float64)), saved(MAPS[0]), saved(np.array([{}], object))))
def test_damaged_maps(home: Path, content: bytes) -> None:
    evidence, record = beside(home)
    records.write_predictions(home / "s0.parquet", ROWS)
    (home / "s0.maps" / "bottle.npy").write_bytes(content)
    survives("kept maps", lambda: looked_at(evidence, record), home)


# -------------------------------------------------------------------------------------------------- download notes
@cases(80)
@given(
    note=damaged(json.dumps({"url": "http://x/y", "version": '"e"'}).encode())
    | anything.map(json.dumps).map(str.encode)
)
def test_notes_of_a_broken_download(home: Path, note: bytes) -> None:
    from bench.api import Download
    from bench.curate.download import _Transfer

    (home / ".y.part").write_bytes(b"begun")
    (home / ".y.part.json").write_bytes(note)
    start, version = survives("download note", _Transfer(Download("http://x/y"), home / ".y.part")._begun, home) or (
        0,
        "",
    )
    assert isinstance(start, int) and isinstance(version, str)

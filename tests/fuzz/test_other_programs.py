"""What another program wrote: anomaly maps, tables of image scores, saved timings, published tables."""

from __future__ import annotations

import io
import json
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hostile import NAMES, bent, cases, damaged, names, survives
from hypothesis import given
from hypothesis import strategies as st
from made_tiffs import tiff
from PIL import Image

from bench.api import Sample
from bench.checks import speed
from bench.external.map_files import MapFile
from bench.external.submission import find_maps, match, read_scores
from bench.published.read import files
from bench.published.read import read as read_published

MAP = np.random.default_rng(0).normal(size=(6, 5)).astype(np.float32)


def npy(values: np.ndarray, pickled: bool = False) -> bytes:
    out = io.BytesIO()
    np.save(out, values, allow_pickle=pickled)
    return out.getvalue()


def npz(*keys: str, packed: bool = False) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED if packed else zipfile.ZIP_STORED) as archive:
        for key in keys:
            archive.writestr(f"{key}.npy", npy(MAP))
    return out.getvalue()


def pictured() -> bytes:
    out = io.BytesIO()
    Image.fromarray(MAP, "F").save(out, "TIFF")
    return out.getvalue()


@cases(200)
@given(kind=st.sampled_from([".npy", ".npz", ".tiff", ".png"]), data=st.data())
def test_maps(home: Path, kind: str, data: st.DataObject) -> None:
    whole = [npy(MAP), npy(MAP.astype(np.int16)), npz("a", "b"), npz("a", packed=True), pictured()]
    whole += [tiff(MAP.astype(kind), order, 2, t259=packed) for kind, order, packed in (("f8", "<", 1), ("i4", ">", 8))]
    path = home / f"map{kind}"
    path.write_bytes(data.draw(damaged(*whole)))

    def use() -> None:
        for file in find_maps(path).values() if kind == ".npz" else [MapFile(path)]:
            found, look = file.read(), file.look()
            assert (found.dtype, *found.shape) == (look.dtype, look.height, look.width)

    survives("map", use, home)


@cases(150)
@given(data=st.data())
def test_arrays_with_any_header(home: Path, canary: Path, data: st.DataObject) -> None:
    sizes = st.lists(st.sampled_from([0, 1, 5, 6, -1, 2**31, 2**62, 10**30, "x", None, True]), max_size=4)
    shape = data.draw(st.sampled_from([[6, 5], [1, 6, 5], [6, 5, 1]]) | sizes)
    kind = data.draw(
        st.sampled_from(
            ["<f4", "|O", "<f8", "|V999999999", "<U9", "<M8[s]", "f4,O", "(9999,9999)f4", ">f2", "c16", "?"]
        )
        | st.text(max_size=6)
    )
    code = data.draw(
        st.sampled_from(["", "", "", f"__import__('os').system('touch {canary}')", "1/0", "[" * 999, "9" * 5000])
    )
    order = data.draw(st.sampled_from([True, False, 0, "x"]))
    sides = "".join(f"{side!r}, " for side in shape)
    text = f"{{'descr': {kind!a}, 'fortran_order': {order!r}, 'shape': ({sides}), }}"
    head = (code or text).encode() + b"\n"
    version = data.draw(st.sampled_from([(1, 0), (2, 0), (3, 0), (9, 9), (0, 0)]))
    length = len(head).to_bytes(2 if version == (1, 0) else 4, "little")
    path = home / "map.npy"
    path.write_bytes(
        b"\x93NUMPY" + bytes(version) + length + head + bytes(data.draw(st.sampled_from([0, 30, 60, 120, 240])))
    )
    survives("array header", MapFile(path).read, home, memory=1 << 28)


def test_pickled_arrays_and_packed_bombs_are_refused(home: Path, canary: Path) -> None:
    class Call:
        def __reduce__(self) -> tuple[object, tuple[str, str]]:
            return open, (str(canary), "w")

    (home / "a.npy").write_bytes(npy(np.array([[Call()]], object), pickled=True))
    assert survives("map", MapFile(home / "a.npy").read, home) is None
    with zipfile.ZipFile(home / "bomb.npz", "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        archive.writestr("a.npy", npy(MAP) + bytes(1 << 28))
    assert survives("map", MapFile(home / "bomb.npz").read, home, memory=1 << 27) is None


SCORES = "id,score\n" + "".join(f"bottle/test/good/{number:03},{number / 7}\n" for number in range(9))
SAMPLES = [Sample(f"bottle/test/good/{n:03}", "bottle", "test", 0, "good", Path(f"/x/{n:03}.png")) for n in range(9)]


@cases(200)
@given(content=damaged(SCORES.encode(), b"\xef\xbb\xbf" + SCORES.replace("\n", "\r\n").encode()))
def test_tables_of_scores(home: Path, content: bytes) -> None:
    path = home / "scores.csv"
    path.write_bytes(content)
    found = survives("score table", lambda: read_scores(path), home)
    if found:
        assert np.isfinite(list(found.values())).all()
        survives("score table", lambda: match(found, SAMPLES, "score"), home)


@cases(100)
@given(rows=st.lists(st.tuples(names, names | st.sampled_from(["1", "nan", "1e999", "0x1", "١"])), max_size=5))
def test_tables_of_strange_names(home: Path, rows: list[tuple[str, str]]) -> None:
    path = home / "scores.csv"
    text = "id,score\n" + "".join(f"{name},{value}\n" for name, value in rows)
    path.write_bytes(text.encode("utf-8", "surrogatepass"))
    found = survives("score table", lambda: read_scores(path), home)
    if found:
        survives("score table", lambda: match(found, SAMPLES, "score"), home)


@cases(40)
@given(keys=st.lists(names, min_size=1, max_size=4))
def test_archives_of_strangely_named_maps(home: Path, keys: list[str]) -> None:
    path = home / "maps.npz"
    with zipfile.ZipFile(path, "w") as archive:
        for key in keys:
            # what zipfile itself writes no archive of
            archive.writestr(f"{key.encode('utf-8', 'replace').decode().replace(chr(0), '_')}.npy", npy(MAP))

    def use() -> None:
        found = find_maps(path)
        for file in found.values():
            file.read()
        match(found, SAMPLES, "map")

    survives("map", use, home)


# ------------------------------------------------------------------------------------------------- timings, tables
RUN = {
    "machine_info": {"cpu": "x"},
    "benchmarks": [
        {"fullname": "tests/perf/test_calibration.py::test_calibration", "stats": {"min": 0.01, "mean": 1.0}},
        {"fullname": "t.py::a", "stats": {"min": 0.1}},
    ],
}


@cases(200)
@given(data=bent(RUN) | damaged(json.dumps(RUN).encode()))
def test_saved_timings(home: Path, data: object) -> None:
    (home / "good.json").write_text(json.dumps(RUN))
    path = home / "run.json"
    path.write_bytes(data if isinstance(data, bytes) else json.dumps(data).encode())
    survives("saved timings", lambda: speed.read(path), home)
    survives("saved timings", lambda: speed.check(home / "good.json", path), home)
    survives("saved timings", lambda: speed.check(path, home / "good.json"), home)
    survives("saved timings", lambda: speed.write(path, home / "baselines"), home)


@pytest.mark.parametrize("value", ["9" * 400, "1e308", "5e-324", "-1", "true", "1e999", "NaN", '"1"'])
@pytest.mark.parametrize("place", [0, 1])
def test_saved_timings_that_no_clock_gives(home: Path, place: int, value: str) -> None:
    good, path = home / "good.json", home / "run.json"
    good.write_text(json.dumps(RUN))
    for other in ("0.1", "1e308", "5e-324"):
        values = [value, other] if place == 0 else [other, value]
        text = json.dumps(RUN).replace("0.01", values[0]).replace('"min": 0.1', f'"min": {values[1]}')
        path.write_text(text)
        survives("saved timings", lambda: speed.check(good, path), home)
        survives("saved timings", lambda: speed.check(path, good), home)


TABLE = next(path for path in files() if path.stat().st_size < 20_000).read_bytes()


@cases(150)
@given(content=damaged(TABLE, TABLE[:600]))
def test_published_tables(home: Path, content: bytes) -> None:
    use_published(home, content)


@pytest.mark.parametrize(
    "value", [*NAMES, "1e999999999", "-1e-999999999", "1_0", "9" * 400, "NaN", "sNaN", "Infinity", "١", "1,,0"]
)
@pytest.mark.parametrize("column", [7, 8])
def test_published_values(home: Path, column: int, value: str) -> None:
    header, first, *_ = TABLE.decode().splitlines()
    cells = first.split(",")
    cells[column] = f'"{value}"'
    use_published(home, f"{header}\n{','.join(cells)}\n".encode("utf-8", "surrogatepass"))


def use_published(home: Path, content: bytes) -> None:
    path = home / "table1.csv"
    path.write_bytes(content)

    def use() -> None:
        for score in read_published(path):
            assert score.amount is None or np.isfinite(score.amount)
            assert score.where and np.isfinite(float(score.std or 0))

    survives("published table", use, home)

from __future__ import annotations

import io
import time
import tracemalloc
import unicodedata
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from bench.api import Sample
from bench.errors import DatasetError, UsageError
from bench.external.map_files import MapFile, common_dtype, exactly, resized_dtype, to_size
from bench.external.submission import find_maps, match, read_scores
from bench.loading import arrays

MAP = np.linspace(0, 1, 12 * 10, dtype=np.float32).reshape(12, 10)
FUZZ = settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def written(save: Callable[[io.BytesIO], object]) -> bytes:
    buffer = io.BytesIO()
    save(buffer)
    return buffer.getvalue()


FILES = {
    ".npy": written(lambda file: np.save(file, MAP)),
    ".npz": written(lambda file: np.savez_compressed(file, MAP)),
    ".tiff": written(lambda file: Image.fromarray(MAP, "F").save(file, "TIFF")),
    ".png": written(lambda file: Image.fromarray((MAP * 60_000).astype(np.uint16)).save(file, "PNG")),
}


def sample(name: str, cls: str = "bottle", defect: str = "good") -> Sample:
    return Sample(f"{cls}/test/{defect}/{name}", cls, "test", int(defect != "good"), defect, Path(f"/x/{name}.png"))


@pytest.mark.parametrize("kind", [".npy", ".npz", ".tiff"])
def test_a_map_is_read_as_it_was_written(tmp_path: Path, kind: str) -> None:
    path = tmp_path / f"map{kind}"
    path.write_bytes(FILES[kind])
    assert np.array_equal(MapFile(path).read(), MAP)


@pytest.mark.parametrize("dtype", ["<f2", "<f4", "<f8", ">f4", ">f8", "u1", "i1", "i2", ">i4", "u4", "i8", ">u8", "?"])
def test_any_real_type_keeps_its_numbers(tmp_path: Path, dtype: str) -> None:
    kind = np.dtype(dtype)
    if kind.kind in "iu":
        # what the next narrower type, and float64, makes equal
        values = (np.iinfo(kind).max - np.arange(120, dtype=np.uint64)).astype(kind).reshape(12, 10)
    else:
        values = (1 - MAP.astype(np.float64) * 1e-9).astype(dtype) if kind.itemsize == 8 else (MAP * 100).astype(dtype)
    for place, shaped in enumerate((values, values[None], values[..., None], np.asfortranarray(values))):
        np.save(tmp_path / f"{place}.npy", shaped)
        np.savez_compressed(tmp_path / f"{place}.npz", shaped)
        for suffix in ("npy", "npz"):
            file = MapFile(tmp_path / f"{place}.{suffix}")
            found, look = file.read(), file.look()
            assert found.dtype == look.dtype == (np.uint8 if dtype == "?" else kind.newbyteorder("="))
            assert (look.height, look.width) == found.shape and np.array_equal(found, values)


def test_maps_of_several_types_come_to_one_that_holds_them_all() -> None:
    types = {
        "float16 int16": "float32",
        "uint8 int8": "int16",
        "float32 int32": "float64",
        "uint32 int32": "int64",
        "float64 int64": "float64",
        "uint64 int64": "float64",
    }
    for several, expected in types.items():
        assert common_dtype(np.dtype(name) for name in several.split()) == expected
    whole = np.array([[2**53, -(2**53)]])
    assert exactly(whole, np.dtype(np.float64), "map").tolist() == whole.tolist()
    for beyond in (np.array([[2**53 + 1]]), np.array([[-(2**53) - 1]]), np.array([[2**64 - 1]], np.uint64)):
        assert exactly(beyond, beyond.dtype, "map") is beyond
        with pytest.raises(UsageError, match=r"map: u?int64 from .* of which float64 makes some equal"):
            exactly(beyond, np.dtype(np.float64), "map")
    with pytest.raises(UsageError, match="not what it was when all maps were looked at"):
        exactly(np.ones((1, 1)), np.dtype(np.float32), "map")


@pytest.mark.filterwarnings("ignore::UserWarning:PIL")
@pytest.mark.parametrize("kind", FILES)
@FUZZ
@given(data=st.data())
def test_damaged_files_are_read_or_refused_and_nothing_else(tmp_path: Path, kind: str, data: st.DataObject) -> None:
    content = bytearray(FILES[kind])
    for _ in range(data.draw(st.integers(1, 8))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path = tmp_path / f"map{kind}"
    path.write_bytes(bytes(content[: data.draw(st.integers(0, len(content)))]))
    try:
        found = MapFile(path).read()
    except (UsageError, DatasetError) as refused:
        assert path.name in str(refused)
    else:
        look = MapFile(path).look()
        assert found.shape == (look.height, look.width) and found.dtype == look.dtype and np.isfinite(found).all()


@pytest.mark.parametrize(
    "shape", ["(-1, 4)", "(99999999999, 99999999999)", "(4,)", "()", "(0, 4)", "(4, 4, 4)", "(4, 5)"]
)
def test_a_header_that_promises_something_else_is_refused(tmp_path: Path, shape: str) -> None:
    header = f"{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}, }}\n".encode()
    path = tmp_path / "map.npy"
    path.write_bytes(b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + bytes(64))
    with pytest.raises(UsageError, match=r"map\.npy"):
        MapFile(path).read()


@pytest.mark.parametrize(
    "dtype", ["O", "U3", "S4", "c8", "c16", "M8[s]", "m8[s]", "V8", "f4,f4", np.dtype((np.float32, (2,))), "g"]
)
def test_what_is_no_number_of_64_bits_is_refused(tmp_path: Path, dtype: str) -> None:
    np.save(tmp_path / "map.npy", np.zeros((4, 5), dtype), allow_pickle=True)
    for use in (MapFile.look, MapFile.read):
        with pytest.raises(UsageError, match=r"map\.npy: cannot be read as a map|Expected numbers \[height, width\]"):
            use(MapFile(tmp_path / "map.npy"))


def claims(header: bytes, length: int | None = None, version: int = 2) -> bytes:
    """An npy file whose header is said to have a certain length."""
    size = (len(header) if length is None else length).to_bytes(4 if version > 1 else 2, "little")
    return b"\x93NUMPY" + bytes([version, 0]) + size + header


def test_a_headers_length_is_not_believed(tmp_path: Path) -> None:
    path = tmp_path / "map.npz"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive, archive.open("a.npy", "w") as member:
        member.write(claims(b"{'descr': '<f4', 'fortran_order': False, 'shape': (4, 4), }", 1 << 26))
        for _ in range(64):
            member.write(b" " * (1 << 20))
    for use in (MapFile.look, MapFile.read):
        tracemalloc.start()
        try:
            with pytest.raises(UsageError, match="its header has 67,108,864 bytes, expected at most 10,000"):
                use(MapFile(path))
            assert tracemalloc.get_traced_memory()[1] < 2_000_000
        finally:
            tracemalloc.stop()


def test_a_maps_size_is_known_before_it_takes_memory(tmp_path: Path) -> None:
    path = tmp_path / "map.npz"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive, archive.open("a.npy", "w") as member:
        member.write(claims(b"{'descr': '<f8', 'fortran_order': False, 'shape': (4096, 2048), }\n"))
        for _ in range(64):
            member.write(bytes(1 << 20))
    tracemalloc.start()
    try:
        assert MapFile(path).look().width == 2048
        assert tracemalloc.get_traced_memory()[1] < 2_000_000
    finally:
        tracemalloc.stop()
    assert MapFile(path).read().shape == (4096, 2048)


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_what_does_not_unpack_piece_by_piece_is_refused(tmp_path: Path, method: int) -> None:
    path = tmp_path / "map.npz"
    with zipfile.ZipFile(path, "w", method) as archive:
        archive.writestr("a.npy", FILES[".npy"])
    with pytest.raises(UsageError, match=r"expected it as numpy\.savez writes"):
        MapFile(path).look()


@pytest.mark.parametrize("field", [18, 22])  # packed and unpacked size, in the archive's own list
@pytest.mark.parametrize("size", [0, 10, 1 << 31])
def test_an_archive_that_lies_about_sizes_gives_no_other_map(tmp_path: Path, field: int, size: int) -> None:
    buffer = io.BytesIO()
    np.savez(buffer, a=MAP)
    content = bytearray(buffer.getvalue())
    at = content.rindex(b"PK\x01\x02") + 2 + field
    content[at : at + 4] = size.to_bytes(4, "little")
    path = tmp_path / "map.npz"
    path.write_bytes(bytes(content))
    try:
        assert np.array_equal(MapFile(path).read(), MAP)
    except UsageError as refused:
        assert "map.npz" in str(refused)


def test_maps_of_one_npz_are_read_from_one_opened_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    np.savez(tmp_path / "all.npz", **{f"{place:04}": MAP + place for place in range(300)})
    opened = []
    monkeypatch.setattr(
        arrays.regular, "opened", lambda path, how=arrays.regular.opened: opened.append(path) or how(path)
    )
    found = find_maps(tmp_path / "all.npz")
    assert all(file.read()[0, 0] == int(name) and file.look().width == 10 for name, file in found.items())
    assert len(found) == 300 and len(opened) == 1


def test_many_names_in_an_npz_take_time_in_proportion(tmp_path: Path) -> None:
    path = tmp_path / "all.npz"
    with zipfile.ZipFile(path, "w") as archive:
        for place in range(12_000):
            archive.writestr(f"{place}.npy", b"")
        archive.writestr("7.png.npy", b"")
    begun = time.process_time()
    with pytest.raises(UsageError, match=r"two maps for 7\. Expected one each"):
        find_maps(path)
    # of the square it took 8 seconds
    assert time.process_time() - begun < 3


@FUZZ
@given(content=st.one_of(st.binary(max_size=200), st.text(max_size=200).map(lambda text: f"id,score\n{text}".encode())))
def test_any_bytes_are_a_table_of_finite_scores_or_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "scores.csv"
    path.write_bytes(content)
    try:
        found = read_scores(path)
    except UsageError as refused:
        assert "scores.csv" in str(refused)
    else:
        assert found and all(np.isfinite(value) for value in found.values())


def test_names_are_matched_by_the_first_form_that_tells_images_apart() -> None:
    apart = [sample("000"), sample("001"), sample("002", defect="cut")]
    for names in (
        ["bottle/test/good/000", "bottle/test/good/001", "bottle/test/cut/002"],
        ["bottle/good/000", "bottle/good/001", "bottle/cut/002"],
        ["bottle/000", "bottle/001", "bottle/002"],
        ["000", "001", "002"],
    ):
        found = match(dict(zip(names, "abc", strict=True)), apart, "map")
        assert list(found.values()) == ["a", "b", "c"] and list(found) == [one.id for one in apart]
    twice = [sample("000"), sample("000", cls="cable")]
    assert list(match({"bottle/000": 1, "cable/000": 2}, twice, "map").values()) == [1, 2]
    with pytest.raises(UsageError, match="Found names such as '000'"):
        match({"000": 1}, twice, "map")
    with pytest.raises(UsageError, match="1 of 2 test images have no map: cable/000"):
        match({"bottle/000": 1}, twice, "map")


@pytest.mark.parametrize("form", ["NFC", "NFD"])
def test_names_that_differ_in_their_unicode_form_are_one_name(tmp_path: Path, form: str) -> None:
    other = {"NFC": "NFD", "NFD": "NFC"}[form]
    images = [sample(unicodedata.normalize(form, name), unicodedata.normalize(form, "vís")) for name in ("é", "ñ")]
    for names in (["vís/é", "vís/ñ"], ["vís/test/good/é", "vís/test/good/ñ"], ["é", "ñ"]):
        written = [unicodedata.normalize(other, name) for name in names]
        (tmp_path / "s.csv").write_text("id,score\n" + "".join(f"{name}.png,0.5\n" for name in written), "utf-8")
        np.savez(tmp_path / "all.npz", **dict.fromkeys(written, MAP))
        assert list(match(read_scores(tmp_path / "s.csv"), images, "score")) == [one.id for one in images]
        assert list(match(find_maps(tmp_path / "all.npz"), images, "map")) == [one.id for one in images]
    (tmp_path / "s.csv").write_text(
        "id,score\n" + "".join(f"{unicodedata.normalize(f, 'é')},1\n" for f in ("NFC", "NFD"))
    )
    with pytest.raises(UsageError, match="line 3: 'é' for the second time"):
        read_scores(tmp_path / "s.csv")


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        (["0.5", " -1e-3", "+.5 ", "7.", "1E5"], [0.5, -1e-3, 0.5, 7, 1e5]),
        (["True", "False", "true"], [1, 0, 1]),
        (["9007199254740992", "9007199254740994"], [2**53, 2**53 + 2]),
        (["0.1", "0.10", "1e-1"], [0.1, 0.1, 0.1]),
    ],
)
def test_scores_are_plain_numbers_or_words(tmp_path: Path, texts: list[str], expected: list[float]) -> None:
    path = tmp_path / "s.csv"
    path.write_text("id,score\n" + "".join(f"{place},{text}\n" for place, text in enumerate(texts)))
    assert list(read_scores(path).values()) == expected


@pytest.mark.parametrize(
    "text",
    [
        *(
            "nan",
            "NaN",
            "inf",
            "-Infinity",
            "1e400",
            "-1e999",
            "1_000",
            "١",
            "１.5",
            "0x1",
            "1,5",
            "",
            "0.5.1",
            "1e",
            ".",
        ),
        *("1e-99999999999999999999", "1e0000000"),
        *("½", "1 000", "--1", "5%", "0.5f", "1d3", "yes", "None", "²"),
    ],
)
def test_a_score_that_is_no_plain_finite_number_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "s.csv"
    path.write_text(f'id,score\na,0.5\nb,"{text}"\n', "utf-8")
    with pytest.raises(UsageError, match=r"s\.csv, line 3: score .*Expected"):
        read_scores(path)


@pytest.mark.parametrize(
    ("rows", "told"),
    [
        (["a,1", "b,True"], "line 3: score 'True' after numbers"),
        (["a,False", "b,0.5"], "line 3: score '0.5' after words"),
        (["a,9007199254740992", "b,9007199254740993"], "line 3: score 9007199254740993 is equal in float64"),
        (["a,0", "b,1e-400"], "line 3: score 1E-400 is equal in float64 to another, 0"),
        (["a,0.99999999999999999999", "b,0.99999999999999999998"], "line 3: .*Expected scores that it tells apart"),
        ([",1"], "line 2: no id"),
        (["./,1"], "line 2: no id"),
        (["a,0,5"], "line 2: 3 fields"),
        (["a.png,1", "/a,1"], "line 3: 'a' for the second time"),
    ],
)
def test_tables_whose_scores_would_not_be_those_written_are_refused(tmp_path: Path, rows: list[str], told: str) -> None:
    path = tmp_path / "s.csv"
    path.write_text("\n".join(["id,score", *rows]) + "\n")
    with pytest.raises(UsageError, match=told):
        read_scores(path)


def test_a_long_score_is_looked_at_once(tmp_path: Path) -> None:
    path = tmp_path / "s.csv"
    path.write_text(f"id,score\na,{'1' * 100_000}x\n")
    with pytest.raises(UsageError, match="line 2: score '1111"):
        read_scores(path)


@pytest.mark.parametrize("size", [(48, 48), (300, 200), (1000, 256), (97, 511)])
def test_float64_is_resized_as_float32_is_but_keeps_its_digits(size: tuple[int, int]) -> None:
    values = np.random.default_rng(0).random(size)
    single, double = to_size(values.astype(np.float32), 256), to_size(values, 256)
    assert single.dtype == np.float32 and double.dtype == np.float64
    assert np.abs(single - double).max() < 1e-6
    # 1 - 1e-12 x is 1 in float32
    high = to_size(1 - 1e-12 * values, 256)
    assert np.abs((1 - high) * 1e12 - double).max() < 1e-3
    # equal surroundings stay equal, or ties would be broken by rounding
    assert np.unique(to_size(np.full(size, 0.1), 256)).tolist() == [0.1]


def test_integers_are_resized_without_losing_any() -> None:
    for dtype, expected in (("uint8", "float32"), ("int16", "float32"), ("int32", "float64"), ("int64", "float64")):
        assert resized_dtype(np.dtype(dtype)) == expected
    large = 2**30 + np.arange(64 * 64).reshape(64, 64)
    assert len(np.unique(to_size(large, 32))) == 32 * 32
    with pytest.raises(UsageError, match="map: int64 from 9007199254740993"):
        to_size(large + 2**53 + 1 - 2**30, 32)
    with pytest.raises(UsageError, match="too far apart"):
        to_size(np.where(large % 2, 1e308, -1e308), 32)


def test_a_resized_map_keeps_its_mean_and_its_place() -> None:
    values = np.zeros((512, 512), np.float32)
    values[128:256, 256:384] = 1
    small = to_size(values, 256)
    assert small.shape == (256, 256) and small.mean() == pytest.approx(values.mean(), rel=1e-3)
    assert small[64:128, 128:192].min() > 0.4 and small[:60].max() == 0
    assert np.array_equal(to_size(MAP, 40), to_size(MAP.copy(), 40))


def test_an_npz_with_a_name_twice_is_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "all.npz", **{"a.png": MAP, "a.tiff": MAP})
    with pytest.raises(UsageError, match="two maps for a"):
        find_maps(tmp_path / "all.npz")


def test_hidden_and_other_files_are_no_maps(tmp_path: Path) -> None:
    (tmp_path / "a.npy").write_bytes(FILES[".npy"])
    (tmp_path / ".b.npy").write_bytes(FILES[".npy"])
    (tmp_path / "notes.txt").write_text("x")
    assert list(find_maps(tmp_path)) == ["a"] and find_maps(tmp_path)["a"].path == tmp_path / "a.npy"
    with zipfile.ZipFile(tmp_path / "all.npz", "w") as archive:
        for name in ("a.npy", "__MACOSX/._a.npy", ".DS_Store", "notes.txt", "b/"):
            archive.writestr(name, FILES[".npy"] if name == "a.npy" else b"x")
    assert list(find_maps(tmp_path / "all.npz")) == ["a"]

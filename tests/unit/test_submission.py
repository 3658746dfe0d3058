from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from bench.api import Sample
from bench.errors import DatasetError, UsageError
from bench.loading import submission
from bench.loading.submission import MapFile, find_maps, match, read_scores, to_size

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


@pytest.mark.parametrize("dtype", ["<f2", "<f8", ">f4", "u1", "i2", "?"])
def test_any_real_type_and_a_single_channel_are_taken(tmp_path: Path, dtype: str) -> None:
    values = (MAP * 100).astype(dtype)
    for place, shaped in enumerate((values, values[None], values[..., None], np.asfortranarray(values))):
        np.save(tmp_path / f"{place}.npy", shaped)
        found = MapFile(tmp_path / f"{place}.npy").read()
        assert found.dtype == np.float32 and np.array_equal(found, values.astype(np.float32))


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
        assert found.ndim == 2 and found.dtype == np.float32 and np.isfinite(found).all()


@pytest.mark.parametrize(
    "shape", ["(-1, 4)", "(99999999999, 99999999999)", "(4,)", "()", "(0, 4)", "(4, 4, 4)", "(4, 5)"]
)
def test_a_header_that_promises_something_else_is_refused(tmp_path: Path, shape: str) -> None:
    header = f"{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}, }}\n".encode()
    path = tmp_path / "map.npy"
    path.write_bytes(b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + bytes(64))
    with pytest.raises(UsageError, match=r"map\.npy"):
        MapFile(path).read()


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
    assert list(find_maps(tmp_path)) == ["a"] and submission.find_maps(tmp_path)["a"].path == tmp_path / "a.npy"

"""Pipes, sockets and devices in the place of every kind of file: refused at once, where reading would never end."""

from __future__ import annotations

import ast
import os
import shutil
import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

import pytest
from layouts import write_realiad

from bench import files, plugins, regular
from bench.api import Download
from bench.checks import speed as checks_speed
from bench.curate import archives, download
from bench.curate.verify import verify
from bench.datasets.folder import Folder
from bench.datasets.realiad import RealIAD
from bench.encoders import digest, header
from bench.errors import BenchError
from bench.external import submission
from bench.loading import hashes, idx, images, masks, pickles
from bench.speed import record as speed_record
from bench.store import checkpoint, evidence, folder, record

REPO = Path(__file__).resolve().parents[2]
PATIENCE_S = 20


@contextmanager
def in_time() -> Iterator[None]:
    """Break off what waits for a pipe or reads a device without end."""

    def late(number: int, frame: FrameType | None) -> None:
        raise AssertionError("it hangs")

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(PATIENCE_S)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def pipe(path: Path) -> None:
    os.mkfifo(path)


def named_socket(path: Path) -> None:
    # the address of a socket may have no more than about a hundred characters
    here = Path.cwd()
    os.chdir(path.parent)
    try:
        with socket.socket(socket.AF_UNIX) as listening:
            listening.bind(path.name)
    finally:
        os.chdir(here)


def zeros(path: Path) -> None:
    path.symlink_to("/dev/zero")


def link_to_a_pipe(path: Path) -> None:
    os.mkfifo(path.with_name(f"{path.name}.target"))
    path.symlink_to(path.with_name(f"{path.name}.target"))


KINDS = {"pipe": pipe, "socket": named_socket, "device": zeros, "link": link_to_a_pipe}
WORDS = {"pipe": "a named pipe", "socket": "a socket", "device": "a device", "link": "a named pipe"}

READERS: dict[str, tuple[str, Callable[[Path], object]]] = {
    "image": ("x.png", images.read_rgb),
    "image's size": ("x.png", images.peek_size),
    "mask": ("x.png", masks.read_mask_file),
    "content hash": ("x.png", lambda path: hashes.content_hashes([path])),
    "map as npy": ("x.npy", lambda path: submission.MapFile(path).read()),
    "map as npz": ("x.npz", lambda path: submission.MapFile(path).read()),
    "map as tiff": ("x.tiff", lambda path: submission.MapFile(path).read()),
    "scores": ("scores.csv", submission.read_scores),
    "idx": ("train-images-idx3-ubyte", idx.read),
    "pickle": ("data_batch_1", pickles.read_plain),
    "tar": ("x.tar", lambda path: archives.unpack(path, path.parent, "tar", limit=1000)),
    "zip": ("x.zip", lambda path: archives.unpack(path, path.parent, "zip", limit=1000)),
    "maps in an npz": ("x.npz", submission.find_maps),
    "record": ("x.json", record.read),
    "record that is named": ("x.json", lambda path: folder.find([path])),
    "speed record": ("x.json", speed_record.read),
    "baseline of speed": ("x.json", checks_speed.read),
    "checkpoint": ("x.ckpt", checkpoint.read),
    "weights": ("x.safetensors", header.read),
    "weights' hash": ("x.safetensors", digest.fingerprint),
    "plug-in": ("x.py", plugins.load),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("what", READERS)
def test_no_reader_waits_for_what_is_no_regular_file(tmp_path: Path, what: str, kind: str) -> None:
    name, read = READERS[what]
    KINDS[kind](tmp_path / name)
    with in_time(), pytest.raises(BenchError) as caught:
        read(tmp_path / name)
    assert WORDS[kind] in str(caught.value)


@pytest.mark.parametrize("kind", KINDS)
def test_files_that_are_found_in_folders_are_not_waited_for(tmp_path: Path, kind: str) -> None:
    with in_time():
        KINDS[kind](tmp_path / "x.parquet")
        with pytest.raises(evidence.Lacking, match=r"x\.parquet cannot be read"):
            evidence._read_images(tmp_path / "x.parquet")
        KINDS[kind](tmp_path / "x.json")
        assert not speed_record.is_record(tmp_path / "x.json")
        (tmp_path / "speed").mkdir()
        KINDS[kind](tmp_path / "speed/y.json")
        assert speed_record.find([tmp_path / "speed"]) == []


def test_a_pipe_in_the_place_of_a_lock_or_of_a_download_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "x.lock")
    with in_time(), pytest.raises(BenchError, match="cannot write"), files.try_lock(tmp_path / "x.lock"):
        pass
    os.mkfifo(tmp_path / ".x.part")
    with in_time(), pytest.raises(BenchError, match=r"\.x\.part is in the way: no regular file"):
        download.fetch(Download("http://127.0.0.1:1/x"), tmp_path / "x", None)  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["dots/train/good/000.png", "dots/ground_truth/square/000_mask.png"])
def test_verify_finds_it_and_a_run_refuses_it(bench: Callable, tree: Path, kind: str, name: str) -> None:
    (tree / name).unlink()
    KINDS[kind](tree / name)
    with in_time():
        (finding,) = verify(Folder(tree), workers=2).findings
        assert (finding.kind, finding.where) == ("unreadable", name)
        assert f"{WORDS[kind]}, no regular file" in finding.text
        done = bench(
            *("run", "--methods", "knn", "--datasets", "folder", "--data-root", str(tree), "--dry-run"),
            *("--encoder", "vit_tiny_patch8_128.bench"),
        )
        assert done.returncode == 2
        assert str(tree / name) in done.stderr and WORDS[kind] in done.stderr


@pytest.mark.parametrize("kind", KINDS)
def test_lists_are_not_waited_for(tmp_path: Path, tree: Path, kind: str) -> None:
    write_realiad(tmp_path / "iad")
    split = tmp_path / "iad/realiad_jsons/realiad_jsons/zipper.json"
    split.unlink()
    KINDS[kind](split)
    (tree / "split_csv").mkdir()
    KINDS[kind](tree / "split_csv/1cls.csv")
    with in_time():
        _, found = RealIAD(RealIAD.locate(tmp_path / "iad")).inspect()
        assert [finding.cls for finding in found] == ["zipper"]
        # the list decides where there is one: classes beside it are not read in its place
        samples, (finding,) = Folder(Folder.locate(tree)).inspect()
    assert not samples
    assert WORDS[kind] in finding.text


def test_regular_files_links_to_them_and_missing_ones_are_as_ever(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("ä\r\n", encoding="utf-8", newline="")
    (tmp_path / "b").symlink_to(tmp_path / "a")
    assert regular.read_bytes(tmp_path / "b") == b"\xc3\xa4\r\n"
    assert regular.read_text(tmp_path / "b") == "ä\n"
    with regular.opened(tmp_path / "a") as file:
        assert os.get_blocking(file.fileno()) or file.read()
    with pytest.raises(FileNotFoundError):
        regular.opened(tmp_path / "c")
    with pytest.raises(IsADirectoryError):
        regular.opened(tmp_path)


def test_a_file_that_turns_into_a_pipe_after_the_first_look_is_not_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    os.mkfifo(tmp_path / "x")
    monkeypatch.setattr(regular, "check", lambda path: None)
    with in_time(), pytest.raises(regular.IrregularError, match="a named pipe"):
        regular.opened(tmp_path / "x")


# ------------------------------------------------------------------------------------------ nobody opens by himself
OPENS = {"open", "read_text", "read_bytes", "load", "load_file", "safe_open", "pq.read_table", "ZipFile", "memmap"}
OWN = {
    "bench/suites/__init__.py": "the package's own suites",
    "bench/published/read.py": "the package's own numbers",
    "bench/report/formats/html.py": "the package's own templates",
    "bench/prediction/tried_page.py": "the package's own templates",
    "bench/registry.py": "the source of a module of ours",
    "bench/encoders/catalog.py": "the encoder that the package ships",
    "bench/templates/__init__.py": "the package's own templates",
    "bench/machine": "/proc and /sys",
    "bench/store/provenance.py": "/proc/cpuinfo",
    "bench/machine/host_memory.py": "/proc and /sys",
}
"""Files that the code itself names; paths in capitals are taken for such everywhere."""
NO_FILE = {
    *("DATASETS", "METHODS", "registry", "plugins"),  # loaded by name
    *("parcel", "self.parcel", "opener"),  # packed cells, addresses
    *("image", "self._archive", "self.part"),  # opened before; written
}


def opens(source: str) -> Iterator[tuple[int, str]]:
    """Calls that open a file by its name, in functions that do not have `regular` look at it first."""
    tree = ast.parse(source)
    for function in ast.walk(tree):
        if not isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        calls = [node for node in ast.walk(function) if isinstance(node, ast.Call)]
        if any(ast.unparse(call.func).startswith(("regular.", "os.open")) for call in calls):
            continue
        for call in calls:
            name = ast.unparse(call.func)
            owner, _, method = name.rpartition(".")
            # a constant of the code's own, in capitals, is no file that it was handed
            held = bool(call.args) and ast.unparse(call.args[0]).startswith("io.BytesIO")
            writes = held or any(isinstance(a, ast.Constant) and set(str(a.value)) & set("wxa+") for a in call.args)
            if (method in OPENS or name in OPENS) and not writes and owner not in NO_FILE and not owner.isupper():
                yield call.lineno, name


def test_every_file_is_opened_by_the_one_function() -> None:
    found = []
    for path in sorted(path for top in ("bench", "datasets", "methods") for path in (REPO / top).rglob("*.py")):
        name = path.relative_to(REPO).as_posix()
        if name == "bench/regular.py" or any(name.startswith(own) for own in OWN):
            continue
        found += [f"{name}:{line} {call}" for line, call in opens(path.read_text(encoding="utf-8"))]
    assert found == []


def test_the_walk_would_find_an_opening(tmp_path: Path) -> None:
    assert [
        name for _, name in opens("def f(path):\n    return Image.open(path), np.load(path), path.read_text()\n")
    ] == [
        "Image.open",
        "np.load",
        "path.read_text",
    ]
    assert not list(opens("def f(path):\n    regular.check(path)\n    return np.load(path)\n"))


def test_a_plain_tree_is_read_as_before(tree: Path, tmp_path: Path) -> None:
    linked = tmp_path / "linked"
    shutil.copytree(tree, linked)
    target = (linked / "dots/train/good/000.png").rename(tmp_path / "elsewhere.png")
    (linked / "dots/train/good/000.png").symlink_to(target)
    assert verify(Folder(linked), workers=2).findings == ()

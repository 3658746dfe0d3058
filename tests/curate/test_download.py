"""Downloads against a server of our own: cut connections, servers that cannot go on, wrong files, redirects."""

from __future__ import annotations

import hashlib
import io
import tarfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from semantic_layouts import write_cifar10, write_fmnist

from bench.api import Download
from bench.curate import download as downloads
from bench.curate.download import fetch
from bench.errors import DatasetError
from bench.machine.progress import Silent
from bench.registry import DATASETS

CONTENT = bytes(range(256)) * 4000
SHA = hashlib.sha256(CONTENT).hexdigest()


@dataclass
class Server:
    """Serves files from memory, as badly as a test asks for."""

    files: dict[str, bytes] = field(default_factory=lambda: {"/file.bin": CONTENT})
    tag: str = '"v1"'
    ranges: bool = True
    lengths: bool = True
    cuts: list[int] = field(default_factory=list)
    """Bytes after which the next answers are cut off."""
    redirects: dict[str, str] = field(default_factory=dict)
    seen: list[tuple[str, str | None]] = field(default_factory=list)
    """Path and range of every request."""
    url: str = ""

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        wanted = request.headers["Range"]
        self.seen.append((request.path, wanted))
        if request.path in self.redirects:
            request.send_response(302)
            request.send_header("Location", self.redirects[request.path])
            request.send_header("Content-Length", "0")
            request.end_headers()
            return
        content = self.files.get(request.path)
        if content is None:
            request.send_error(404)
            return
        start = int(wanted[6:-1]) if wanted and self.ranges and request.headers["If-Range"] == self.tag else 0
        request.send_response(206 if start else 200)
        if start:
            request.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        if self.tag:
            request.send_header("ETag", self.tag)
        body = content[start:]
        if self.lengths:
            request.send_header("Content-Length", str(len(body)))
        request.end_headers()
        request.wfile.write(body[: self.cuts.pop(0)] if self.cuts else body)
        request.close_connection = True


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    served = Server()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            served.answer(self)

        def log_message(self, format: str, *args: Any) -> None:
            pass

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    served.url = f"http://127.0.0.1:{http.server_address[1]}"
    threading.Thread(target=http.serve_forever, daemon=True).start()
    yield served
    http.shutdown()
    http.server_close()


def wanted(server: Server, name: str = "file.bin", **fields: Any) -> Download:
    return replace(Download(f"{server.url}/{name}", sha256=SHA, bytes=len(CONTENT)), **fields)


def left(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_file_arrives_whole_and_alone(server: Server, tmp_path: Path) -> None:
    assert fetch(wanted(server), tmp_path / "file.bin", Silent()) == SHA
    assert (tmp_path / "file.bin").read_bytes() == CONTENT
    assert left(tmp_path) == ["file.bin"]
    assert server.seen == [("/file.bin", None)]


@pytest.mark.parametrize("known", [True, False])
def test_a_cut_connection_goes_on_where_it_stopped(server: Server, tmp_path: Path, known: bool) -> None:
    server.cuts = [300_000, 100_001]
    fetch(wanted(server, bytes=len(CONTENT) if known else 0), tmp_path / "file.bin", Silent())
    assert (tmp_path / "file.bin").read_bytes() == CONTENT
    # the last byte that is there is asked for again
    assert [span for _, span in server.seen] == [None, "bytes=299999-", "bytes=399999-"]


def test_the_next_command_goes_on_too(server: Server, tmp_path: Path) -> None:
    server.cuts = [1000] * downloads.TRIES
    with pytest.raises(DatasetError, match=r"broke off 4 times .*3,997 bytes, which are kept\. Run the same command"):
        fetch(wanted(server), tmp_path / "file.bin", Silent())
    assert not (tmp_path / "file.bin").exists()
    fetch(wanted(server), tmp_path / "file.bin", Silent())
    assert (tmp_path / "file.bin").read_bytes() == CONTENT
    assert server.seen[-1] == ("/file.bin", "bytes=3996-")
    assert left(tmp_path) == ["file.bin"]


@pytest.mark.parametrize("change", ["no range", "no version", "another version"])
def test_versions_are_never_glued_together(server: Server, tmp_path: Path, change: str) -> None:
    if change == "no version":
        server.tag = ""
    server.cuts = [1000] * downloads.TRIES
    with pytest.raises(DatasetError, match="broke off"):
        fetch(wanted(server), tmp_path / "file.bin", Silent())
    if change == "no range":
        server.ranges = False
    if change == "another version":
        server.tag = '"v2"'
        server.files["/file.bin"] = CONTENT[::-1]
    fetch(wanted(server, sha256=""), tmp_path / "file.bin", Silent())
    assert (tmp_path / "file.bin").read_bytes() == server.files["/file.bin"]


def test_a_part_that_was_complete_is_only_checked(server: Server, tmp_path: Path) -> None:
    server.cuts = [1000] * downloads.TRIES
    with pytest.raises(DatasetError, match="broke off"):
        fetch(wanted(server), tmp_path / "file.bin", Silent())
    part = tmp_path / ".file.bin.part"
    part.write_bytes(CONTENT)
    fetch(wanted(server), tmp_path / "file.bin", Silent())
    assert server.seen[-1] == ("/file.bin", f"bytes={len(CONTENT) - 1}-")
    assert (tmp_path / "file.bin").read_bytes() == CONTENT


def test_a_wrong_checksum_is_told_and_nothing_stays(server: Server, tmp_path: Path) -> None:
    server.files["/file.bin"] = CONTENT[::-1]
    with pytest.raises(DatasetError, match=rf"SHA-256 [0-9a-f]{{64}}\. Expected {SHA}"):
        fetch(wanted(server), tmp_path / "file.bin", Silent())
    assert left(tmp_path) == []


def test_a_wrong_size_is_told_before_anything_arrives(server: Server, tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"has 1,024,000 bytes\. Expected 7"):
        fetch(wanted(server, bytes=7), tmp_path / "file.bin", Silent())
    assert left(tmp_path) == []


def test_a_server_that_never_ends_is_stopped(server: Server, tmp_path: Path) -> None:
    server.lengths = False
    with pytest.raises(DatasetError, match="sends more than the 1,000 bytes"):
        fetch(wanted(server, bytes=1000), tmp_path / "file.bin", Silent())
    assert left(tmp_path) == []


def test_without_lengths_the_end_is_the_end(server: Server, tmp_path: Path) -> None:
    server.lengths = False
    assert fetch(wanted(server, bytes=0), tmp_path / "file.bin", Silent()) == SHA


def test_redirects_are_followed_on_the_web_alone(server: Server, tmp_path: Path) -> None:
    server.redirects = {"/old": f"{server.url}/file.bin", "/local": "file:///etc/passwd", "/ftp": "ftp://127.0.0.1/x"}
    server.cuts = [5000]
    assert fetch(wanted(server, "old"), tmp_path / "file.bin", Silent()) == SHA
    assert server.seen[-1] == ("/file.bin", "bytes=4999-")
    for name in ("local", "ftp"):
        with pytest.raises(DatasetError, match=r"sends on to ftp:|file:.* is not allowed"):
            fetch(wanted(server, name), tmp_path / "other", Silent())
    assert left(tmp_path) == ["file.bin"]


def test_https_is_not_given_up_by_a_redirect() -> None:
    handler = downloads._Redirects()
    asked = downloads.urllib.request.Request("https://example.org/file")
    with pytest.raises(DatasetError, match=r"sends on to http://.*Expected an address of https"):
        handler.redirect_request(asked, None, 302, "", {}, "http://example.org/file")


def test_a_missing_file_and_a_full_disk_are_told(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(DatasetError, match="answers 404"):
        fetch(wanted(server, "gone"), tmp_path / "file.bin", Silent())
    usage = downloads.shutil.disk_usage(tmp_path)
    monkeypatch.setattr(downloads.shutil, "disk_usage", lambda path: usage._replace(free=1000))
    with pytest.raises(DatasetError, match=r"1 KiB free\. Expected room for 1,000 KiB more"):
        fetch(wanted(server), tmp_path / "file.bin", Silent())


def test_nobody_there_and_nobody_answering_are_told(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(DatasetError, match=r"cannot be reached: .*refused.*Expected a network connection"):
        fetch(Download("http://127.0.0.1:9/file.bin"), tmp_path / "file.bin", Silent())
    monkeypatch.setattr(downloads, "PATIENCE_S", 0.2)
    monkeypatch.setattr(Server, "answer", lambda self, request: time.sleep(3))
    with pytest.raises(DatasetError, match=r"no answer within 0 s"):
        fetch(wanted(server), tmp_path / "file.bin", Silent())


def test_two_processes_do_not_write_one_file(server: Server, tmp_path: Path) -> None:
    with downloads.try_lock(tmp_path / ".file.bin.lock"), pytest.raises(DatasetError, match="another process"):
        fetch(wanted(server), tmp_path / "file.bin", Silent())


# -------------------------------------------------------------------------------------------- bench data get
def serve(server: Server, monkeypatch: pytest.MonkeyPatch, name: str, **known: Any) -> None:
    """Point a dataset's downloads at our server, with the checksums of what is served there."""
    kind = DATASETS.load(name)
    moved = []
    for download in kind.card.downloads:
        path = "/" + download.url.rpartition("/")[2]
        content = server.files.get(path, b"")
        digest = hashlib.sha256(content).hexdigest()
        found = replace(download, url=server.url + path, sha256=digest, bytes=len(content))
        moved.append(replace(found, **known))
    monkeypatch.setattr(kind, "card", replace(kind.card, downloads=tuple(moved)))


@pytest.fixture
def cifar(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Server:
    write_cifar10(tmp_path / "made")
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as tar:
        tar.add(tmp_path / "made/cifar-10-batches-py", "cifar-10-batches-py")
    server.files = {"/cifar-10-python.tar.gz": packed.getvalue()}
    serve(server, monkeypatch, "cifar10")
    return server


def test_get_downloads_checks_and_unpacks(cifar: Server, tmp_path: Path, bench: Callable) -> None:
    cifar.cuts = [1000]
    done = bench("data", "get", "cifar10", "--root", "new/data")
    assert done.returncode == 0, done.stderr
    for part in ("licence: none stated", "as published", "unpacked 7 files into new/data", "bench data verify cifar10"):
        assert part in done.stdout
    assert left(tmp_path / "new/data") == ["cifar-10-batches-py"]
    again = bench("data", "get", "cifar10", "--root", "new/data")
    assert again.returncode == 0
    assert "cifar10 is at new/data/cifar-10-batches-py" in again.stdout
    assert len(cifar.seen) == 2, "one cut, one finished, none the second time"


def test_get_says_when_a_checksum_could_not_be_compared(
    cifar: Server, monkeypatch: pytest.MonkeyPatch, bench: Callable
) -> None:
    serve(cifar, monkeypatch, "cifar10", sha256="")
    done = bench("data", "get", "cifar10")
    digest = hashlib.sha256(cifar.files["/cifar-10-python.tar.gz"]).hexdigest()
    assert f"SHA-256 {digest}, which could not be compared" in done.stdout
    assert done.returncode == 0


def test_get_refuses_a_wrong_file(cifar: Server, monkeypatch: pytest.MonkeyPatch, bench: Callable) -> None:
    serve(cifar, monkeypatch, "cifar10", sha256="0" * 64)
    done = bench("data", "get", "cifar10")
    assert done.returncode == 2
    assert "Expected 0000" in done.stderr


def test_get_keeps_single_files_and_fetches_what_is_missing(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bench: Callable
) -> None:
    write_fmnist(tmp_path / "made")
    raw = tmp_path / "made/FashionMNIST/raw"
    server.files = {f"/{path.name}": path.read_bytes() for path in raw.iterdir()}
    serve(server, monkeypatch, "fmnist")
    (tmp_path / "data/FashionMNIST/raw").mkdir(parents=True)
    kept = "train-images-idx3-ubyte.gz"
    (tmp_path / "data/FashionMNIST/raw" / kept).write_bytes(server.files[f"/{kept}"])
    done = bench("data", "get", "fmnist")
    assert done.returncode == 0, done.stderr
    assert f"{kept} is there already" in done.stdout
    assert sorted(path for path, _ in server.seen) == sorted(set(server.files) - {f"/{kept}"})
    assert left(tmp_path / "data/FashionMNIST/raw") == sorted(path.name for path in raw.iterdir())


def test_get_without_a_network_is_a_message(cifar: Server, monkeypatch: pytest.MonkeyPatch, bench: Callable) -> None:
    serve(cifar, monkeypatch, "cifar10", url="http://127.0.0.1:9/cifar-10-python.tar.gz")
    done = bench("data", "get", "cifar10")
    assert done.returncode == 2
    assert "cannot be reached" in done.stderr


def test_get_says_where_to_get_what_needs_a_form(bench: Callable, tmp_path: Path, tree: Path) -> None:
    done = bench("data", "get", "mvtec", "--root", "here")
    assert done.returncode == 2
    for part in ("mvtec.com", "licence: CC BY-NC-SA 4.0", "Put it into here", "bench data verify mvtec --root here"):
        assert part in done.stdout
    assert not (tmp_path / "here").exists()
    there = bench("data", "get", "folder", "--root", str(tree))
    assert (there.returncode, there.stdout.splitlines()[0]) == (0, f"folder is at {tree}")


def test_get_help_has_an_example(bench: Callable) -> None:
    assert "  bench data get cifar10 --root /data" in bench("data", "get", "--help").stdout


@pytest.mark.parametrize("name", DATASETS.names())
def test_cards_name_addresses_of_the_web_and_whole_checksums(name: str) -> None:
    for download in DATASETS.load(name).card.downloads:
        assert download.url.startswith(("https://", "http://"))
        assert download.url.startswith("https://") or download.sha256, "plain http needs a checksum"
        assert len(download.sha256) in (0, 64) and set(download.sha256) <= set("0123456789abcdef")
        assert not Path(download.folder).is_absolute() and ".." not in Path(download.folder).parts

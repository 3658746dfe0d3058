from __future__ import annotations

import os
import shutil
import struct
import zlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from bench.api import Counts, Finding, Sample
from bench.curate.sheet import COLUMNS, contact_sheet, outline
from bench.curate.twins import twins
from bench.curate.verify import verify
from bench.datasets._tree import TreeDataset
from bench.datasets.folder import Folder
from bench.datasets.mvtec import MVTec
from bench.errors import DatasetError, UsageError


def kinds(root: Path, workers: int = 2) -> list[tuple[str, str]]:
    return [(finding.kind, finding.where) for finding in verify(Folder(root), workers=workers).findings]


def one(root: Path) -> Finding:
    (finding,) = verify(Folder(root), workers=2).findings
    return finding


def test_an_intact_tree_is_clean_and_progress_reaches_the_end(tree: Path) -> None:
    steps: list[tuple[int, int]] = []
    report = verify(Folder(tree), lambda done, total: steps.append((done, total)), workers=3)
    assert report.findings == ()
    assert report.seen == {"dots": Counts(5, 2, 3), "lines": Counts(5, 2, 3)}
    assert steps == [(done, 20) for done in range(1, 21)]


@pytest.mark.parametrize("what", ["truncated", "zeroed", "text", "flipped"])
def test_unreadable_images_are_found(tree: Path, what: str) -> None:
    path = tree / "dots/train/good/003.png"
    raw = bytearray(path.read_bytes())
    if what == "flipped":
        raw[-14] ^= 1  # in the last chunk's checksum: pixels decode, the file is damaged all the same
    content = {"truncated": raw[:300], "zeroed": b"", "text": b"404: not found", "flipped": raw}[what]
    path.write_bytes(bytes(content))
    finding = one(tree)
    assert (finding.cls, finding.kind, finding.where) == ("dots", "unreadable", "dots/train/good/003.png")
    assert str(path) in finding.text
    assert "bench data verify" not in finding.text, "that is the command that runs"


def test_an_unreadable_mask_is_not_called_empty_too(tree: Path) -> None:
    mask = tree / "dots/ground_truth/square/000_mask.png"
    mask.write_bytes(mask.read_bytes()[:60])
    assert kinds(tree) == [("unreadable", "dots/ground_truth/square/000_mask.png")]


def test_a_mask_of_another_size_is_found(tree: Path) -> None:
    Image.new("L", (20, 30), 255).save(tree / "lines/ground_truth/square/002_mask.png")
    finding = one(tree)
    assert finding.kind == "mask-size"
    assert "20x30 pixels. Expected 48x48" in finding.text
    assert str(tree / "lines/test/square/002.png") in finding.text


def test_an_empty_mask_is_found(tree: Path) -> None:
    Image.new("L", (48, 48)).save(tree / "lines/ground_truth/square/002_mask.png")
    assert kinds(tree) == [("empty-mask", "lines/ground_truth/square/002_mask.png")]


def test_the_same_pixels_in_train_and_test_are_found_in_any_format(tree: Path) -> None:
    with Image.open(tree / "dots/train/good/004.png") as image:
        image.save(tree / "dots/test/good/copy.bmp")
    finding = one(tree)
    assert finding.kind == "duplicate"
    assert "dots/train/good/004" in finding.text
    assert "dots/test/good/copy" in finding.text


def test_a_picture_called_normal_and_anomalous_is_found(tree: Path) -> None:
    shutil.copy(tree / "dots/test/square/000.png", tree / "dots/test/good/009.png")
    assert "both normal and anomalous" in one(tree).text


def test_repeats_within_training_are_the_owners_affair(tree: Path) -> None:
    shutil.copy(tree / "dots/train/good/000.png", tree / "dots/train/good/009.png")
    assert kinds(tree) == []


def test_nothing_stops_at_the_first_defect(tree: Path) -> None:
    (tree / "dots/train/good/000.png").write_bytes(b"")
    (tree / "dots/ground_truth/square/001_mask.png").unlink()
    (tree / "lines/test/square/000.png").unlink()
    Image.new("L", (48, 48)).save(tree / "lines/ground_truth/square/001_mask.png")
    Image.new("L", (9, 9), 1).save(tree / "lines/ground_truth/square/002_mask.png")
    assert kinds(tree) == [
        ("missing-mask", "dots/test/square/001.png"),
        ("unreadable", "dots/train/good/000.png"),
        ("orphan-mask", "lines/ground_truth/square/000_mask.png"),
        ("empty-mask", "lines/ground_truth/square/001_mask.png"),
        ("mask-size", "lines/ground_truth/square/002_mask.png"),
    ]
    assert kinds(tree, workers=1) == kinds(tree, workers=4)


def bomb(width: int, height: int) -> bytes:
    """A PNG of a few bytes that says it has that many pixels."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    pixels = zlib.compress(bytes(2**16))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize("side", [10_000, 20_000, 2_000_000])
@pytest.mark.parametrize("name", ["test/square/000.png", "ground_truth/square/000_mask.png"])
def test_image_bombs_are_refused_before_they_are_decoded(tree: Path, side: int, name: str) -> None:
    (tree / "dots" / name).write_bytes(bomb(side, side))
    finding = one(tree)
    assert (finding.kind, finding.where) == ("unreadable", f"dots/{name}")
    assert "pixels, refused before decoding. Expected at most 89,478,485" in finding.text


def test_names_that_are_not_utf8_are_found_and_can_be_printed(bench: Callable, tree: Path) -> None:
    shutil.copy(tree / "dots/train/good/000.png", os.fsencode(tree / "dots/train/good") + b"/caf\xe9.png")
    finding = one(tree)
    assert (finding.kind, finding.where) == ("name", "dots/train/good/caf\\xe9.png")
    assert "not UTF-8" in finding.text
    done = bench("data", "verify", "folder", "--root", str(tree))
    assert done.returncode == 1 and "caf\\xe9.png" in done.stdout
    done = bench("data", "sheet", "folder", "--root", str(tree))
    assert done.returncode == 2 and "not UTF-8" in done.stderr


def test_a_root_that_is_not_utf8_can_be_verified(start_bench: Callable, tree: Path) -> None:
    odd = tree.rename(f"{tree}\udce9")
    process = start_bench("data", "verify", "folder", "--root", str(odd), PYTHONIOENCODING="utf-8")
    told, _ = process.communicate(timeout=120)
    assert process.returncode == 0, told
    assert "tree\\udce9: 20 images of 2 classes" in told


def test_a_thousand_equal_images_are_one_comparison_each(tree: Path) -> None:
    samples = [
        replace(Folder(tree).samples()[0], id=f"{number}", split="train" if number else "test") for number in range(9)
    ]
    equal = twins([(sample, "same") for sample in samples], semantic=False)
    assert [twin.sample.id for twin in equal] == [f"{number}" for number in range(1, 9)]
    assert {twin.other.id for twin in equal} == {"0"}
    assert twins([(sample, "") for sample in samples], semantic=False) == [], "what cannot be read is like nothing"


def test_validation_images_are_counted_apart(bench: Callable, tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def with_validation(self: Folder) -> tuple[tuple[Sample, ...], tuple[Finding, ...]]:
        samples, findings = TreeDataset.inspect(self)
        moved = (replace(sample, split="val") if sample.id.endswith("good/004") else sample for sample in samples)
        return tuple(moved), findings

    monkeypatch.setattr(Folder, "inspect", with_validation)
    card = replace(Folder.card, counts={"dots": Counts(4, 2, 3, 1), "lines": Counts(4, 2, 3, 2)})
    monkeypatch.setattr(Folder, "card", card)
    report = verify(Folder(tree))
    assert report.seen == {"dots": Counts(4, 2, 3, 1), "lines": Counts(4, 2, 3, 1)}
    assert [finding.text for finding in report.findings] == ["lines: 1 validation images. Expected 2, as published"]
    told = bench("data", "verify", "folder", "--root", str(tree)).stdout
    assert "validation" in told and "1 / 2" in told and "20 images of 2 classes" in told


def test_counts_are_compared_with_the_published_ones(tmp_path: Path, write_tree: Callable[..., Path]) -> None:
    report = verify(MVTec(write_tree(tmp_path / "mvtec", classes=("bottle",))))
    assert report.seen == {"bottle": Counts(5, 2, 3)}
    assert [finding.kind for finding in report.findings] == ["count"] * 3
    assert "bottle: 5 training images. Expected 209" in report.findings[0].text


def test_a_dataset_without_a_tolerant_reader_reports_its_error(tmp_path: Path) -> None:
    class Strict(MVTec):
        inspect = None  # type: ignore[assignment]

        def samples(self) -> tuple[Sample, ...]:
            raise DatasetError("no split file")

    (finding,) = verify(Strict(tmp_path)).findings
    assert (finding.kind, finding.text) == ("layout", "no split file")


def test_real_bottles_are_clean(shared: Path, tmp_path: Path) -> None:
    (tmp_path / "bottle").symlink_to(shared / "data/mvtec/bottle")
    report = verify(MVTec(tmp_path))
    assert report.findings == ()
    assert report.seen == {"bottle": Counts(209, 20, 63)}


def test_real_leather_is_a_sample_and_said_to_be(shared: Path) -> None:
    report = verify(MVTec(shared / "data/mvtec_partial"))
    assert report.seen == {"leather": Counts(4, 4, 11)}
    assert {finding.kind for finding in report.findings} == {"count"}


def test_command_ends_with_0_when_clean_and_1_when_not(bench: Callable, tree: Path) -> None:
    clean = bench("data", "verify", "folder", "--root", str(tree))
    assert clean.returncode == 0, clean.stderr
    assert "clean  folder at" in clean.stdout
    assert "20 images of 2 classes" in clean.stdout
    broken = tree / "dots/train/good/000.png"
    broken.write_bytes(b"")
    found = bench("data", "verify", "folder", "--root", str(tree))
    assert found.returncode == 1
    assert "unreadable (1)" in found.stdout
    assert f"{broken}: an empty file (0 bytes)" in found.stdout
    assert "1 finding " in found.stdout


def test_command_shortens_long_lists_unless_asked(bench: Callable, tmp_path: Path, write_tree: Callable) -> None:
    root = write_tree(tmp_path / "many", classes=("dots",), train=25)
    for path in (root / "dots/train/good").iterdir():
        path.write_bytes(b"")
    short = bench("data", "verify", "folder", "--root", str(root)).stdout
    assert "... 5 more; list them with --all" in short
    assert short.count("an empty file") == 20
    assert bench("data", "verify", "folder", "--root", str(root), "--all").stdout.count("an empty file") == 25


def test_command_shows_published_counts_and_absent_classes(
    bench: Callable, tmp_path: Path, write_tree: Callable
) -> None:
    write_tree(tmp_path / "mvtec", classes=("bottle",))
    done = bench("data", "verify", "mvtec", "--root", str(tmp_path))
    assert done.returncode == 1
    assert "5 / 209" in done.stdout
    assert "not here: carpet, grid, leather" in done.stdout
    assert "1 of 15 classes" in done.stdout


def test_users_mistakes_end_with_2(bench: Callable, tmp_path: Path, tree: Path) -> None:
    for arguments, told in (
        (("verify", "mvtek", "--root", str(tree)), "Did you mean 'mvtec'?"),
        (("verify", "mvtec"), "no data root given"),
        (("verify", "mvtec", "--root", str(tmp_path / "gone")), "no folder"),
        (("verify",), "Missing argument 'NAME'"),
        (("sheet", "folder", "--root", str(tree), "--classes", "dots,cables"), "no class 'cables'"),
        (("sheet", "folder", "--root", str(tree), "--out", "sheet.jpg"), "ends in .png"),
        (("sheet", "folder", "--root", str(tree), "--out", "/dev/null/x.png"), "cannot be written"),
    ):
        done = bench("data", *arguments)
        assert done.returncode == 2, arguments
        assert told in done.stderr, arguments


def test_a_folder_of_ones_own_is_given_by_its_path(
    bench: Callable, tmp_path: Path, tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tree.parent)
    done = bench("data", "verify", f"./{tree.name}")
    assert done.returncode == 0
    assert f"bench run --methods METHOD --datasets ./{tree.name}\n" in done.stderr
    assert bench("data", "sheet", f"./{tree.name}").returncode == 0
    assert Path(f"{tree.name}-sheet.png").is_file()
    both = bench("data", "verify", f"./{tree.name}", "--root", str(tmp_path))
    assert both.returncode == 2 and "two folders" in both.stderr


def test_the_command_that_verifies_a_named_folder_knows_no_name_of_it(
    tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from bench import own
    from bench.plan.task import verify_command
    from bench.registry import DATASETS

    monkeypatch.setattr(DATASETS, "targets", dict(DATASETS.targets))
    own.resolved([str(tree)], [])
    assert verify_command(tree.name, Folder(tree)) == f"bench data verify folder --root {tree}"
    assert verify_command("mvtec", Folder(tree)) == f"bench data verify mvtec --root {tree}"


def test_sheet_command_writes_a_png(bench: Callable, tmp_path: Path, tree: Path) -> None:
    done = bench("data", "sheet", "folder", "--root", str(tree), "--classes", "lines", "--out", "new/sheet.png")
    assert done.returncode == 0, done.stderr
    with Image.open(tmp_path / "new/sheet.png") as image:
        assert f"{image.width}x{image.height}" in done.stdout


@pytest.mark.parametrize("command", ["verify", "sheet"])
def test_help_has_an_example(bench: Callable, command: str) -> None:
    told = " ".join(bench("data", command, "--help").stdout.split())
    assert f"Example: bench data {command} mvtec --root /data/mvtec" in told


def red(image: Image.Image) -> np.ndarray:
    return (np.asarray(image) == (255, 0, 72)).all(axis=2)


def test_sheet_marks_masks_beside_the_clean_image(tree: Path) -> None:
    alone = contact_sheet(Folder(tree), ["dots"])
    both = contact_sheet(Folder(tree), ["dots", "lines"])
    assert both.width == alone.width
    assert both.height > 1.8 * alone.height
    cell = alone.width // COLUMNS
    columns = [red(alone)[:, column * cell : (column + 1) * cell].any() for column in range(COLUMNS)]
    assert columns == [False, True, False, True, False, False, False, False]


def test_sheet_of_classes_without_masks_marks_nothing(tree: Path) -> None:
    shutil.rmtree(tree / "dots/ground_truth")
    assert not red(contact_sheet(Folder(tree), ["dots"])).any()


def test_sheet_refuses_an_unknown_class(tree: Path) -> None:
    with pytest.raises(UsageError, match=r"no class 'nuts'.*There: dots, lines"):
        contact_sheet(Folder(tree), ["nuts"])


def test_outline_shows_a_single_native_pixel_and_leaves_the_rest() -> None:
    image = Image.new("RGB", (100, 100), (10, 20, 30))
    mask = np.zeros((2000, 2000), np.bool_)
    mask[1000, 1000] = True
    marked = np.asarray(outline(image, mask))
    assert red(Image.fromarray(marked)).sum() > 8
    changed = np.argwhere((marked != (10, 20, 30)).any(axis=2))
    assert changed.min() >= 46
    assert changed.max() <= 54


def test_totals_are_compared_where_all_classes_are_there(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = replace(Folder.card, classes=("dots", "lines"), totals=Counts(10, 4, 7))
    monkeypatch.setattr(Folder, "card", whole)
    finding = one(tree)
    assert (finding.kind, finding.cls) == ("count", "all classes")
    assert finding.text == "all classes: 6 anomalous test images. Expected 7, as published"
    monkeypatch.setattr(Folder, "card", replace(whole, totals=Counts(10, 4, 6)))
    assert verify(Folder(tree), workers=2).findings == ()
    monkeypatch.setattr(Folder, "card", replace(whole, classes=("dots", "lines", "rings")))
    assert one(tree).kind == "layout"

"""What is read otherwise than it looks: found by verify, said and recorded by a run."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFilter

from bench.api import Finding
from bench.curate.verify import verify
from bench.datasets.folder import Folder
from bench.store import record as records

MASKS = "ground_truth/square/*_mask.png"


def findings(root: Path) -> list[Finding]:
    found = verify(Folder(root), workers=2).findings
    assert all(not finding.stops for finding in found)
    return list(found)


def kinds(root: Path) -> list[tuple[str, str]]:
    return [(finding.kind, finding.where) for finding in findings(root)]


def redraw(path: Path, change: Callable[[np.ndarray], np.ndarray], suffix: str = "", **options: object) -> None:
    """Write a changed picture in a file's place, perhaps in another format."""
    with Image.open(path) as image:
        pixels = np.asarray(image)
    path.unlink()
    Image.fromarray(change(pixels)).save(path.with_suffix(suffix or path.suffix), **options)


def turned(path: Path, suffix: str) -> None:
    exif = Image.Exif()
    exif[0x0112] = 3
    redraw(path, lambda pixels: pixels, suffix, exif=exif)


@pytest.fixture
def dots(tmp_path: Path, write_tree: Callable[..., Path]) -> Path:
    return write_tree(tmp_path / "tree", classes=("dots",))


def test_inverted_masks_are_one_finding_of_the_class(dots: Path) -> None:
    for path in (dots / "dots").glob(MASKS):
        redraw(path, lambda pixels: 255 - pixels)
    (found,) = findings(dots)
    assert (found.cls, found.kind, found.where) == ("dots", "wide-mask", "dots")
    assert "its 3 masks mark 93.8% of their images on average, and the whole border of each" in found.text
    assert "Expected the defect alone above zero; inverted?" in found.text


def test_inverted_masks_of_large_defects_are_found_by_their_border(dots: Path) -> None:
    for path in (dots / "dots").glob(MASKS):
        whole = np.full((48, 48), 255, np.uint8)
        whole[1:-1, 1:-1] = 0
        redraw(path, lambda pixels, whole=whole: whole)  # type: ignore[misc]
    assert kinds(dots) == [("wide-mask", "dots")]


def test_one_inverted_mask_among_others_is_a_finding_of_its_own(dots: Path) -> None:
    redraw(dots / "dots/ground_truth/square/001_mask.png", lambda pixels: 255 - pixels)
    assert kinds(dots) == [("wide-mask", "dots/ground_truth/square/001_mask.png")]


def test_large_defects_are_none(dots: Path) -> None:
    large = np.zeros((48, 48), np.uint8)
    large[10:, 4:] = 255
    redraw(dots / "dots/ground_truth/square/001_mask.png", lambda pixels: large)
    assert kinds(dots) == []


@pytest.mark.parametrize(("suffix", "options"), [(".jpg", {}), (".webp", {}), (".tif", {"compression": "jpeg"})])
def test_masks_in_a_lossy_format_are_found(dots: Path, suffix: str, options: dict[str, object]) -> None:
    redraw(dots / "dots/ground_truth/square/001_mask.png", lambda pixels: pixels, suffix, **options)
    (found,) = findings(dots)
    assert (found.kind, found.where) == ("lossy-mask", f"dots/ground_truth/square/001_mask{suffix}")
    assert "Expected PNG, BMP or TIFF of 0 and 255" in found.text


def test_masks_with_soft_edges_are_one_finding_of_the_class_and_smooth_ones_are_none(dots: Path) -> None:
    for path in (dots / "dots").glob(MASKS):
        with Image.open(path) as image:
            image.filter(ImageFilter.GaussianBlur(2)).save(path)
    (found,) = findings(dots)
    assert (found.kind, found.where) == ("soft-mask", "dots")
    assert "3 masks have soft edges" in found.text and "times the area above half" in found.text
    for path in (dots / "dots").glob(MASKS):
        kinds_of_defects = np.zeros((48, 48), np.uint8)
        kinds_of_defects[8:20, 8:20] = np.arange(1, 10).repeat(16).reshape(12, 12)
        kinds_of_defects[20:24, 8:20] = 255
        redraw(path, lambda pixels, new=kinds_of_defects % 7: new)  # type: ignore[misc]
    assert kinds(dots) == [], "numbers of kinds are no shades"


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp"])
def test_orientations_of_images_and_masks_are_found(dots: Path, suffix: str) -> None:
    turned(dots / "dots/train/good/000.png", suffix)
    turned(dots / "dots/ground_truth/square/000_mask.png", ".png")
    assert kinds(dots) == [
        ("orientation", "dots/ground_truth/square/000_mask.png"),
        ("orientation", f"dots/train/good/000{suffix}"),
    ]
    assert "EXIF orientation 3, which viewers apply and bench does not" in findings(dots)[0].text


def test_several_pictures_in_a_file_are_found(dots: Path) -> None:
    for name in ("dots/test/good/000.png", "dots/ground_truth/square/000_mask.png"):
        with Image.open(dots / name) as image:
            image.save((dots / name).with_suffix(".tif"), save_all=True, append_images=[image.rotate(90)])
        (dots / name).unlink()
    assert [kind for kind, _ in kinds(dots)] == ["frames", "frames"]


@pytest.mark.parametrize("how", ["RGBA", "LA", "palette", "colour key"])
def test_transparent_images_are_found(dots: Path, how: str) -> None:
    path = dots / "dots/test/square/000.png"
    with Image.open(path) as image:
        picture = image.convert("RGB")
    picture.putpixel((3, 3), (1, 2, 3))
    if how == "palette":
        flat = picture.quantize(8)
        flat.save(path, transparency=flat.getpixel((0, 0)))
    elif how == "colour key":
        picture.save(path, transparency=(1, 2, 3))
    else:
        clear = picture.convert(how)
        clear.putalpha(Image.linear_gradient("L").resize(clear.size))
        clear.save(path)
    (found,) = findings(dots)
    assert (found.kind, found.where) == ("transparent", "dots/test/square/000.png")
    assert "% of its pixels are transparent, yet their colours are read" in found.text


def deep(root: Path, factor: int, pattern: str = "t*/*/*.png") -> None:
    for path in root.glob(pattern):
        redraw(path, lambda pixels: pixels[..., 0].astype(np.uint16) * factor)


@pytest.mark.parametrize(("factor", "bits"), [(16, 12), (4, 10), (64, 14), (1, 8)])
def test_16_bit_images_that_use_the_lower_bits_are_one_finding_of_the_class(tree: Path, factor: int, bits: int) -> None:
    deep(tree / "dots", factor)
    found = [finding for finding in findings(tree) if finding.kind == "low-bits"]
    assert [(finding.cls, finding.where) for finding in found] == [("dots", "dots")]
    assert f"{bits}-bit data?" in found[0].text and f"multiply by {1 << 16 - bits}" in found[0].text
    assert "10 images of 16 bits" in found[0].text


def test_dark_images_among_bright_ones_of_16_bits_are_none(tree: Path) -> None:
    deep(tree / "dots", 16)
    redraw(tree / "dots/test/square/002.png", lambda pixels: pixels * 16)
    assert kinds(tree) == []


def test_an_image_whose_masks_are_all_zero_is_found(dots: Path) -> None:
    redraw(dots / "dots/ground_truth/square/001_mask.png", lambda pixels: pixels * 0)
    (found,) = findings(dots)
    assert (found.kind, found.where) == ("empty-mask", "dots/ground_truth/square/001_mask.png")
    assert "all zero" in found.text and "its pixels count as normal" in found.text


def test_a_run_says_and_records_what_it_reads_otherwise_than_it_looks(
    bench: Callable, dots: Path, small: Callable[..., list[str]]
) -> None:
    redraw(dots / "dots/ground_truth/square/001_mask.png", lambda pixels: pixels * 0)
    redraw(dots / "dots/ground_truth/square/002_mask.png", lambda pixels: pixels, ".jpg")
    for name in ("train/good/000.png", "train/good/001.png", "test/good/000.png"):
        turned(dots / "dots" / name, ".png")
    command = [*small(), "--data-root", str(dots)]
    done = bench(*command, "--results", "first")
    assert done.returncode == 0, done.stderr
    assert "orientation: " in done.stderr and "(and 2 more)" in done.stderr
    assert "lossy-mask: " in done.stderr and "002_mask.jpg" in done.stderr
    assert "empty-mask: " in done.stderr
    assert f"list all with: bench data verify folder --root {dots}" in done.stderr
    notes = (
        "masks that are all zero, counted as normal pixels: dots 1",
        "masks in a lossy format, of which every value above zero counts: dots 1",
        "files with an EXIF orientation, which is not applied: dots 3",
    )
    (path,) = Path("first").rglob("*.json")
    facts = records.read(path).dataset
    assert set(facts.notes) == set(notes) and not facts.masks_vanished
    shown = " ".join(done.stdout.split())
    assert all(note in shown for note in notes) and "half an evaluation pixel" not in shown
    # what is kept of the decoded images tells it as well
    again = bench(*command, "--results", "second", "--seeds", "1")
    assert again.returncode == 0 and "orientation: " not in again.stderr, "a process says it once"
    (path,) = Path("second").rglob("*.json")
    assert set(records.read(path).dataset.notes) == set(notes)

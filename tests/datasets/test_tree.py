from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from unicodedata import normalize

import pytest
from PIL import Image

from bench.api import Counts, Sample, by_class
from bench.datasets.folder import Folder
from bench.datasets.mvtec import MVTec
from bench.errors import DatasetError
from bench.machine.progress import Silent
from bench.plan.settings import tasks
from bench.plan.task import hashed, index


def counts(samples: tuple[Sample, ...]) -> dict[str, Counts]:
    seen = Counter((sample.cls, sample.split, sample.label) for sample in samples)
    classes = dict.fromkeys(sample.cls for sample in samples)
    return {cls: Counts(seen[cls, "train", 0], seen[cls, "test", 0], seen[cls, "test", 1]) for cls in classes}


def refuses(root: Path, *parts: str) -> None:
    with pytest.raises(DatasetError) as caught:
        Folder(root).samples()
    for part in (*parts, "bench data verify folder"):
        assert part in str(caught.value)


def kinds(root: Path) -> list[tuple[str, str]]:
    return [(finding.kind, finding.where) for finding in Folder(root).inspect()[1]]


def test_samples_say_what_the_folders_say(tree: Path) -> None:
    samples = Folder(tree).samples()
    assert counts(samples) == {"dots": Counts(5, 2, 3), "lines": Counts(5, 2, 3)}
    wanted = "dots/test/square/001"
    assert next(sample for sample in samples if sample.id == wanted) == Sample(
        id=wanted,
        cls="dots",
        split="test",
        label=1,
        defect="square",
        image=tree / "dots/test/square/001.png",
        masks=(tree / "dots/ground_truth/square/001_mask.png",),
    )
    assert all(sample.defect == "good" and not sample.masks for sample in samples if not sample.label)


def test_masks_are_paired_by_stem_whatever_the_extension(tree: Path) -> None:
    truth = tree / "dots/ground_truth/square"
    (truth / "000_mask.png").rename(truth / "000.png")
    with Image.open(truth / "001_mask.png") as mask:
        mask.save(truth / "001_mask.BMP")
    (truth / "001_mask.png").unlink()
    with Image.open(tree / "dots/test/square/002.png") as image:
        image.save(tree / "dots/test/square/002.JPEG")
    (tree / "dots/test/square/002.png").unlink()
    found = {s.image.name: s.masks[0].name for s in by_class(Folder(tree).samples())["dots"] if s.label}
    assert found == {"000.png": "000.png", "001.png": "001_mask.BMP", "002.JPEG": "002_mask.png"}


@pytest.mark.parametrize("what", ["class", "defect", "image"])
def test_names_are_the_same_in_either_unicode_form(tree: Path, tmp_path: Path, what: str) -> None:
    """One system stores an umlaut as one character, another as two; ids and fingerprints do not tell them apart."""
    renamed = {
        "class": ["dots"],
        "defect": ["dots/test/square", "dots/ground_truth/square"],
        "image": ["dots/test/square/000.png", "dots/ground_truth/square/000_mask.png"],
    }
    found = []
    for form in ("NFC", "NFD"):
        root = tmp_path / form
        shutil.copytree(tree, root)
        for part in renamed[what]:
            path = root / part
            path.rename(path.with_name(normalize(form, f"zä{path.name}")))
        (task,) = tasks(hashed(index("folder", root, ()), Silent()), "multi")
        assert all(sample.masks for sample in task.test if sample.label)
        found.append((task.fingerprint, task.classes, [sample.id for sample in (*task.train, *task.test)]))
    assert found[0] == found[1] and any("zä" in name for name in found[0][2])


@pytest.mark.parametrize("folder", ["dots", "dots/test/square"])
def test_folders_that_differ_only_in_unicode_form_are_told(tree: Path, folder: str) -> None:
    path = tree / folder
    for form in ("NFC", "NFD"):
        shutil.copytree(path, path.with_name(normalize(form, f"zä{path.name}")))
    findings = [finding for finding in Folder(tree).inspect()[1] if finding.kind == "name"]
    assert len(findings) == 1 and "only in its Unicode form" in findings[0].text
    with pytest.raises(DatasetError):
        Folder(tree).samples()


def test_hidden_and_other_files_are_ignored(tree: Path) -> None:
    before = Folder(tree).samples()
    for name in (".hidden.png", "._000.png", "Thumbs.db", "notes.txt", "000.png.part"):
        (tree / "dots/train/good" / name).write_bytes(b"x")
        (tree / "dots/ground_truth/square" / name).write_bytes(b"x")
    (tree / "dots/train/good/folder.png").mkdir()
    (tree / ".cache/train").mkdir(parents=True)
    (tree / "reports").mkdir()
    assert Folder(tree).samples() == before


def test_a_dangling_link_is_kept_so_that_reading_it_fails(tree: Path) -> None:
    (tree / "dots/train/good/link.png").symlink_to(tree / "gone.png")
    sample = next(s for s in Folder(tree).samples() if s.id.endswith("/link"))
    with pytest.raises(DatasetError, match="no such file"):
        Folder(tree).read_image(sample)


def test_anomalous_image_without_its_mask(tree: Path) -> None:
    mask = tree / "dots/ground_truth/square/001_mask.png"
    mask.unlink()
    refuses(tree, str(tree / "dots/test/square/001.png"), f"Expected {mask}")
    assert kinds(tree) == [("missing-mask", "dots/test/square/001.png")]


def test_a_missing_image_does_not_shift_the_pairs(tree: Path) -> None:
    (tree / "dots/test/square/000.png").unlink()
    refuses(tree, str(tree / "dots/ground_truth/square/000_mask.png"), "mask without an image")
    samples, findings = Folder(tree).inspect()
    assert [finding.kind for finding in findings] == ["orphan-mask"]
    for sample in samples:
        assert [path.name for path in sample.masks] == [f"{sample.image.stem}_mask.png"] * sample.label


def test_masks_of_a_defect_type_without_images(tree: Path) -> None:
    shutil.rmtree(tree / "dots/test/square")
    assert ("orphan-mask", "dots/ground_truth/square") in kinds(tree)


def test_two_files_of_one_name_are_told_apart(tree: Path) -> None:
    with Image.open(tree / "lines/train/good/002.png") as image:
        image.save(tree / "lines/train/good/002.bmp")
    refuses(tree, "lines/train/good/002", "differs from 002.bmp only in its extension")


@pytest.mark.parametrize(
    ("gone", "told"),
    [
        ("train", "Expected normal images to train on"),
        ("test/good", "Expected normal test images"),
        ("test/square", "no anomalous image"),
    ],
)
def test_a_class_that_cannot_be_trained_or_scored_is_refused(tree: Path, gone: str, told: str) -> None:
    shutil.rmtree(tree / "lines" / gone)
    refuses(tree, str(tree / "lines"))
    assert [finding.cls for finding in Folder(tree).inspect()[1] if told in finding.text] == ["lines"]


def test_training_folders_that_are_not_normal_are_refused(tree: Path) -> None:
    shutil.copytree(tree / "dots/test/square", tree / "dots/train/square")
    refuses(tree, str(tree / "dots/train/square"), "Expected only normal ones")


def test_every_defect_of_a_tree_is_found_at_once(tree: Path) -> None:
    (tree / "dots/ground_truth/square/000_mask.png").unlink()
    (tree / "dots/test/square/002.png").unlink()
    shutil.rmtree(tree / "lines/train")
    assert sorted(kind for kind, _ in kinds(tree)) == ["layout", "missing-mask", "orphan-mask"]
    refuses(tree, "(and 2 more)")


def test_one_class_alone_is_a_dataset(tree: Path) -> None:
    root = Folder.locate(tree / "dots")
    samples = Folder(root).samples()
    assert counts(samples) == {"dots": Counts(5, 2, 3)}
    assert samples == by_class_tuple(Folder(tree).samples(), "dots")


def by_class_tuple(samples: tuple[Sample, ...], cls: str) -> tuple[Sample, ...]:
    return tuple(by_class(samples)[cls])


def test_classes_with_and_without_masks_may_mix(tree: Path) -> None:
    shutil.rmtree(tree / "dots/ground_truth")
    samples = Folder(tree).samples()
    with_masks = {cls: any(sample.masks for sample in found) for cls, found in by_class(samples).items()}
    assert with_masks == {"dots": False, "lines": True}
    assert counts(samples)["dots"] == Counts(5, 2, 3)


@pytest.mark.parametrize("name", ["ok", "normal", "Good"])
def test_other_words_for_normal(tree: Path, name: str) -> None:
    for split in ("train", "test"):
        (tree / "dots" / split / "good").rename(tree / "dots" / split / name)
    samples = by_class(Folder(tree).samples())["dots"]
    assert counts(tuple(samples)) == {"dots": Counts(5, 2, 3)}
    assert f"dots/test/{name}/000" in {sample.id for sample in samples}
    assert {sample.defect for sample in samples if not sample.label} == {"good"}


def test_an_image_may_have_a_folder_of_masks(tree: Path) -> None:
    truth = tree / "dots/ground_truth/square"
    for part in ("001/left.png", "001/right.bmp"):
        (truth / part).parent.mkdir(exist_ok=True)
        Image.new("L", (48, 48), 1).save(truth / part)
    (truth / "001_mask.png").unlink()
    dots = by_class(Folder(tree).samples())["dots"]
    found = {sample.image.stem: [path.name for path in sample.masks] for sample in dots if sample.label}
    assert found["001"] == ["left.png", "right.bmp"]
    assert found["002"] == ["002_mask.png"]


def test_validation_images_are_kept_apart(tree: Path) -> None:
    before = Folder(tree).samples()
    shutil.copytree(tree / "dots/test", tree / "dots/validation")
    added = set(Folder(tree).samples()) - set(before)
    assert {(s.id, s.split, s.label) for s in added} == {(f"dots/val/good/00{n}", "val", 0) for n in (0, 1)}


@pytest.mark.parametrize("name", ["dots/train/good/a\udcff.png", "dots/test/b\udcff/0.png", "c\udcff/train/good/0.png"])
def test_names_that_are_no_text_are_refused_and_can_be_printed(tree: Path, name: str) -> None:
    before = Folder(tree).samples()
    (tree / name).parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(tree / "dots/train/good/000.png", tree / name)
    samples, (finding,) = Folder(tree).inspect()
    assert samples == before
    assert finding.kind == "name"
    assert r"\xff" in finding.where
    refuses(tree, r"\xff", "not UTF-8")
    finding.text.encode()


def test_a_mask_whose_name_is_no_text_is_told(tree: Path) -> None:
    shutil.copy(tree / "dots/ground_truth/square/000_mask.png", tree / "dots/ground_truth/square/\udcff.png")
    refuses(tree, r"\xff.png: mask without an image")


@pytest.mark.parametrize("name", ["mvtec", "mvtec_ad", "mvtec_anomaly_detection", "MVTec-AD"])
def test_mvtec_is_found_in_its_usual_folders(tmp_path: Path, write_tree: Callable[..., Path], name: str) -> None:
    (tmp_path / "visa").mkdir()
    write_tree(tmp_path / name, classes=("screw", "carpet"))
    assert MVTec.locate(tmp_path) == MVTec.locate(tmp_path / name) == tmp_path / name
    assert list(counts(MVTec(tmp_path / name).samples())) == ["carpet", "screw"], "the card's order, not the alphabet's"


def test_mvtec_refuses_what_is_not_there(tmp_path: Path, tree: Path, write_tree: Callable[..., Path]) -> None:
    with pytest.raises(DatasetError, match=r"mvtec: no data root given.*--data-root DIR.*mvtec\.com"):
        MVTec.locate(None)
    with pytest.raises(DatasetError, match=r"no folder .*nowhere.*Expected class folders \(carpet, grid"):
        MVTec.locate(tmp_path / "nowhere")
    with pytest.raises(DatasetError, match=r"found folders dots, lines\. Expected class folders"):
        MVTec.locate(tree)
    with pytest.raises(DatasetError, match="looks like a single class: give its parent"):
        MVTec.locate(write_tree(tmp_path / "one", classes=("bottle",)) / "bottle")
    with pytest.raises(DatasetError, match="no class found, only folders dots, lines"):
        MVTec(tree).samples()


def test_mvtec_needs_masks(tmp_path: Path, write_tree: Callable[..., Path]) -> None:
    root = write_tree(tmp_path / "mvtec", classes=("bottle",))
    shutil.rmtree(root / "bottle/ground_truth")
    with pytest.raises(DatasetError, match=r"ground_truth: no such folder\. Expected the masks"):
        MVTec(root).samples()


def test_mvtecs_card_adds_up_to_the_published_totals() -> None:
    card = MVTec.card
    assert len(card.classes) == 15
    assert tuple(card.counts) == card.classes
    totals = [sum(getattr(c, part) for c in card.counts.values()) for part in ("train", "good", "bad")]
    assert totals == [3629, 467, 1258]


def test_real_bottle_and_screw_have_the_published_counts(shared: Path) -> None:
    root = MVTec.locate(shared / "data")
    samples = MVTec(root).samples()
    assert counts(samples) == {"bottle": Counts(209, 20, 63), "screw": Counts(320, 41, 119)}
    assert all(sample.masks[0].stem == f"{sample.image.stem}_mask" for sample in samples if sample.label)


def test_real_cookies_are_read_as_a_folder(shared: Path) -> None:
    samples = Folder(Folder.locate(shared / "data/aws_cookie")).samples()
    assert counts(samples) == {"cookie": Counts(31, 14, 32)}

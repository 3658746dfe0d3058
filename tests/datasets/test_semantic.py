"""The semantic sets: their files' quirks and defects; what every dataset must keep to is in tests/contract."""

from __future__ import annotations

import gzip
import os
import pickle
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from semantic_layouts import (
    idx_bytes,
    pixels,
    python2_pickle,
    write_cifar10,
    write_cifar100,
    write_fmnist,
    write_view,
)

from bench.api import Counts, Dataset
from bench.curate import sheet
from bench.curate.verify import verify
from bench.datasets._arrays import ArrayDataset
from bench.datasets.fmnist import FashionMNIST
from bench.errors import DatasetError
from bench.registry import DATASETS

SETS = ("cifar10", "cifar100", "fmnist", "view")


def at(name: str, root: Path) -> Dataset:
    kind = DATASETS.load(name)
    return kind(kind.locate(root))


def found(name: str, root: Path) -> list[tuple[str, str]]:
    kinds = [(finding.kind, finding.where) for finding in verify(at(name, root), workers=2).findings]
    return [pair for pair in kinds if pair[0] != "count"]


@pytest.mark.parametrize(
    ("name", "train", "test", "half"),
    [
        ("cifar10", 50_000, 10_000, 5),
        ("cifar100", 50_000, 10_000, 10),
        ("fmnist", 60_000, 10_000, 5),
        ("view", 14_034, 3_000, 3),
    ],
)
def test_cards_add_up(name: str, train: int, test: int, half: int) -> None:
    card = DATASETS.load(name).card
    assert (card.kind, card.masks) == ("semantic", "none")
    assert sum(counts.train for counts in card.counts.values()) == train
    assert sum(counts.good for counts in card.counts.values()) == test
    assert list(card.splits) == ["A", "B", "C", "D"]
    assert all(len(normal) == half for normal in card.splits.values())
    for one, other in ("AB", "CD"):
        assert sorted((*card.splits[one], *card.splits[other])) == sorted(card.classes)


def test_views_splits_are_those_of_the_papers() -> None:
    assert DATASETS.load("view").card.splits == {
        "A": ("buildings", "forest", "glacier"),
        "B": ("mountain", "sea", "street"),
        "C": ("buildings", "glacier", "sea"),
        "D": ("forest", "mountain", "street"),
    }


def test_cifar10s_splits_are_those_of_the_papers() -> None:
    assert DATASETS.load("cifar10").card.splits["C"] == ("airplane", "bird", "deer", "frog", "ship")


def test_cifar_images_are_planes_turned_into_pixels(tmp_path: Path) -> None:
    write_cifar10(tmp_path)
    dataset = at("cifar10", tmp_path)
    sample = next(sample for sample in dataset.samples() if sample.id == "dog/train/3/00005")
    planes = pixels("train/3", 20, 3072)[5].reshape(3, 32, 32)
    assert np.array_equal(np.asarray(dataset.read_image(sample)), np.moveaxis(planes, 0, 2))


def test_pickles_of_python_3_with_text_keys_are_read(tmp_path: Path) -> None:
    (tmp_path / "test").write_bytes(pickle.dumps({"data": pixels("x", 2, 3072), "coarse_labels": [0, 19]}))
    shutil.copy(tmp_path / "test", tmp_path / "train")
    samples = at("cifar100", tmp_path).samples()
    assert [sample.id for sample in samples if sample.split == "test"] == [
        "aquatic_mammals/test/00000",
        "vehicles_2/test/00001",
    ]


@pytest.mark.parametrize("folder", [".", "fashion-mnist", "FashionMNIST/raw", "fmnist/FashionMNIST/raw"])
@pytest.mark.parametrize("zipped", [True, False])
def test_fashion_is_read_plain_and_zipped_where_people_put_it(tmp_path: Path, folder: str, zipped: bool) -> None:
    home = tmp_path / "x"
    written = write_fmnist(home, folder, zipped) if folder != "." else write_fmnist(tmp_path, "x", zipped)
    dataset = at("fmnist", home)
    assert dataset.samples() == written
    sample = next(sample for sample in written if sample.member == "7" and sample.split == "train")
    grey = pixels("train", 30, 28, 28)[7]
    assert np.array_equal(np.asarray(dataset.read_image(sample)), np.repeat(grey[..., None], 3, axis=2))


def test_a_file_is_decoded_once_by_all_threads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_fmnist(tmp_path)
    decoded: list[str] = []
    real = FashionMNIST.decode

    def counted(self: FashionMNIST, path: Path) -> np.ndarray:
        decoded.append(path.name)
        return real(self, path)

    monkeypatch.setattr(FashionMNIST, "decode", counted)
    report = verify(at("fmnist", tmp_path), workers=8)
    assert {finding.kind for finding in report.findings} == {"count"}
    assert sorted(decoded) == ["t10k-images-idx3-ubyte.gz", "train-images-idx3-ubyte.gz"]


def test_indexing_decodes_no_pixels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_fmnist(tmp_path)
    monkeypatch.setattr(FashionMNIST, "decode", lambda self, path: pytest.fail("decoded"))
    assert len(at("fmnist", tmp_path).samples()) == 60


def test_views_single_folders_are_read_too(tmp_path: Path) -> None:
    written = write_view(tmp_path, nested=False)
    assert at("view", tmp_path).samples() == written


@pytest.mark.parametrize("name", ["cifar10", "fmnist"])
def test_masks_are_empty_unless_a_setting_calls_the_image_anomalous(name: str, tmp_path: Path) -> None:
    {"cifar10": write_cifar10, "fmnist": write_fmnist}[name](tmp_path)
    dataset = at(name, tmp_path)
    sample = dataset.samples()[0]
    mask = dataset.read_mask(sample)
    assert mask.shape == dataset.read_image(sample).size and not mask.any()
    with pytest.raises(DatasetError, match="without a pixel mask"):
        dataset.read_mask(replace(sample, label=1))


# ------------------------------------------------------------------------------------------------------- damage
def test_a_pickle_that_would_call_something_is_a_finding_and_an_error(tmp_path: Path, bench: Callable) -> None:
    class Evil:
        def __reduce__(self) -> object:
            return os.system, (f"touch {tmp_path / 'executed'}",)

    write_cifar10(tmp_path)
    home = tmp_path / "cifar-10-batches-py"
    (home / "data_batch_3").write_bytes(pickle.dumps({b"data": Evil(), b"labels": [0]}))
    assert found("cifar10", tmp_path) == [("unreadable", "data_batch_3")]
    with pytest.raises(DatasetError, match=r"data_batch_3: refused, it names posix\.system"):
        at("cifar10", tmp_path).samples()
    done = bench("data", "sheet", "cifar10", "--root", str(tmp_path))
    assert done.returncode == 2 and "posix.system" in done.stderr
    assert not (tmp_path / "executed").exists()


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({b"labels": [0, 1]}, "2 labels for 20 images"),
        ({b"labels": [0] * 19 + [10]}, "label 10. Expected 0 to 9"),
        ({b"labels": [0] * 19 + [-1]}, "label -1. Expected 0 to 9"),
        ({b"labels": [b"0"] * 20}, "no list of numbers 'labels'"),
        ({b"data": pixels("x", 20, 100)}, r"'data' is of shape \(20, 100\)"),
        ({b"data": [1, 2]}, "'data' is missing or no array"),
    ],
)
def test_contradictory_pickles_are_named(tmp_path: Path, change: dict[bytes, object], told: str) -> None:
    write_cifar10(tmp_path)
    path = tmp_path / "cifar-10-batches-py" / "data_batch_2"
    content = {b"labels": [0] * 20, b"data": pixels("x", 20, 3072)}
    path.write_bytes(python2_pickle({**content, **change}))
    with pytest.raises(DatasetError, match=rf"data_batch_2: .*{told}.*bench data verify cifar10"):
        at("cifar10", tmp_path).samples()
    assert found("cifar10", tmp_path) == [("unreadable", "data_batch_2")]


def test_a_pickle_that_is_no_dictionary_is_named(tmp_path: Path) -> None:
    write_cifar10(tmp_path)
    (tmp_path / "cifar-10-batches-py/test_batch").write_bytes(python2_pickle([1]))
    with pytest.raises(DatasetError, match="test_batch: holds a list"):
        at("cifar10", tmp_path).samples()


def test_a_missing_batch_and_other_class_names_are_findings(tmp_path: Path) -> None:
    write_cifar100(tmp_path)
    home = tmp_path / "cifar-100-python"
    (home / "train").unlink()
    (home / "meta").write_bytes(python2_pickle({b"coarse_label_names": [b"fish", b"aquatic_mammals"]}))
    assert found("cifar100", tmp_path) == [("unreadable", "meta"), ("layout", "train")]
    with pytest.raises(DatasetError, match=r"train cannot be read: No such file.*\(and 1 more\)"):
        at("cifar100", tmp_path).samples()


def test_a_damaged_image_file_is_one_finding_not_one_an_image(tmp_path: Path) -> None:
    write_fmnist(tmp_path)
    path = tmp_path / "FashionMNIST/raw/train-images-idx3-ubyte.gz"
    path.write_bytes(path.read_bytes()[:-20])
    assert found("fmnist", tmp_path) == [("unreadable", path.name)] * 10, "one for each class"
    dataset = at("fmnist", tmp_path)
    sample = next(sample for sample in dataset.samples() if sample.split == "train")
    for _ in range(2):
        with pytest.raises(DatasetError, match=r"train-images-idx3-ubyte\.gz: cannot be unpacked"):
            dataset.read_image(sample)


@pytest.mark.parametrize(
    ("name", "values", "told"),
    [
        ("train-labels-idx1-ubyte.gz", np.zeros(29, np.uint8), r"labels \(29,\) for 30 images"),
        ("train-labels-idx1-ubyte.gz", np.full(30, 10, np.uint8), "label 10"),
        ("train-images-idx3-ubyte.gz", np.zeros((30, 28, 27), np.uint8), "Expected images of 28 x 28 pixels"),
    ],
)
def test_contradictory_idx_files_are_named(tmp_path: Path, name: str, values: np.ndarray, told: str) -> None:
    write_fmnist(tmp_path)
    (tmp_path / "FashionMNIST/raw" / name).write_bytes(gzip.compress(idx_bytes(values)))
    with pytest.raises(DatasetError, match=told):
        at("fmnist", tmp_path).samples()


def test_an_image_that_is_not_there_any_more_is_named(tmp_path: Path) -> None:
    write_fmnist(tmp_path)
    dataset = at("fmnist", tmp_path)
    with pytest.raises(DatasetError, match=r"no image 30\. Expected more than the 30"):
        dataset.read_image(replace(dataset.samples()[0], member="30"))


def test_views_oddities_are_findings(tmp_path: Path) -> None:
    write_view(tmp_path)
    home = tmp_path / "seg_train/seg_train"
    shutil.rmtree(home / "sea")
    Image.new("RGB", (9, 9)).save(home / "forest/9.png")
    (home / "street/9.jpg").write_bytes(b"")
    shutil.copy(home / "glacier/10.jpg", os.fsencode(home / "glacier") + b"/caf\xe9.jpg")
    report = verify(at("view", tmp_path), workers=2)
    assert [(finding.kind, finding.where) for finding in report.findings if finding.kind != "count"] == [
        ("duplicate-id", "seg_train/seg_train/forest/9.png"),
        ("name", "seg_train/seg_train/glacier/caf\\xe9.jpg"),
        ("layout", "seg_train/seg_train/sea"),
        ("unreadable", "seg_train/seg_train/street/9.jpg"),
    ]
    for finding in report.findings:
        finding.text.encode()


def test_the_same_pixels_in_two_splits_or_classes_are_found(tmp_path: Path) -> None:
    write_fmnist(tmp_path)
    raw = tmp_path / "FashionMNIST/raw"
    train, test = pixels("train", 30, 28, 28), pixels("test", 30, 28, 28)
    train[4] = train[3]  # other classes: labels are 7 * row % 10
    test[9] = train[20]
    (raw / "train-images-idx3-ubyte.gz").write_bytes(gzip.compress(idx_bytes(train)))
    (raw / "t10k-images-idx3-ubyte.gz").write_bytes(gzip.compress(idx_bytes(test)))
    texts = [finding.text for finding in verify(at("fmnist", tmp_path)).findings if finding.kind == "duplicate"]
    assert len(texts) == 2
    assert any("called both" in text and "00003" in text and "00004" in text for text in texts)
    assert any("in both" in text and "t-shirt/train/00020" in text and "sandal" not in text for text in texts)


# -------------------------------------------------------------------------------------------------- whole commands
def test_verify_command_prints_train_and_test(tmp_path: Path, bench: Callable) -> None:
    write_cifar10(tmp_path)
    done = bench("data", "verify", "cifar10", "--root", str(tmp_path))
    assert done.returncode == 1
    assert "10 / 5000" in done.stdout and "2 / 1000" in done.stdout
    assert "airplane: 2 test images. Expected 1000" in done.stdout
    assert "normal" not in done.stdout and "anomalous" not in done.stdout
    assert "120 images of 10 classes" in done.stdout


@pytest.mark.parametrize(
    ("name", "write"), [("cifar10", write_cifar10), ("fmnist", write_fmnist), ("view", write_view)]
)
def test_sheet_shows_training_and_test_images(
    name: str, write: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path)
    monkeypatch.setattr(sheet, "outline", lambda image, mask: pytest.fail("a mask was drawn"))
    captions: list[str] = []
    real = sheet._fitting
    monkeypatch.setattr(sheet, "_fitting", lambda draw, text, font: captions.append(text) or real(draw, text, font))
    dataset = at(name, tmp_path)
    sheet.contact_sheet(dataset, dataset.card.classes[:1])
    assert {text.partition(" ")[0] for text in captions} == {"train", "test"}


@pytest.mark.parametrize("name", SETS)
def test_show_command_prints_the_card(name: str, bench: Callable) -> None:
    for options in ((), ("--json",)):
        done = bench("show", name, *options)
        assert done.returncode == 0, done.stderr
        assert DATASETS.load(name).card.title in done.stdout


# ------------------------------------------------------------------------------------------------------- real data
@pytest.mark.parametrize(
    ("name", "train", "test"), [("cifar10", 2000, 1000), ("cifar100", 1500, 800), ("view", 360, 180)]
)
def test_real_samples_have_fewer_images_and_no_other_defect(name: str, train: int, test: int, shared: Path) -> None:
    dataset = at(name, shared / "data")
    report = verify(dataset)
    assert {finding.kind for finding in report.findings} == {"count"}
    assert sum(counts.train for counts in report.seen.values()) == train
    assert sum(counts.good for counts in report.seen.values()) == test
    assert len(dataset.samples()) == train + test


def test_real_fashion_is_complete_and_clean(shared: Path) -> None:
    dataset = at("fmnist", shared / "data")
    report = verify(dataset)
    assert report.findings == ()
    assert report.seen == dict.fromkeys(dataset.card.classes, Counts(6000, 1000, 0))


def test_real_cifar100_has_the_files_own_coarse_labels(shared: Path) -> None:
    """An apple is a fruit: fine label 0 is coarse label 4 in every published list."""
    from bench.loading.pickles import read_plain

    dataset = at("cifar100", shared / "data")
    assert isinstance(dataset, ArrayDataset)
    fine = read_plain(dataset.root / "test")[b"fine_labels"]
    apples = {str(row) for row, label in enumerate(fine) if label == 0}
    assert apples
    named = {sample.cls for sample in dataset.samples() if sample.split == "test" and sample.member in apples}
    assert named == {"fruit_and_vegetables"}

"""What the harness relies on, for every registered dataset: on miniatures, and on what the demo generates itself."""

from __future__ import annotations

import shutil
import sys
from dataclasses import replace
from pathlib import Path
from typing import cast

import numpy as np
import pytest
from layouts import LAYOUTS, Writer
from PIL import Image

from bench.api import Dataset, Sample, by_class
from bench.demo.write import generate
from bench.errors import DatasetError
from bench.loading.images import peek_size
from bench.registry import DATASETS


def few_of_the_demo(folder: Path) -> Dataset:
    kind = DATASETS.load("demo")
    root = kind.locate(folder)
    generate(root, counts=dict.fromkeys(kind.card.classes, (2, 1, 1)))
    return kind(root)


@pytest.fixture(scope="module", params=DATASETS.names())
def built(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """Every dataset on files of its own: a miniature in its layout, or a few of the pictures that it generates."""
    folder = tmp_path_factory.mktemp(request.param)
    return few_of_the_demo(folder) if request.param == "demo" else miniature(request.param, folder)


@pytest.fixture(params=[name for name in DATASETS.names() if name != "demo"])
def damaged(request: pytest.FixtureRequest, tmp_path: Path) -> Dataset:
    """A miniature that a test may damage."""
    return miniature(request.param, tmp_path / "data")


def miniature(name: str, folder: Path) -> Dataset:
    kind = DATASETS.load(name)
    writer(name)(folder)
    return kind(kind.locate(folder))


def writer(name: str) -> Writer:
    """Return what writes a miniature of a dataset: of bench's own in layouts.py, of a plug-in beside its class."""
    found = LAYOUTS.get(name) or getattr(sys.modules[DATASETS.load(name).__module__], "miniature", None)
    if found is None:
        pytest.fail(
            f"no miniature of {name}: tests/builders/layouts.py has one of each dataset, a plug-in a function "
            "`miniature(root)` that writes one and returns its samples",
            pytrace=False,
        )
    return cast("Writer", found)


def single_masked(dataset: Dataset) -> Sample:
    if dataset.card.masks == "none":
        pytest.skip(f"{dataset.card.name} has no masks")
    return next(sample for sample in dataset.samples() if len(sample.masks) == 1)


@pytest.mark.parametrize("name", [name for name in DATASETS.names() if name != "demo"])
def test_what_was_written_is_read_back(name: str, tmp_path: Path) -> None:
    written = writer(name)(tmp_path)
    kind = DATASETS.load(name)
    assert kind(kind.locate(tmp_path)).samples() == written


def test_card_is_complete(built: Dataset) -> None:
    card = built.card
    assert DATASETS.load(card.name) is type(built), "registered under another name than the card's"
    assert all((card.title, card.licence, card.citation, card.source))
    assert len(set(card.classes)) == len(card.classes)
    assert set(card.counts) <= set(card.classes)
    assert DATASETS.summary(card.name)


def test_ids_are_unique_and_portable(built: Dataset) -> None:
    ids = [sample.id for sample in built.samples()]
    assert len(set(ids)) == len(ids) > 0
    assert not [name for name in ids if "\\" in name or str(built.root) in name or name.startswith("/")]


def test_samples_come_in_the_cards_order_and_the_same_each_time(built: Dataset) -> None:
    samples = built.samples()
    assert samples == built.samples() == type(built)(built.root).samples()
    groups = by_class(samples)
    order = built.card.classes or tuple(sorted(groups))
    assert list(groups) == [cls for cls in order if cls in groups]
    assert list(samples) == [s for found in groups.values() for s in sorted(found, key=lambda s: s.id)]


def test_labels_agree_with_defects_and_training_is_normal(built: Dataset) -> None:
    for sample in built.samples():
        assert (sample.label is None) == (sample.split == "unlabelled")
        assert sample.label in (None, 0, 1)
        assert (sample.defect == "good") == (sample.label == 0), sample.id
        assert sample.split != "train" or sample.label == 0 or built.noisy, sample.id
        assert (sample.label and sample.split == "test") or not sample.masks, sample.id


def test_every_class_can_be_trained_and_scored(built: Dataset) -> None:
    for cls, found in by_class(built.samples()).items():
        needed = {("train", 0)} | (set() if built.card.kind == "auxiliary" else {("test", 0)})
        needed |= {("test", 1)} if built.card.kind == "industrial" else set()
        assert needed <= {(s.split, s.label) for s in found}, cls


def test_files_exist_and_masks_fit(built: Dataset) -> None:
    for sample in built.samples():
        assert sample.image.is_file()
        assert all(path.is_file() for path in sample.masks)
        tested = sample.label and sample.split == "test"
        assert sample.masks or not tested or built.card.masks != "pixel", sample.id
    for found in by_class(built.samples()).values():
        for sample in (found[0], *(s for s in found if s.label)):
            image = built.read_image(sample)
            assert image.mode == "RGB"
            if sample.member or (sample.label and not sample.masks):
                continue
            mask = built.read_mask(sample)
            assert image.size == peek_size(sample.image)
            assert mask.dtype == np.bool_
            assert mask.shape == (image.height, image.width)
            assert mask.any() == bool(sample.label)


def test_an_empty_folder_is_no_dataset(built: Dataset, tmp_path: Path) -> None:
    if built.card.name == "demo":
        pytest.skip("the demo writes its files into an empty folder")
    with pytest.raises(DatasetError, match=rf"{built.card.name} is not at .*found no folders.*Expected"):
        type(built).locate(tmp_path)


def test_a_missing_root_is_refused(built: Dataset, tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"no folder .*gone.*Expected"):
        type(built).locate(tmp_path / "gone")


def test_a_corrupt_image_is_named(damaged: Dataset) -> None:
    sample = damaged.samples()[0]
    if sample.member:
        pytest.skip(f"{damaged.card.name} keeps many images in one file")
    sample.image.write_bytes(sample.image.read_bytes()[:100])
    with pytest.raises(DatasetError) as caught:
        damaged.read_image(sample)
    assert str(sample.image) in str(caught.value)
    assert "bench data verify" in str(caught.value)


def test_a_mask_of_another_size_is_named(damaged: Dataset) -> None:
    sample = single_masked(damaged)
    width, height = peek_size(sample.image)
    Image.new("L", (20, 30), 255).save(sample.masks[0])
    with pytest.raises(DatasetError) as caught:
        damaged.read_mask(sample)
    for part in (str(sample.masks[0]), "20x30", str(sample.image), f"{width}x{height}", "bench data verify"):
        assert part in str(caught.value)


def test_an_anomalous_image_without_its_mask_is_named(damaged: Dataset) -> None:
    sample = single_masked(damaged)
    sample.masks[0].unlink()
    with pytest.raises(DatasetError) as caught:
        damaged.samples()
    for part in (str(sample.image), str(sample.masks[0]), f"bench data verify {damaged.card.name}"):
        assert part in str(caught.value)
    with pytest.raises(DatasetError, match="without a pixel mask"):
        damaged.read_mask(replace(sample, masks=()))


def test_a_missing_class_of_a_complete_dataset_names_those_there(tmp_path: Path) -> None:
    demo = few_of_the_demo(tmp_path)
    gone, *kept = demo.card.classes
    shutil.rmtree(demo.root / gone)
    with pytest.raises(DatasetError, match=rf"no class '{gone}'.*Classes found: {', '.join(kept)}"):
        demo.samples()

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from layouts import area, write_btad, write_mpdd
from PIL import Image

from bench.curate.verify import verify
from bench.datasets.btad import BTAD
from bench.datasets.mpdd import MPDD
from bench.errors import DatasetError


@pytest.fixture
def btad(tmp_path: Path) -> BTAD:
    write_btad(tmp_path)
    return BTAD(BTAD.locate(tmp_path))


def test_bmp_and_png_are_paired_by_stem(btad: BTAD) -> None:
    bad = [sample for sample in btad.samples() if sample.label]
    pairs = {(sample.cls, sample.image.suffix, sample.masks[0].suffix) for sample in bad}
    assert pairs == {("01", ".bmp", ".png"), ("02", ".png", ".png"), ("03", ".bmp", ".bmp")}
    assert all(sample.image.stem == sample.masks[0].stem for sample in bad)
    assert all(np.array_equal(btad.read_mask(sample), area(6, 20)) for sample in bad)


def test_a_missing_image_does_not_shift_the_pairs(btad: BTAD) -> None:
    (btad.root / "03/test/ko/000.bmp").unlink()
    samples, findings = btad.inspect()
    assert [(finding.kind, finding.where) for finding in findings] == [("orphan-mask", "03/ground_truth/ko/000.bmp")]
    assert {sample.masks[0].stem for sample in samples if sample.cls == "03" and sample.label} == {"001"}


def test_an_empty_mask_leaves_the_image_anomalous_and_is_reported(btad: BTAD) -> None:
    sample = next(s for s in btad.samples() if s.label)
    Image.new("L", (48, 40)).save(sample.masks[0])
    assert next(s for s in btad.samples() if s.id == sample.id).label == 1
    assert "empty-mask" in {finding.kind for finding in verify(btad).findings}


def test_btads_words_are_ok_and_ko(btad: BTAD) -> None:
    (btad.root / "01/train/ok").rename(btad.root / "01/train/good")
    with pytest.raises(DatasetError, match="Expected only normal ones, in train/ok"):
        btad.samples()


@pytest.mark.parametrize(("kind", "totals"), [(BTAD, [1799, 451, 290]), (MPDD, [888, 176, 282])], ids=["btad", "mpdd"])
def test_cards_add_up_to_the_published_totals(kind: type[BTAD | MPDD], totals: list[int]) -> None:
    assert [sum(getattr(c, part) for c in kind.card.counts.values()) for part in ("train", "good", "bad")] == totals


def test_mpdd_is_read_in_the_cards_order(tmp_path: Path) -> None:
    write_mpdd(tmp_path / "MPDD")
    dataset = MPDD(MPDD.locate(tmp_path))
    assert list(dict.fromkeys(sample.cls for sample in dataset.samples())) == ["connector", "tubes"]

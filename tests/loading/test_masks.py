from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from made_tiffs import tiff
from PIL import Image, ImageCms, ImageFilter, ImageOps
from torchvision import transforms

from bench.api import Sample
from bench.errors import DatasetError
from bench.loading.images import read_rgb
from bench.loading.masks import AlphaError, look, nearest_index, read_mask_file, read_union, to_evaluation
from bench.protocol import COMMON

DINOMALY = replace(COMMON, name="paper:dinomaly", crop=392 / 448, mask_rule="dinomaly")
ADER = replace(COMMON, name="paper:vitad", mask_rule="ader")


def sample(tmp_path: Path, *masks: Path, size: tuple[int, int] = (6, 4), label: int = 1) -> Sample:
    image = tmp_path / "image.png"
    Image.new("RGB", size).save(image)
    return Sample("x/test/bad/image", "x", "test", label, "bad" if label else "good", image, masks=masks)


def blob(height: int, width: int, seed: int, share: float = 0.3) -> np.ndarray:
    return np.random.default_rng(seed).random((height, width)) < share


def test_union_counts_any_nonzero_value_of_any_file(tmp_path: Path) -> None:
    first, second = np.zeros((4, 6), np.uint8), np.zeros((4, 6, 3), np.uint8)
    first[0, 0] = 1
    second[3, 5, 2] = 7
    Image.fromarray(first).save(tmp_path / "a.png")
    Image.fromarray(second).save(tmp_path / "b.bmp")
    union = read_union(sample(tmp_path, tmp_path / "a.png", tmp_path / "b.bmp"))
    assert union.dtype == np.bool_
    assert np.argwhere(union).tolist() == [[0, 0], [3, 5]]


def test_normal_sample_has_an_empty_mask_of_its_images_size(tmp_path: Path) -> None:
    union = read_union(sample(tmp_path, label=0))
    assert union.shape == (4, 6)
    assert not union.any()


def test_anomalous_sample_without_mask_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"x/test/bad/image.*without a pixel mask"):
        read_union(sample(tmp_path))


def test_size_mismatch_names_both_files_and_sizes(tmp_path: Path) -> None:
    Image.new("L", (5, 4)).save(tmp_path / "m.png")
    with pytest.raises(DatasetError) as caught:
        read_union(sample(tmp_path, tmp_path / "m.png"))
    for part in (str(tmp_path / "m.png"), "5x4", str(tmp_path / "image.png"), "6x4", "bench data verify"):
        assert part in str(caught.value)


def drawn(mode: str, background: object, defect: object) -> Image.Image:
    """A mask of 8 x 6 pixels with a defect of 3 x 2 at (2, 3)."""
    image = Image.new(mode, (8, 6), background)  # type: ignore[arg-type]
    image.paste(defect, (2, 3, 5, 5))  # type: ignore[arg-type]
    return image


AREA = np.zeros((6, 8), bool)
AREA[3:5, 2:5] = True


@pytest.mark.parametrize(
    ("mode", "suffix"),
    [
        *(("CMYK", "tif"), ("CMYK", "jpg"), ("YCbCr", "tif"), ("LAB", "tif"), ("RGBX", "tif")),
        *(("RGB", "png"), ("RGB", "webp"), ("L", "bmp"), ("1", "png"), ("P", "png"), ("P", "tif")),
        *(("I", "tif"), ("I;16", "png"), ("F", "tif"), ("LA", "png"), ("LA", "tif"), ("RGBA", "png"), ("RGBA", "tif")),
    ],
)
@pytest.mark.parametrize("shade", [(255, 255, 255), (255, 0, 0), (90, 90, 90)])
def test_a_mask_reads_the_same_in_every_mode(
    tmp_path: Path, mode: str, suffix: str, shade: tuple[int, int, int]
) -> None:
    # the threshold of bilevel pictures is at half
    image = drawn("RGB", (0, 0, 0), shade if mode != "1" else (255, 255, 255))
    if suffix == "jpg":  # edges on those of the blocks, so that compression leaves the background as it is
        image = image.resize((8 * 16, 6 * 16), Image.Resampling.NEAREST)
    if mode == "LAB":
        profiles = ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB")
        image = ImageCms.profileToProfile(image, *profiles, outputMode="LAB") or image
    elif mode == "I;16":
        image = Image.fromarray(np.asarray(image.convert("L")).astype(np.uint16) * 257)
    else:
        image = image.convert(mode, dither=Image.Dither.NONE) if mode == "1" else image.convert(mode)
    image.save(tmp_path / f"m.{suffix}", **({"quality": 100} if suffix == "jpg" else {}), **LOSSLESS.get(suffix, {}))
    mask = read_mask_file(tmp_path / f"m.{suffix}")
    assert np.array_equal(mask[::16, ::16] if suffix == "jpg" else mask, AREA)


LOSSLESS = {"webp": {"lossless": True}}


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_alpha_that_says_nothing_else_is_passed_over(tmp_path: Path, mode: str) -> None:
    black, white = ((0, 0, 0), (255, 255, 255)) if mode == "RGBA" else ((0,), (255,))
    for name, clear, opaque in (("a", 255, 255), ("b", 0, 255), ("c", 128, 128), ("d", 0, 200), ("e", 0, 0)):
        drawn(mode, (*black, clear), (*white, opaque)).save(tmp_path / f"{name}.png")
        assert np.array_equal(read_mask_file(tmp_path / f"{name}.png"), AREA), name


@pytest.mark.parametrize(
    ("mode", "background", "defect", "told"),
    [
        ("RGBA", (0, 0, 0, 0), (0, 0, 0, 255), "colours mark nothing; its shape is in the alpha channel alone"),
        ("RGBA", (0, 0, 0, 255), (0, 0, 0, 0), "colours mark nothing; its shape is in the alpha channel alone"),
        ("RGBA", (255, 255, 255, 0), (255, 255, 255, 255), "colours mark all; its shape is in the alpha channel"),
        ("RGBA", (255, 255, 255, 0), (255, 0, 0, 255), "colours mark all; its shape is in the alpha channel"),
        ("RGBA", (0, 0, 0, 255), (0, 9, 0, 0), "colours mark 12.5% of it, part of which is transparent"),
        ("LA", (0, 255), (9, 0), "colours mark 12.5% of it, part of which is transparent"),
        ("LA", (0, 0), (0, 255), "colours mark nothing"),
    ],
)
@pytest.mark.parametrize("suffix", ["png", "tif", "webp"])
def test_alpha_that_shows_another_area_is_refused(
    tmp_path: Path, mode: str, background: object, defect: object, told: str, suffix: str
) -> None:
    drawn(mode, background, defect).save(tmp_path / f"m.{suffix}", **({"lossless": True, "exact": True}))
    with pytest.raises(AlphaError, match=rf"m\.{suffix}: its {told}.*Expected the defect in the colours"):
        read_mask_file(tmp_path / f"m.{suffix}")


def test_a_transparent_colour_of_a_palette_or_of_grey_is_alpha_too(tmp_path: Path) -> None:
    palette = drawn("P", 0, 1)
    palette.putpalette([255, 255, 255, 255, 255, 255])
    palette.save(tmp_path / "p.png", transparency=0)
    drawn("L", 0, 255).save(tmp_path / "hidden.png", transparency=255)
    drawn("RGB", (0, 0, 0), (9, 9, 9)).save(tmp_path / "hidden-rgb.png", transparency=(9, 9, 9))
    for name in ("p", "hidden", "hidden-rgb"):
        with pytest.raises(AlphaError, match="transparent"):
            read_mask_file(tmp_path / f"{name}.png")
    drawn("L", 0, 255).save(tmp_path / "shown.png", transparency=0)
    assert np.array_equal(read_mask_file(tmp_path / "shown.png"), AREA)


@pytest.mark.parametrize(("dtype", "order"), [(np.uint8, "<"), (np.uint8, ">"), (np.uint16, "<")])
def test_a_tiff_whose_zero_is_white_is_black_elsewhere(tmp_path: Path, dtype: type, order: str) -> None:
    inked = np.zeros((4, 6), dtype)
    inked[1, 2:4] = np.iinfo(dtype).max
    (tmp_path / "usual.tif").write_bytes(tiff(inked, order))
    (tmp_path / "white.tif").write_bytes(tiff(np.iinfo(dtype).max - inked, order, t262=0))
    assert np.array_equal(look(tmp_path / "white.tif")[0], inked > 0)
    images = [read_rgb(tmp_path / name) for name in ("usual.tif", "white.tif")]
    assert np.array_equal(*map(np.asarray, images)) and np.asarray(images[0]).max() == 255


@pytest.mark.parametrize("dtype", [np.float32, np.int32])
def test_a_value_below_zero_is_refused(tmp_path: Path, dtype: type) -> None:
    signed = np.full((4, 6), -1, dtype)
    signed[1, 1] = 1
    Image.fromarray(signed).save(tmp_path / "signed.tif")
    with pytest.raises(DatasetError, match=r"signed\.tif: a value of -1\. Expected a mask, 0 where there is no defect"):
        look(tmp_path / "signed.tif")


def test_a_value_that_is_no_number_is_refused(tmp_path: Path) -> None:
    values = np.zeros((4, 6), np.float32)
    values[1, 1] = np.nan
    Image.fromarray(values).save(tmp_path / "m.tif")
    with pytest.raises(DatasetError, match=r"m\.tif: a value that is no finite number"):
        read_mask_file(tmp_path / "m.tif")


def test_traits_of_a_mask_say_what_its_pixels_do_not(tmp_path: Path) -> None:
    hard = Image.fromarray(AREA).resize((64, 48), Image.Resampling.NEAREST).convert("L")
    soft = hard.filter(ImageFilter.GaussianBlur(2))
    for name, image in (("hard.png", hard), ("soft.png", soft), ("lossy.jpg", hard), ("lossy.webp", hard)):
        image.save(tmp_path / name)
    hard.save(tmp_path / "lossless.webp", lossless=True)
    hard.save(tmp_path / "jpeg.tif", compression="jpeg")
    ImageOps.invert(hard).save(tmp_path / "inverted.png")
    found = {path.name: look(path)[1] for path in tmp_path.iterdir()}
    assert {name for name, traits in found.items() if traits.lossy} == {"lossy.jpg", "lossy.webp", "jpeg.tif"}
    assert {name for name, traits in found.items() if traits.framed} == {"inverted.png"}
    assert found["hard.png"].levels == 1 and found["hard.png"].marked == found["hard.png"].upper == 6 * 64
    assert found["soft.png"].levels > 8 and found["soft.png"].marked > 1.3 * found["soft.png"].upper
    assert found["inverted.png"].share == 1 - found["hard.png"].share == 0.875


def test_palette_counts_by_colour_not_by_index(tmp_path: Path) -> None:
    image = Image.new("P", (3, 1))
    image.putpalette([255, 255, 255, 0, 0, 0, 128, 0, 0])
    image.putdata([0, 1, 2])
    image.save(tmp_path / "m.png")
    assert read_mask_file(tmp_path / "m.png").tolist() == [[True, False, True]]


@pytest.mark.parametrize("mode", ["1", "L", "I;16"])
def test_smallest_value_of_every_mode_counts(tmp_path: Path, mode: str) -> None:
    image = Image.new(mode, (3, 1))
    image.putpixel((1, 0), 1)
    image.save(tmp_path / "m.png")
    assert read_mask_file(tmp_path / "m.png").tolist() == [[False, True, False]]


def slow_area(mask: np.ndarray, resized: int, kept: int, bins: int) -> np.ndarray:
    """Overlap of every pixel with every evaluation pixel, in exact fractions."""

    def overlaps(length: int) -> list[list[Fraction]]:
        begin = Fraction(round((resized - kept) / 2) * length, resized)
        step = Fraction(kept * length, resized * bins)
        rows = []
        for i in range(bins):
            low, high = begin + i * step, begin + (i + 1) * step
            rows.append([max(Fraction(0), min(high, Fraction(j + 1)) - max(low, Fraction(j))) for j in range(length)])
        return rows

    down, across = overlaps(mask.shape[0]), overlaps(mask.shape[1])
    area = sum(down[0]) * sum(across[0])
    out = np.zeros((bins, bins), bool)
    for i in range(bins):
        for j in range(bins):
            filled = sum(
                a * b for y, a in enumerate(down[i]) for x, b in enumerate(across[j]) if a and b and mask[y, x]
            )
            out[i, j] = filled * 2 >= area
    return out


@settings(max_examples=40, deadline=None)
@given(
    height=st.integers(1, 20),
    width=st.integers(1, 20),
    bins=st.integers(1, 12),
    sizes=st.sampled_from([(32, 32), (32, 28), (16, 13), (9, 8)]),
    seed=st.integers(0, 99),
)
def test_area_rule_equals_exact_overlaps(height: int, width: int, bins: int, sizes: tuple[int, int], seed: int) -> None:
    resized, kept = sizes
    protocol = replace(COMMON, crop=kept / resized, eval_size=bins)
    assert protocol.resize_for(kept) == resized
    mask = blob(height, width, seed, 0.5)
    assert np.array_equal(to_evaluation(mask, protocol, kept), slow_area(mask, resized, kept, bins))


@pytest.mark.parametrize(("height", "width"), [(256, 256), (512, 512), (1024, 768), (900, 900), (100, 130)])
def test_area_rule_without_crop_is_the_mean_over_boxes(height: int, width: int) -> None:
    mask = np.zeros((height, width), np.bool_)
    mask[height // 5 : height // 2, width // 3 : 2 * width // 3] = True
    mask[:3, :3] = True
    means = torch.nn.functional.interpolate(torch.from_numpy(mask)[None, None].double(), (256, 256), mode="area")
    ours = to_evaluation(mask, COMMON, 392)
    assert ours.shape == (256, 256)
    if height % 256 == width % 256 == 0:  # otherwise torch's boxes overlap
        assert np.array_equal(ours, means[0, 0].numpy() >= 0.5)
    assert abs(ours.mean() - mask.mean()) < 0.01


def test_area_rule_keeps_exactly_half_covered_pixels() -> None:
    mask = np.zeros((6, 6), np.bool_)
    mask[:, 1::2] = True
    assert to_evaluation(mask, replace(COMMON, eval_size=3), 392).all()
    mask[0, 1] = False
    assert np.argwhere(~to_evaluation(mask, replace(COMMON, eval_size=3), 392)).tolist() == [[0, 0]]


def test_area_rule_does_not_overflow_on_large_images() -> None:
    mask = np.ones((3000, 2000), np.bool_)
    assert to_evaluation(mask, replace(COMMON, crop=0.875), 392).all()


def papers_mask(mask: np.ndarray, resized: int, kept: int, size: int) -> np.ndarray:
    chain = transforms.Compose(
        [transforms.Resize((resized, resized)), transforms.CenterCrop(kept), transforms.ToTensor()]
    )
    soft = chain(Image.fromarray(mask.astype(np.uint8) * 255))
    return torch.nn.functional.interpolate(soft[None], size, mode="nearest")[0, 0].bool().numpy()


@settings(max_examples=30, deadline=None)
@given(height=st.integers(1, 600), width=st.integers(1, 600), seed=st.integers(0, 99))
def test_dinomaly_rule_equals_its_chain_in_torch(height: int, width: int, seed: int) -> None:
    mask = np.zeros((height, width), np.bool_)
    rng = np.random.default_rng(seed)
    y, x = rng.integers(0, height), rng.integers(0, width)
    mask[y : y + rng.integers(1, 80), x : x + rng.integers(1, 80)] = True
    assert np.array_equal(to_evaluation(mask, DINOMALY, 392), papers_mask(mask, 448, 392, 256))


def test_dinomaly_rule_loses_what_lies_in_the_cropped_border_and_grows_the_rest() -> None:
    mask = np.zeros((448, 448), np.bool_)
    mask[:28] = True
    assert not to_evaluation(mask, DINOMALY, 392).any()
    inside = np.zeros((900, 900), np.bool_)
    for at in np.random.default_rng(0).integers(60, 800, (40, 2)):
        inside[at[0] : at[0] + 9, at[1] : at[1] + 9] = True
    whole = replace(COMMON, crop=DINOMALY.crop)
    assert to_evaluation(inside, DINOMALY, 392).sum() > 1.2 * to_evaluation(inside, whole, 392).sum()


@settings(max_examples=200, deadline=None)
@given(source=st.integers(1, 1200), target=st.integers(1, 600))
def test_nearest_index_is_torchs(source: int, target: int) -> None:
    line = torch.arange(source, dtype=torch.float32)[None, None]
    assert np.array_equal(nearest_index(source, target), torch.nn.functional.interpolate(line, target)[0, 0].numpy())


@settings(max_examples=20, deadline=None)
@given(height=st.integers(20, 600), width=st.integers(20, 600), seed=st.integers(0, 99))
def test_ader_rule_equals_its_chain_in_torchvision(height: int, width: int, seed: int) -> None:
    mask = blob(height, width, seed, 0.5)
    image = Image.fromarray(mask.astype(np.uint8) * 255, "L")
    chain = transforms.Compose(
        [transforms.Resize((256, 256), transforms.InterpolationMode.BILINEAR), transforms.ToTensor()]
    )
    wanted = (chain(image)[0] > 0.5).numpy()
    assert np.array_equal(to_evaluation(mask, ADER, 256), wanted)
    assert np.array_equal(to_evaluation(mask, ADER, 320), wanted), "the input size plays no part"


@pytest.mark.parametrize(("height", "width", "seed"), [(900, 700, 1), (333, 509, 2)])
def test_full_rule_counts_what_is_white_after_the_resize(height: int, width: int, seed: int) -> None:
    """SimpleNet's chain, at the sizes of its command: what a cast to integers leaves of a mask in [0, 1]."""
    mask = np.kron(blob(height // 20 + 1, width // 20 + 1, seed), np.ones((20, 20), bool))[:height, :width]
    image = Image.fromarray(mask.astype(np.uint8) * 255)
    chain = transforms.Compose([transforms.Resize((329, 329)), transforms.CenterCrop(288), transforms.ToTensor()])
    wanted = chain(image)[0].numpy().astype(int).astype(bool)
    full = replace(COMMON, mask_rule="full", crop=288 / 329, eval_size=288)
    assert np.array_equal(to_evaluation(mask, full, 288), wanted) and wanted.any()
    assert to_evaluation(mask, replace(full, mask_rule="ader"), 288).sum() > wanted.sum()


@pytest.mark.parametrize(("height", "width", "seed"), [(40, 40, 0), (900, 700, 1), (333, 509, 2), (7, 5, 3)])
@pytest.mark.parametrize("size", [16, 256, 448])
def test_nearest_rule_is_pillows(height: int, width: int, seed: int, size: int) -> None:
    mask = blob(height, width, seed)
    whole = replace(COMMON, mask_rule="nearest", eval_size=size)
    wanted = np.asarray(Image.fromarray(mask).resize((size, size), Image.Resampling.NEAREST))
    assert np.array_equal(to_evaluation(mask, whole, 320), wanted)
    cropped = np.asarray(Image.fromarray(mask).resize((512, 512), Image.Resampling.NEAREST))[32:480, 32:480]
    assert np.array_equal(to_evaluation(mask, replace(whole, crop=448 / 512, eval_size=448), 448), cropped)


@pytest.mark.parametrize(
    "protocol", [COMMON, DINOMALY, ADER, *(replace(COMMON, mask_rule=rule) for rule in ("nearest", "full"))]
)
def test_empty_mask_stays_empty_and_full_stays_full(protocol: object) -> None:
    assert not to_evaluation(np.zeros((30, 40), np.bool_), protocol, 392).any()
    assert to_evaluation(np.ones((30, 40), np.bool_), protocol, 392).all()

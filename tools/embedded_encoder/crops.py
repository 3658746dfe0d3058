"""Cuts the training crops: one uint8 array of squares in a mixed order, and a table of what is in it."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from .generated import drawn_object, texture
from .sources import SOURCES, Source, fashion_mnist, image_bytes, read_image

U8 = npt.NDArray[np.uint8]
SIDE = 128
# Crops of each kind; "photo" is divided over the photographs by their area, the others evenly.
SHARES = {"photo": 15000, "sprite": 4500, "texture": 7000, "small": 1500, "drawn texture": 1200, "drawn object": 1200}


def cut(image: Image.Image, rng: np.random.Generator) -> U8:
    """A random square of the image at 128 px, uint8 [128, 128, 3]; flat ones are drawn again a few times."""
    short = min(image.size)
    for _ in range(5):
        side = min(short, int(np.exp(rng.uniform(np.log(min(short, 100)), np.log(short + 1)))))
        left, top = (int(rng.integers(0, extent - side + 1)) for extent in image.size)
        box = (left, top, left + side, top + side)
        crop = np.asarray(
            image.resize((SIDE, SIDE), Image.Resampling.BICUBIC, box=box, reducing_gap=2.0).convert("RGB")
        )
        if np.abs(np.diff(crop.mean(-1), axis=0)).mean() > 1.2:
            break
    return crop


def on_background(sprite: Image.Image, background: U8, rng: np.random.Generator) -> U8:
    """A cut-out, turned and scaled at random, on a crop or on a plain colour, uint8 [128, 128, 3]."""
    box = sprite.getchannel("A").getbbox() if sprite.mode == "RGBA" else None
    sprite = (sprite.crop(box) if box else sprite).convert("RGBA")
    if rng.random() < 0.3:
        sprite = sprite.rotate(float(rng.uniform(-180, 180)), Image.Resampling.BICUBIC, expand=True)
    scale = SIDE * rng.uniform(0.55, 1.15) / max(sprite.size)
    width, height = (max(8, int(extent * scale)) for extent in sprite.size)
    sprite = sprite.resize((width, height), Image.Resampling.BICUBIC, reducing_gap=2.0)
    if rng.random() < 0.4:
        grey = rng.uniform(0, 255) + rng.normal(0, 25, 3)
        background = np.broadcast_to(np.clip(grey, 0, 255).astype(np.uint8), (SIDE, SIDE, 3))
    canvas = Image.fromarray(np.ascontiguousarray(background))
    at = tuple(int(rng.uniform(-0.1, 0.1) * SIDE + (SIDE - extent) / 2) for extent in (width, height))
    canvas.paste(sprite, (at[0], at[1]), sprite)
    return np.asarray(canvas)


def opaque(image: Image.Image) -> Image.Image:
    """Transparent parts onto mid grey, so that hidden colours under them do not show."""
    if image.mode != "RGBA":
        return image
    return Image.alpha_composite(Image.new("RGBA", image.size, (128, 128, 128, 255)), image).convert("RGB")


def crops_of(source: Source, images: Path, want: Callable[[int, float], int], seed: int) -> tuple[str, int, list[U8]]:
    """All crops of one source: its name, the number of images used, the crops (cut-outs stay on grey here)."""
    rng = np.random.default_rng([seed, *source.name.encode()])
    root, out, used = images / source.name, [], 0
    if not root.is_dir():
        return source.name, 0, []
    if source.kind == "small":
        for grey in fashion_mnist(root, source.most):
            picture = Image.fromarray(grey).resize((SIDE, SIDE), Image.Resampling.BICUBIC)
            out.append(np.asarray(picture.convert("RGB")))
        return source.name, len(out), out
    entries = image_bytes(root, source)
    for _, file, inside in entries:
        image = read_image(file, inside)
        if image is None:
            continue
        used += 1
        if source.kind == "sprite":
            image.thumbnail((320, 320))
            for _ in range(want(len(entries), 1.0)):
                blank = np.full((SIDE, SIDE, 3), 128, np.uint8)
                out.append(on_background(image, blank, rng) if image.mode == "RGB" else cutout(image))
            continue
        image = opaque(image)
        for _ in range(want(len(entries), image.size[0] * image.size[1] / 1e6)):
            out.append(cut(image, rng))
    return source.name, used, out


def cutout(image: Image.Image) -> U8:
    """The cut-out itself with its alpha, fitted into uint8 [128, 128, 4], to be set on a background later."""
    box = image.getchannel("A").getbbox()
    if box:
        image = image.crop(box)
    image.thumbnail((SIDE, SIDE), Image.Resampling.BICUBIC)
    sheet = Image.new("RGBA", (SIDE, SIDE))
    sheet.paste(image, ((SIDE - image.size[0]) // 2, (SIDE - image.size[1]) // 2))
    return np.asarray(sheet)


def photo_quota(_: int, megapixels: float) -> int:
    """More crops from larger photographs: 8 for a small one, at most 70."""
    return int(np.clip(8 + 14 * megapixels, 8, 70))


def even_quota(total: int, entries: int, _: float) -> int:
    """The same number of crops from every image of a source."""
    return max(1, round(total / max(entries, 1)))


def collect(images: Path, out: Path, seed: int, workers: int) -> None:
    """Writes `crops.npy` (uint8 [N, 128, 128, 3]), `source_ids.npy` (uint8 [N]) and `sources.json` into `out`."""
    kinds = {kind: sum(s.most if s.most < 100_000 else 700 for s in SOURCES if s.kind == kind) for kind in SHARES}
    jobs = []
    with ProcessPoolExecutor(workers) as pool:
        for source in SOURCES:
            share = SHARES[source.kind]
            weight = (source.most if source.most < 100_000 else 700) / kinds[source.kind]
            quota = photo_quota if source.kind == "photo" else partial(even_quota, int(share * weight))
            jobs.append((source, pool.submit(crops_of, source, images, quota, seed)))
        done = [(source, *job.result()[1:]) for source, job in jobs]
    rng = np.random.default_rng(seed)
    backgrounds = [c for source, _, crops in done if source.kind in ("photo", "texture") for c in crops]
    kept: list[tuple[int, U8]] = []
    table = []
    for number, (source, used, crops) in enumerate(done):
        share = sum(len(c) for s, _, c in done if s.kind == source.kind)
        room = round(len(crops) * min(1.0, SHARES[source.kind] / max(share, 1)))
        for index in rng.permutation(len(crops))[:room]:
            crop = crops[index]
            if crop.shape[-1] == 4:
                crop = on_background(Image.fromarray(crop), backgrounds[rng.integers(len(backgrounds))], rng)
            kept.append((number, crop))
        row = {"name": source.name, "version": source.version, "licences": list(source.licences)}
        table.append({**row, "images": used, "crops": room})
        print(f"{source.name}: {used} images, {room} crops", flush=True)
    for kind in ("drawn texture", "drawn object"):
        for _ in range(SHARES[kind]):
            picture = texture(rng)
            if kind == "drawn object":
                picture = on_background(drawn_object(rng), picture, rng)
            kept.append((len(table), picture))
        row = {"name": kind, "version": f"seed {seed}", "licences": ["Apache-2.0"]}
        table.append({**row, "images": SHARES[kind], "crops": SHARES[kind]})
    order = rng.permutation(len(kept))
    out.mkdir(parents=True, exist_ok=True)
    array = np.lib.format.open_memmap(out / "crops.npy", mode="w+", dtype=np.uint8, shape=(len(kept), SIDE, SIDE, 3))
    for place, index in enumerate(order):
        array[place] = kept[index][1]
    array.flush()
    np.save(out / "source_ids.npy", np.array([kept[i][0] for i in order], dtype=np.uint8))
    (out / "sources.json").write_text(json.dumps(table, indent=1))
    print(f"{len(kept)} crops in {out}")


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images-dir", type=Path, required=True, help="one folder a source, see sources.py")
    parser.add_argument("--out", type=Path, required=True, help="folder for crops.npy and sources.json")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=2)
    args = parser.parse_args()
    collect(args.images_dir, args.out, args.seed, args.workers)


if __name__ == "__main__":
    main()

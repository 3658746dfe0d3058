"""Where the training images come from, under which licence each is, and how they are read from unpacked packages.

Expected layout of `--images-dir`: one folder a Debian package, as `dpkg-deb -x PACKAGE.deb IMAGES_DIR/PACKAGE` makes
it (`apt-get download PACKAGE=VERSION` fetches it). Two sources are no package: `cookie` (a folder of photographs) and
`fashion_mnist` (the official idx.gz files). A source that is missing is skipped, and then also missing from the card.
"""

from __future__ import annotations

import gzip
import io
import warnings
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import fnmatch
from functools import lru_cache
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
from PIL import Image

Kind = Literal["photo", "sprite", "texture", "small"]
IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".tga", ".dds")


@dataclass(frozen=True, slots=True)
class Source:
    """One package of images: what is taken from it (glob on the path inside) and the licences of what is taken."""

    name: str
    version: str
    kind: Kind
    licences: tuple[str, ...]
    take: tuple[str, ...] = ("*",)
    leave: tuple[str, ...] = ()
    most: int = 100_000  # images read at most, evenly spread over the sorted list


# Licences as the copyright file of that version names them for the package's images; read by package, not traced image
# by image. All packages are in Debian main.
SOURCES: tuple[Source, ...] = (
    Source("gnome-backgrounds", "43.1-1", "photo", ("GPL-2+", "CC-BY-SA-3.0", "CC-BY-SA-2.0", "CC-BY-2.0")),
    Source("mate-backgrounds", "1.26.0-1", "photo", ("GPL-2+", "CC-BY-SA-4.0")),
    Source("plasma-workspace-wallpapers", "4:5.27.5-2", "photo", ("GPL-2+",), ("*/contents/images*",)),
    Source("lomiri-wallpapers-16.04", "20.04.0-2", "photo", ("CC-BY-4.0", "CC-BY-SA-4.0", "CC-BY-SA-3.0", "CC0-1.0")),
    Source("lomiri-wallpapers-20.04", "20.04.0-2", "photo", ("CC-BY-SA-3.0",)),
    Source("lxqt-themes", "1.2.0-1", "photo", ("LGPL-2.1+", "LGPL-3"), ("*/wallpapers/*",)),
    Source("ukui-wallpapers", "20.04.3-1.1", "photo", ("CC-BY-SA-3.0",)),
    Source(
        "gcompris-qt-data",
        "3.1-2",
        "photo",
        (
            *("CC-BY-SA-4.0", "CC-BY-SA-3.0", "CC-BY-SA-2.5", "CC-BY-SA-2.0", "CC-BY-3.0", "CC-BY-2.0", "CC-BY-1.0"),
            *("CC0-1.0", "GPL-3+", "GPL-2+", "GFDL-NIV-1.2+", "public-domain"),
        ),
    ),
    Source(
        "tuxpaint-stamps-default",
        "2022.06.04-1",
        "sprite",
        ("GPL-2",),
        leave=("*/alphabets/*", "*/symbols/*", "*/flags/*"),
        most=1500,
    ),
    Source(
        "openclipart-png", "1:0.18+dfsg-19", "sprite", ("public-domain",), leave=("*/shapes/*", "*flags*"), most=1200
    ),
    Source(
        "widelands-data", "2:1.1-3", "sprite", ("GPL-2+", "CC-BY-SA-3.0"), ("*/buildings/*", "*/critters/*"), most=600
    ),
    Source("unknown-horizons", "2019.1-6", "sprite", ("GPL-2+", "CC-BY-SA-3.0"), ("*/gfx/*",), most=300),
    Source(
        "supertuxkart-data",
        "1.4+dfsg-2",
        "texture",
        (
            *("CC-BY-SA-4.0", "CC-BY-SA-3.0", "CC-BY-4.0", "CC-BY-3.0", "CC0-1.0", "GPL-2", "GPL-2+", "GPL-3+"),
            *("MIT", "zlib", "Apache-2.0", "public-domain"),
        ),
        ("*/data/textures/*", "*/data/tracks/*", "*/data/karts/*", "*/data/models/*", "*/data/library/*"),
        leave=("*Normal*", "*normal*", "*lightmap*", "*gloss*"),
        most=2500,
    ),
    Source(
        "ufoai-textures",
        "2.5-2",
        "texture",
        ("GPL-2", "GPL-2+", "GPL-3+", "CC-BY-SA-3.0", "CC-BY-3.0", "Expat", "public-domain"),
        leave=("*_nm.*", "*_gm.*", "*_sm.*", "*_rm.*"),
        most=1800,
    ),
    Source(
        "nexuiz-textures",
        "2.5.2-12",
        "texture",
        ("GPL-2+",),
        leave=("*_norm*", "*_bump*", "*_gloss*", "*_glow*"),
        most=1500,
    ),
    Source(
        "redeclipse-data",
        "1.6.0-1",
        "texture",
        ("CC-BY-SA-3.0+", "CC-BY-SA-3.0", "CC-BY-SA-3.0-AU", "CC-BY-3.0", "CC0-1.0", "Zlib", "Expat", "public-domain"),
        leave=("*_n.*", "*normal*", "*_nm.*", "*_s.*", "*_spec*", "*local*", "*/maps/*", "*_h.*", "*height*", "*mask*"),
        most=1500,
    ),
    Source(
        "0ad-data",
        "0.0.26-1",
        "texture",
        ("CC-BY-SA-3.0",),
        ("*/textures/terrain/types/*", "*/textures/skins/gaia/*", "*/textures/skins/structural/*"),
        leave=("*_norm*", "*_spec*", "*/ao/*"),
        most=1200,
    ),
    Source("cookie", "aws-samples/amazon-lookout-for-vision@14bed61c", "photo", ("CC-BY-SA-4.0",), ("*train/good/*",)),
    Source("fashion_mnist", "0.0~git20200523.55506a9-1", "small", ("MIT",), most=1500),
)


def image_bytes(root: Path, source: Source) -> list[tuple[str, Path, str | tuple[int, int] | None]]:
    """Entries of one source as (path shown, file, how to find it inside: None, a zip member or a byte range)."""
    found: list[tuple[str, Path, str | tuple[int, int] | None]] = []

    def wanted(shown: str) -> bool:
        keep = any(fnmatch(shown, pattern) for pattern in source.take)
        return keep and not any(fnmatch(shown, pattern) for pattern in source.leave)

    for file in sorted(p for p in root.rglob("*") if p.is_file() and not p.is_symlink()):
        shown, suffix = f"/{file.relative_to(root).as_posix()}", file.suffix.lower()
        if suffix in IMAGE_SUFFIXES and wanted(shown):
            found.append((shown, file, None))
        elif suffix in (".pk3", ".zip"):
            with zipfile.ZipFile(file) as archive:
                members = sorted(m for m in archive.namelist() if m.lower().endswith(IMAGE_SUFFIXES))
            found += [(f"{shown}/{m}", file, m) for m in members if wanted(f"{shown}/{m}")]
        elif suffix == ".rcc":
            found += [(f"{shown}@{start}", file, (start, end)) for start, end in webp_ranges(file.read_bytes())]
    step = max(1.0, len(found) / source.most)
    return [found[int(i * step)] for i in range(int(len(found) / step))]


def webp_ranges(data: bytes) -> Iterator[tuple[int, int]]:
    """Byte ranges of the WebP images stored uncompressed in a Qt resource file."""
    at = data.find(b"RIFF")
    while at >= 0:
        if data[at + 8 : at + 12] == b"WEBP":
            yield at, at + 8 + int.from_bytes(data[at + 4 : at + 8], "little")
        at = data.find(b"RIFF", at + 4)


@lru_cache(maxsize=4)
def opened(file: Path) -> zipfile.ZipFile:
    """An archive kept open: parsing the index of a 3 GB archive for every image would take most of the time."""
    return zipfile.ZipFile(file)


def read_image(file: Path, inside: str | tuple[int, int] | None) -> Image.Image | None:
    """The image as 'RGB', or 'RGBA' where it has transparency; None if it cannot be read or is smaller than 48 px."""
    try:
        if inside is None:
            raw = file.read_bytes()
        elif isinstance(inside, str):
            raw = opened(file).read(inside)
        else:
            raw = file.read_bytes()[inside[0] : inside[1]]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            opened_image = Image.open(io.BytesIO(raw))
            opened_image.draft("RGB", (2400, 2400))
            see_through = "A" in opened_image.getbands() or "transparency" in opened_image.info
            image = opened_image.convert("RGBA" if see_through else "RGB")
    except (OSError, ValueError, NotImplementedError, SyntaxError, zipfile.BadZipFile, Image.DecompressionBombError):
        return None
    if min(image.size) < 48 or max(image.size) > 20 * min(image.size):
        return None
    if image.mode == "RGBA" and int(np.asarray(image.getchannel("A")).min()) > 250:
        image = image.convert("RGB")
    return image


def fashion_mnist(folder: Path, most: int) -> npt.NDArray[np.uint8]:
    """Training images of Fashion-MNIST, uint8 [most, 28, 28], spread evenly; the test file is never read."""
    path = next(iter(sorted(folder.rglob("train-images-idx3-ubyte.gz"))))
    data = np.frombuffer(gzip.decompress(path.read_bytes()), dtype=np.uint8, offset=16).reshape(-1, 28, 28)
    return data[:: len(data) // most][:most]

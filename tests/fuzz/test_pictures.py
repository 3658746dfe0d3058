"""Images and masks: damaged files, headers that lie, formats that nobody asked for."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from hostile import cases, damaged, survives
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from bench.api import Sample
from bench.errors import DatasetError
from bench.loading.images import peek_size, read_rgb
from bench.loading.masks import read_mask_file, read_union


def encoded(form: str, mode: str = "RGB", **options: object) -> bytes:
    """A picture of 9 x 7 pixels."""
    values = np.random.default_rng(0).integers(0, 256, (7, 9, 4), dtype=np.uint8)
    image = Image.fromarray(values, "RGBA").convert("RGB")
    out = io.BytesIO()
    if mode in ("I;16", "F"):
        numbers = np.arange(63).reshape(7, 9) * (1000 if mode == "I;16" else 0.5)
        image = Image.fromarray(numbers.astype(np.uint16 if mode == "I;16" else np.float32))
    else:
        image = image.convert(mode)
    image.save(out, form, **options)
    return out.getvalue()


PICTURES = [
    *(encoded("PNG", mode) for mode in ("RGB", "L", "P", "RGBA", "LA", "1", "I;16")),
    *(encoded("JPEG", mode) for mode in ("RGB", "L", "CMYK")),
    encoded("JPEG", progressive=True),
    *(encoded("BMP", mode) for mode in ("RGB", "L", "P", "1")),
    *(encoded("TIFF", mode) for mode in ("RGB", "L", "I;16", "F", "P")),
    *(encoded("TIFF", compression=kind) for kind in ("tiff_lzw", "tiff_deflate", "packbits", "jpeg")),
    encoded("WEBP"),
    encoded("WEBP", lossless=True),
]


@cases(400)
@given(content=damaged(*PICTURES))
def test_images_and_masks(home: Path, content: bytes) -> None:
    path = home / "x.png"
    path.write_bytes(content)
    survives("image size", lambda: peek_size(path), home)
    image = survives("image", lambda: read_rgb(path), home)
    assert image is None or image.mode == "RGB"
    mask = survives("mask", lambda: read_mask_file(path), home)
    assert mask is None or (mask.dtype == np.bool_ and mask.ndim == 2)


@cases(40)
@given(content=damaged(encoded("PNG", "L"), encoded("PNG", "P"), encoded("BMP", "1")))
def test_a_mask_beside_an_intact_image(home: Path, content: bytes) -> None:
    (home / "image.png").write_bytes(encoded("PNG"))
    (home / "mask.png").write_bytes(content)
    sample = Sample("a/1", "a", "test", 1, "bad", home / "image.png", masks=(home / "mask.png",))
    found = survives("mask of an image", lambda: read_union(sample), home)
    assert found is None or found.shape == (7, 9)


def png(width: int, height: int, depth: int = 8, colour: int = 2, interlace: int = 0) -> bytes:
    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    head = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, interlace)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(bytes(64))) + chunk(b"IEND", b"")


def bmp(width: int, height: int, bits: int = 24) -> bytes:
    head = struct.pack("<IiiHHIIiiII", 40, width, height, 1, bits, 0, 0, 0, 0, 0, 0)
    return b"BM" + struct.pack("<IHHI", 54 + 64, 0, 0, 54) + head + bytes(64)


def tiff(width: int, height: int, bits: int = 8, form: int = 1) -> bytes:
    tags = [
        (256, width),
        (257, height),
        (258, bits),
        (259, 1),
        (262, 1),
        (273, 8),
        (277, 1),
        (278, height),
        (279, 64),
        (339, form),
    ]
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags)
    return b"II*\0" + struct.pack("<I", 8 + 64) + bytes(64) + struct.pack("<H", len(tags)) + entries + bytes(4)


sides = st.sampled_from([0, 1, 7, 9000, 9_460, 9_461, 46_341, 65_535, 2**31 - 1, 2**32 - 1]) | st.integers(0, 2**32 - 1)


@cases(100)
@given(width=sides, height=sides, data=st.data())
def test_headers_that_promise_any_size(home: Path, width: int, height: int, data: st.DataObject) -> None:
    kind = data.draw(st.sampled_from(["png", "bmp", "tiff"]))
    if kind == "png":
        depth, colour = data.draw(st.sampled_from([1, 8, 16, 99])), data.draw(st.sampled_from([0, 2, 3, 4, 6, 9]))
        content = png(width, height, depth, colour, data.draw(st.integers(0, 2)))
    elif kind == "bmp":
        signed = [side - 2**32 if side >= 2**31 else side for side in (width, height)]
        content = bmp(*signed, data.draw(st.sampled_from([1, 8, 24, 32])))
    else:
        content = tiff(width, height, data.draw(st.sampled_from([1, 8, 16, 32])), data.draw(st.sampled_from([1, 3])))
    path = home / "x.png"
    path.write_bytes(content)
    survives("image header", lambda: read_rgb(path), home)
    survives("image header", lambda: read_mask_file(path), home)


FORMATS = {
    "EPS": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n(executed) (w) file closefile\n%%EOF\n",
    "GIF": encoded("GIF", "P"),
    "PPM": b"P6 9 7 255\n" + bytes(189),
    "ICO": encoded("ICO", "RGBA"),
    "TGA": encoded("TGA"),
    "XPM": b'/* XPM */\nstatic char *x[] = {\n"1 1 1 1",\n"a c #000000",\n"a",\n};\n',
    "PDF": b"%PDF-1.4\n",
    "SVG": b'<svg xmlns="http://www.w3.org/2000/svg"><image href="http://127.0.0.1/x"/></svg>',
}


@pytest.mark.parametrize("form", FORMATS)
def test_what_no_dataset_comes_in_reaches_no_decoder(home: Path, form: str) -> None:
    # PIL hands EPS to Ghostscript, an interpreter; the others are decoders that nothing here needs
    path = home / "x.png"
    path.write_bytes(FORMATS[form])
    survives("other formats", lambda: read_rgb(path), home)
    with pytest.raises(DatasetError, match="not an image that bench reads"):
        read_rgb(path)

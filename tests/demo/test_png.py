from __future__ import annotations

import hashlib
import io

import numpy as np
import pytest
from PIL import Image

from bench.demo.png import encode


@pytest.mark.parametrize("shape", [(1, 1), (3, 5), (192, 192), (7, 2, 3), (192, 192, 3), (1, 65_534), (1, 65_535)])
def test_readers_get_back_what_was_written(shape: tuple[int, ...]) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    data = encode(pixels)
    with Image.open(io.BytesIO(data)) as image:
        image.verify()
    with Image.open(io.BytesIO(data)) as image:
        assert image.format == "PNG" and image.mode == ("RGB" if len(shape) == 3 else "L")
        assert np.array_equal(np.asarray(image), pixels)


def test_the_bytes_are_those_of_every_machine() -> None:
    pixels = np.arange(300 * 300 * 3).reshape(300, 300, 3).astype(np.uint8)
    assert hashlib.sha256(encode(pixels)).hexdigest()[:16] == "2fa38e7b590a3328"
    assert len(encode(pixels)) == 300 * 901 + 5 * 5 + 2 + 4 + 12 * 3 + 13 + 8

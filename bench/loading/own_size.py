"""Maps at the size of their images."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image


def to_own_size(anomaly: npt.NDArray[Any], size: tuple[int, int]) -> npt.NDArray[np.float32]:
    """Return a map of a whole image resized bilinearly to it.

    Args:
        anomaly: real numbers [S, S].
        size: width and height of the image in pixels.

    Returns:
        float32 [height, width].
    """
    image = Image.fromarray(np.asarray(anomaly, dtype=np.float32))
    return np.asarray(image.resize(size, Image.Resampling.BILINEAR))

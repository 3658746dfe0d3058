"""Epochs as iterations: how long a training is whose recipe counts passes over the images."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def refuse_two_lengths(values: Mapping[str, Any]) -> None:
    """Raise ValueError where raw settings give both `steps` and `epochs`."""
    if values.get("steps") is not None and "epochs" in values:
        raise ValueError(f"steps {values['steps']} and epochs {values['epochs']} are both given, expected one of them")


def length(config: Any, images: int, drops_last: bool = True) -> int:
    """Return the iterations that a configuration gives (`steps`), or those of its `epochs`, see `iterations`."""
    if config.steps is not None:
        return int(config.steps)
    return iterations(config.epochs, images, config.batch_size, drops_last)


def iterations(epochs: int, images: int, batch_size: int, drops_last: bool = True) -> int:
    """Return the iterations of so many epochs.

    Args:
        epochs: passes over the images.
        images: how many there are to train on.
        batch_size: images a step.
        drops_last: whether a pass ends with its last whole batch; else its incomplete one counts as one more.
    """
    whole, rest = divmod(images, batch_size)
    # fewer images than a batch are one batch here; a loader that drops the last would have none
    return epochs * max(whole + (rest > 0 and not drops_last), 1)

"""Families of methods: by what a method tells an anomaly from what is normal. Loads nothing."""

from __future__ import annotations

from collections.abc import Collection

FAMILIES = {
    "reconstruction": "anomalous is what a network that learnt normal images cannot give back",
    "distillation": "anomalous is where a student of normal images does not follow its frozen teacher",
    "discrimination": "anomalous is what looks like the spoilt features or images that a network was trained to tell",
    "density": "anomalous is what is improbable under a distribution fitted to normal features",
    "memory": "anomalous is what is far from all that is remembered of normal images; most train nothing",
}
"""In the order in which `bench ls methods` shows them."""
OTHER = "other"
"""Heading of methods that name no family."""

ENCODERS = {"vit": "ViT", "cnn": "CNN"}
"""Kinds of frozen encoder, as a reader is told them."""
NEEDS = {"images": "images", "classes": "class names", "trunk": "a trainable copy of it", "textures": "textures"}
"""What a method needs beside features, likewise; features are the encoder's."""


def needed(encoders: Collection[str], needs: Collection[str]) -> str:
    """Return in a few words what a method needs: `ViT or CNN, images`.

    Args:
        encoders: as `Method.encoders`.
        needs: as `Method.needs`.
    """
    kinds = " or ".join(text for kind, text in ENCODERS.items() if kind in encoders)
    return ", ".join([*filter(None, [kinds]), *(text for need, text in NEEDS.items() if need in needs)])

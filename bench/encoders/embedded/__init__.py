"""The encoder that travels with the package: a small ViT distilled here from two ImageNet CNNs.

Nothing heavy is imported, so that the catalogue stays quick; torch and timm are needed only to train or load it.
"""

from __future__ import annotations

from pathlib import Path

NAME = "vit_tiny_patch8_128.bench"
WEIGHTS = Path(__file__).with_name("vit_tiny_patch8_128.safetensors")
CARD = Path(__file__).with_name("card.toml")

__all__ = ["CARD", "NAME", "WEIGHTS"]

"""`bench weights`: files that encoders are read from."""

from __future__ import annotations

from pathlib import Path

import click

from bench.cli.echo import echo
from bench.cli.options import PATH
from bench.cli.subcommands import Subcommands


@click.group(
    cls=Subcommands, epilog="\b\nExample:\n  bench weights convert dinov2_vitb14_reg4_pretrain.pth --out weights"
)
def weights() -> None:
    """Make official checkpoints into files that encoders are read from."""


@weights.command(epilog="\b\nExample:\n  bench weights convert dino_vitbase8_pretrain.pth --out weights")
@click.argument("file", type=PATH)
@click.option("--encoder", metavar="NAME", default="", help="Whose weights these are; not needed for an official name.")
@click.option("--out", metavar="DIR", type=PATH, help="Where the new file goes (default: beside FILE).")
def convert(file: Path, encoder: str, out: Path | None) -> int:
    """Make a safetensors file of a PyTorch checkpoint, as DINO, DINOv2, MAE, DeiT and torchvision publish them.

    Only tensors are taken out of FILE. They must be exactly those of the encoder, under their official names or timm's.
    """
    from bench.encoders import convert as conversion
    from bench.encoders.digest import fingerprint

    made = conversion.convert(file, encoder, out)
    echo(f"wrote {made}, SHA-256 {fingerprint(made)}")
    echo(f"Use it with: bench run --encoder {made.stem} --weights {made.parent}")
    return 0

"""`bench data get`: download a dataset where its owners let one, and say where to get it where they do not."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from bench.cli.options import PATH
from bench.words import counted

if TYPE_CHECKING:
    from bench.api import Card, Dataset, Download
    from bench.machine.terminal import TerminalProgress


@click.command(
    short_help="Download a dataset, or say where to get it.",
    epilog="\b\nExample:\n  bench data get cifar10 --root /data",
)
@click.argument("name")
@click.option(
    "--root",
    type=PATH,
    default=Path("data"),
    metavar="DIR",
    show_default=True,
    help="Folder of all datasets; this one comes into its usual sub-folder.",
)
@click.pass_context
def get(context: click.Context, name: str, root: Path) -> None:
    """Download dataset NAME, check its SHA-256 and unpack it.

    A download that was cut goes on where it stopped. Where the owners ask for a form or an account, nothing is
    downloaded: it is said where to get the dataset, and the exit code is 2 unless it is there already.
    """
    from bench.errors import UsageError
    from bench.machine.terminal import TerminalProgress, console
    from bench.registry import DATASETS

    kind = DATASETS.load(name)
    card = kind.card
    out = TerminalProgress(console())
    found = _find(kind, root)
    if found:
        out.say(f"{name} is at {found}")
        out.say(f"licence: {card.licence}")
        return _next(out, name, root)
    if not card.downloads:
        _tell(out, card, root)
        context.exit(2)
    try:
        root.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"--root {root}: cannot be made ({error.strerror}). Expected a writable place") from error
    out.say(f"{card.title}, licence: {card.licence}")
    for download in card.downloads:
        _obtain(download, root, out)
    kind.locate(root)
    _next(out, name, root)


def _find(kind: type[Dataset], root: Path) -> Path | None:
    """Return where the dataset is, complete as far as its index says."""
    from bench.errors import DatasetError

    try:
        found = kind.locate(root if root.is_dir() else None)
        return found if kind(found).samples() else None
    except DatasetError:
        return None


def _obtain(download: Download, root: Path, out: TerminalProgress) -> None:
    from bench.curate.archives import unpack
    from bench.curate.download import fetch
    from bench.loading.hashes import sha256
    from bench.machine.terminal import TerminalProgress, console

    name = download.url.rpartition("/")[2]
    folder = root / download.folder
    folder.mkdir(parents=True, exist_ok=True)
    target = (root if download.unpack else folder) / name
    if target.is_file() and (not download.sha256 or sha256(target) == download.sha256):
        out.say(f"{target} is there already")
    else:
        size = f" ({download.bytes / 2**20:,.1f} MiB)" if download.bytes else ""
        out.say(f"{download.url}{size}")
        digest = fetch(download, target, TerminalProgress(console(stderr=True)))
        verdict = "as published" if download.sha256 else "which could not be compared: none is known for certain"
        out.say(f"SHA-256 {digest}, {verdict}")
    if download.unpack:
        count = unpack(target, folder, download.unpack)
        target.unlink()
        out.say(f"unpacked {counted(count, 'file')} into {folder}")


def _tell(out: TerminalProgress, card: Card, root: Path) -> None:
    out.say(f"{card.title} cannot be downloaded from here: nothing was done.")
    out.say(card.source)
    out.say(f"licence: {card.licence}")
    out.say(f"Put it into {root}, then run:")
    out.say(f"  bench data verify {card.name} --root {root}")


def _next(out: TerminalProgress, name: str, root: Path) -> None:
    out.say(f"Check every file with: bench data verify {name} --root {root}")

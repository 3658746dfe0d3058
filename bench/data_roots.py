"""Data roots: the folders in which `--data-root` says that datasets lie."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from bench import own
from bench.errors import UsageError
from bench.home import expanded
from bench.registry import DATASETS, did_you_mean


def data_roots(given: Sequence[str]) -> dict[str, Path]:
    """Return folders by dataset from `--data-root` options, `DIR` (for all, under the name "") and `name=DIR`.

    Raises:
        UsageError: two for one dataset, or two for all.
    """
    found: dict[str, Path] = {}
    for option in given:
        name, equals, folder = option.partition("=")
        if not (equals and own.is_named(name, folder)):
            name, folder = "", option
        if name in found:
            which = f"{name}: two folders" if name else "two folders for all datasets"
            raise UsageError(
                f"--data-root: {which}, {found[name]} and {folder}. Expected one, or name=DIR for each dataset"
            )
        found[name] = expanded(folder)
    return found


def data_root(name: str, given: Sequence[str]) -> Path | None:
    """Return the root for a dataset from `--data-root` options, that of its own name before that for all.

    Raises:
        UsageError: the folder does not exist, or there are two.
    """
    found = data_roots(given)
    chosen = found.get(name, found.get(""))
    if chosen is not None and not chosen.is_dir():
        mistyped, equals, _ = str(chosen).partition("=")
        hint = did_you_mean(mistyped, DATASETS.targets) if equals else ""
        raise UsageError(f"--data-root {chosen}: no such folder.{hint} Expected the folder that holds {name}")
    return chosen.absolute() if chosen else None

"""The user's own datasets, named by their folder or by the user: `./washers`, `washers=DIR`."""

from __future__ import annotations

import re
from collections.abc import Sequence
from difflib import get_close_matches
from pathlib import Path

from bench.errors import UsageError
from bench.home import expanded
from bench.names import composed
from bench.registry import DATASETS

READER = "folder"
"""Reads what is nobody's dataset but the user's."""
_NAME = re.compile(r"\w[\w .+-]{0,63}")


def is_named(name: str, folder: str) -> bool:
    """Whether `name=folder` names a dataset: one of bench's, or of one's own, which it is from then on.

    Raises:
        UsageError: the name is nearly that of one of bench's.
    """
    if name in DATASETS.targets:
        return True
    if not _NAME.fullmatch(name) or not expanded(folder).is_dir():
        return False
    if near := get_close_matches(name, list(DATASETS.targets), n=1, cutoff=0.8):
        raise UsageError(
            f"--data-root {name}={folder}: no dataset '{name}'. Did you mean '{near[0]}'? A dataset of your own takes "
            "a name that differs more"
        )
    add(name)
    return True


def is_folder(given: str) -> bool:
    """Whether a folder is given in place of a dataset's name."""
    return "/" in given or given in (".", "..") or given.startswith("~")


def add(name: str) -> None:
    """Have a name that bench does not know, such as that of a record, stand for a folder of one's own."""
    DATASETS.add(name, DATASETS.targets[READER])


def resolved(datasets: Sequence[str], roots: Sequence[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return names of datasets and data roots in which folders given in place of names have names.

    `folder` stands for all that `--data-root` names and bench does not know.

    Raises:
        UsageError: a folder that is not there, or whose name cannot be a dataset's or is another's.
    """
    own = [name for name, equals, _ in (root.partition("=") for root in roots) if equals and is_own(name)]
    names: list[str] = []
    more: list[str] = []
    for given in datasets:
        if is_folder(given):
            name, folder = _named(given)
            if name in names or name in own:
                raise UsageError(f"--datasets {given}: another is called '{name}'. Expected --data-root NAME={given}")
            names.append(name)
            more.append(f"{name}={folder}")
        elif given == READER and own:
            names += own
        else:
            names.append(given)
    return tuple(dict.fromkeys(names)), (*roots, *more)


def only(dataset: str, roots: Sequence[str]) -> tuple[str, tuple[str, ...]]:
    """Return the one dataset that is meant, as `resolved` does. Raises UsageError where `folder` stands for several."""
    names, roots = resolved([dataset], roots)
    if len(names) != 1:
        raise UsageError(f"--datasets {dataset} is {', '.join(names)} here. Expected one dataset")
    return names[0], roots


def _named(given: str) -> tuple[str, Path]:
    folder = expanded(given).resolve()
    name = composed(folder.name)
    if not folder.is_dir():
        raise UsageError(
            f"--datasets {given}: no such folder. Expected one with images, or a name of bench ls datasets"
        )
    if not can_name(folder):
        why = "is that of a dataset of bench's" if name in DATASETS.targets else "cannot be a dataset's"
        raise UsageError(
            f"--datasets {given}: its name {why}. Expected --datasets {READER} --data-root NAME={given}, with a name "
            "of yours"
        )
    if name not in DATASETS.targets:
        add(name)
    return name, folder


def can_name(folder: Path) -> bool:
    """Whether a dataset can be called as the folder is: its name is a plain one, and none of bench's."""
    name = composed(expanded(str(folder)).resolve().name)
    return bool(_NAME.fullmatch(name)) and (name not in DATASETS.targets or is_own(name))


def is_own(name: str) -> bool:
    """Whether a name is that of a folder of one's own, by which only the run that named it knows it."""
    return name != READER and DATASETS.targets.get(name) == DATASETS.targets[READER]

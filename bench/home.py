"""Home folder in paths: `~` is expanded as a shell does, which sees none in `--out=~/x`."""

from __future__ import annotations

import os
from pathlib import Path

from bench.errors import UsageError


def expanded(path: str) -> Path:
    """Return a path with a leading `~` or `~user` replaced by that home.

    Raises:
        UsageError: there is no such user, or the system does not know their home.
    """
    found = os.path.expanduser(path)  # noqa: PTH111 - Path's own raises a RuntimeError
    if found.startswith("~"):
        raise UsageError(
            f"{path}: no home folder is known for '{found.partition('/')[0]}'. Expected a folder, or ./{path} for one "
            "that is called so"
        )
    return Path(found)

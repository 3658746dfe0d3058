"""Numbers in sentences: `1 cell`, `1,725 images`."""

from __future__ import annotations


def counted(count: int, thing: str, things: str = "") -> str:
    """Return a number of things, the word in its singular where there is one.

    Args:
        count: at least 0.
        thing: the singular.
        things: the plural, where it is not the singular with an s.
    """
    return f"{count:,} {thing if count == 1 else things or f'{thing}s'}"

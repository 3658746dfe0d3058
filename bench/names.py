"""Names from files made safe to show: which are shown as they are, how the others are, and which are one."""

from __future__ import annotations

import re
import unicodedata

UNPRINTABLE = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
"""What a terminal obeys, what breaks a line, what turns the direction of writing so that a name reads as another, and
halves of a pair, which stand for bytes that are not UTF-8."""


def harmless(text: str) -> str:
    r"""Return text to be printed: newlines and tabs stay, other unprintable characters are spelt, `\\x1b`."""
    return UNPRINTABLE.sub(lambda found: found[0] if found[0] in "\n\t" else ascii(found[0])[1:-1], text)


def composed(name: str) -> str:
    """Return a name in Unicode's composed form (NFC), as ids have it; macOS and some archives write it decomposed."""
    return name if name.isascii() else unicodedata.normalize("NFC", name)

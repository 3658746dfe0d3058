"""LaTeX escaping: every character of a name, a title or a note comes out as itself, whatever engine reads it."""

from __future__ import annotations

import re
import unicodedata

SPECIAL = {
    "\\": r"\textbackslash{}",
    "{": r"\{",
    "}": r"\}",
    "$": r"\$",
    "&": r"\&",
    "#": r"\#",
    "%": r"\%",
    "_": r"\_",
    "^": r"\textasciicircum{}",
    "~": r"\textasciitilde{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': r"\textquotedbl{}",
    "`": r"\textasciigrave{}",
    "±": r"$\pm$",
    "−": r"$-$",
    "×": r"$\times$",
    "·": r"$\cdot$",
    "–": r"\textendash{}",
    "—": r"\textemdash{}",
    "…": r"\ldots{}",
    "²": r"\textsuperscript{2}",
    "³": r"\textsuperscript{3}",
    "¹": r"\textsuperscript{1}",
    "°": r"\textdegree{}",
    "µ": r"\textmu{}",
    "μ": r"$\mu$",
    "σ": r"$\sigma$",
    "↑": r"$\uparrow$",
    "↓": r"$\downarrow$",
    "→": r"$\rightarrow$",
    "†": r"\textdagger{}",
    "‡": r"\textdaggerdbl{}",
    "∗": r"$\ast$",
    "≤": r"$\leq$",
    "≥": r"$\geq$",
    "≈": r"$\approx$",
    "✔": r"$\surd$",
    "✓": r"$\surd$",
    "✘": r"$\times$",
    "“": r"\textquotedblleft{}",
    "”": r"\textquotedblright{}",
    "‘": r"\textquoteleft{}",
    "’": r"\textquoteright{}",
    "€": r"\texteuro{}",
    "£": r"\textsterling{}",
    "§": r"\S{}",
    "ß": r"\ss{}",
    "æ": r"\ae{}",
    "Æ": r"\AE{}",
    "œ": r"\oe{}",
    "Œ": r"\OE{}",
    "ø": r"\o{}",
    "Ø": r"\O{}",
    "å": r"\aa{}",
    "Å": r"\AA{}",
    "ł": r"\l{}",
    "Ł": r"\L{}",
    "ı": r"\i{}",
}
ACCENTS = {
    "\u0300": "`",
    "\u0301": "'",
    "\u0302": "^",
    "\u0303": "~",
    "\u0304": "=",
    "\u0306": "u",
    "\u0307": ".",
    "\u0308": '"',
    "\u030a": "r",
    "\u030b": "H",
    "\u030c": "v",
    "\u0327": "c",
    "\u0328": "k",
}
"""Combining character -> accent command."""


def tex(text: str) -> str:
    """Return text that LaTeX prints as it is. What the usual fonts lack is spelt by its code, [U+4E2D]."""
    code = "".join(_one(char) for char in unicodedata.normalize("NFC", text))
    # two hyphens would become a dash, two quotes a double one
    return re.sub(r"([-',])(?=\1)", r"\1{}", code)


def _one(char: str) -> str:
    if char in SPECIAL:
        return SPECIAL[char]
    if char.isspace():
        return " "
    if "!" <= char <= "~":
        return char
    apart = unicodedata.normalize("NFD", char)
    if len(apart) == 2 and apart[1] in ACCENTS and apart[0].isascii() and apart[0].isalpha():
        # an accent stands over a dotless i
        letter = r"\i" if apart[0] == "i" else apart[0]
        return rf"\{ACCENTS[apart[1]]}{{{letter}}}"
    return f"[U+{ord(char):04X}]"

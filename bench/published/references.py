"""Bibliographic references of the methods, from references.toml, and the form of the addresses in them."""

from __future__ import annotations

import re
import tomllib
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

FILE = Path(__file__).parent / "references.toml"
ARXIV = re.compile(r"(?P<year>\d{2})(?P<month>0[1-9]|1[0-2])\.\d{5}")
"""A number of arXiv's since 2015: year, month, and a count within the month."""
DOI = re.compile(r"10\.\d{4,9}/[-._;()/:A-Za-z0-9]+")


@dataclass(frozen=True, slots=True)
class Reference:
    """Where a method was published."""

    key: str
    """By which papers cite it: `guo2025dinomaly`."""
    title: str
    authors: tuple[str, ...]
    year: int
    venue: str = ""
    """Conference by its short name; empty for a preprint."""
    pages: str = ""
    arxiv: str = ""
    """Number of the preprint; empty where none was found printed."""
    doi: str = ""
    note: str = ""

    def faults(self) -> Iterator[str]:
        """Yield what of the key and the addresses cannot be right."""
        family = _plain(self.authors[0].split()[-1])
        if not re.fullmatch(rf"{family}{self.year}[a-z]+", self.key):
            yield f"key '{self.key}', expected {family}{self.year} and a word"
        if self.arxiv:
            yield from arxiv_faults(self.arxiv, self.year)
        if self.doi and not DOI.fullmatch(self.doi):
            yield f"DOI '{self.doi}' has not the form 10.1234/word"


def arxiv_faults(number: str, year: int) -> Iterator[str]:
    """Yield what cannot be right of an arXiv number of a work published in some year."""
    form = ARXIV.fullmatch(number)
    if form is None:
        yield f"arXiv number '{number}' has not the form 2405.14325"
    elif not 0 <= year - (2000 + int(form["year"])) <= 3:
        yield f"arXiv number {number} is of 20{form['year']}, the work of {year}"


@cache
def references() -> dict[str, Reference]:
    """Return the reference of each method that has one."""
    entries = tomllib.loads(FILE.read_text(encoding="utf-8"))
    return {name: Reference(**{**entry, "authors": tuple(entry["authors"])}) for name, entry in entries.items()}


def _plain(name: str) -> str:
    """Return a name in lower case without accents."""
    return unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode().lower()

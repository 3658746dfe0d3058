"""The citation file, with the papers of the methods: `python tools/citation.py > CITATION.cff`."""

from __future__ import annotations

import json
from collections.abc import Iterator

import bench
from bench.published.references import Reference, references
from bench.registry import METHODS

HEAD = """cff-version: 1.2.0
title: "bench: multi-class unsupervised anomaly detection under one protocol"
message: "If you use bench or its records, please cite it together with the methods and datasets you ran."
type: software
version: {version}
license: Apache-2.0
authors:
  - name: "The bench maintainers"
references:
"""


def text() -> str:
    """Return the file in the Citation File Format 1.2.0, which readers of YAML take: a reference a built-in method."""
    known = references()
    papers = [line for name in METHODS.builtin if name in known for line in _reference(known[name])]
    return HEAD.format(version=bench.__version__) + "\n".join(papers) + "\n"


def _reference(paper: Reference) -> Iterator[str]:
    yield f"  - type: {'conference-paper' if paper.venue else 'article'}"
    yield f"    title: {_quoted(paper.title)}"
    yield "    authors:"
    for author in paper.authors:
        yield f"      - name: {_quoted(author)}"
    yield f"    year: {paper.year}"
    for key, value in (("collection-title", paper.venue), ("doi", paper.doi)):
        if value:
            yield f"    {key}: {_quoted(value)}"
    if paper.arxiv:
        yield f"    url: {_quoted(f'https://arxiv.org/abs/{paper.arxiv}')}"


def _quoted(words: str) -> str:
    return json.dumps(words, ensure_ascii=False)


if __name__ == "__main__":
    print(text(), end="")

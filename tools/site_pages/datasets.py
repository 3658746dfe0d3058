"""A page a dataset, made from its card: what was published of it, its classes and counts, where to get it."""

from __future__ import annotations

from functools import cache
from typing import Any

from bench.registry import DATASETS

from .markdown import as_markdown, table
from .shown import listed, show

MASKS = {"pixel": "pixel masks", "none": "none: image metrics alone", "optional": "where they are at hand"}

HEAD = """# Datasets

As their owners distribute them; `--data-root DIR` says where. `bench show NAME` prints a card."""


@cache
def pages() -> dict[str, str]:
    """Return the section's pages: path in the site -> Markdown."""
    rows = [row for row in listed("datasets") if row["name"] in DATASETS.builtin]
    overview = table(
        ("name", "what", "kind", "masks", "licence"),
        [
            (
                f"[{row['name']}]({row['name']}.md)",
                row["summary"],
                facts["kind"],
                MASKS[facts["masks"]],
                facts["licence"],
            )
            for row in rows
            for facts in [show(row["name"])]
        ],
    )
    return {"datasets/index.md": f"{HEAD}\n\n{overview}", **{f"datasets/{row['name']}.md": _page(row) for row in rows}}


def _page(row: dict[str, Any]) -> str:
    facts = show(row["name"])
    _, _, told = DATASETS.docstring(row["name"]).partition("\n")
    counts = [(cls, one["train"], one["good"], one["bad"], one["val"] or "–") for cls, one in facts["counts"].items()]
    splits = [(key, ", ".join(some)) for key, some in facts["splits"].items()]
    parts = [
        f"# {facts['title']}\n\n`{facts['name']}`: {row['summary']}",
        as_markdown(told),
        table(
            ("", ""),
            [
                ("kind", facts["kind"]),
                ("masks", MASKS[facts["masks"]]),
                ("licence", facts["licence"]),
                ("cite", facts["citation"]),
                ("where to get it", facts["source"]),
            ],
        ),
        "\n".join(f"- {note}" for note in facts["notes"]),
        "## Images\n\n" + table(("class", "train", "test, normal", "test, anomalous", "validation"), counts)
        if counts
        else "",
        "## Half-splits\n\n" + table(("split", "normal classes"), splits) if splits else "",
        f"```\nbench data get {facts['name']} --root /data\nbench data verify {facts['name']} --root /data\n```"
        if facts["name"] not in ("demo", "folder")
        else "",
    ]
    return "\n\n".join(filter(None, parts))

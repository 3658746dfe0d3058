"""MkDocs' hook of the site: it adds the generated pages, and leads links out of docs/ to a page or to a file's name.

MkDocs calls the functions by their names (https://www.mkdocs.org/dev-guide/plugins/#events).
"""

from __future__ import annotations

import posixpath
import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files, InclusionLevel

from site_pages import datasets, methods, metrics

REPO = Path(__file__).resolve().parents[2]
ADOPTED = {
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
    "results/README.md": "records.md",
    "bench/encoders/embedded/CARD.md": "embedded-encoder.md",
    "README.md": "readme.md",
}
"""Pages that stand elsewhere in the repository -> their places in the site."""
MADE = {"methods": methods.pages, "datasets": datasets.pages, "metrics": metrics.pages}
"""Sections that are made from the code."""
SHOWN = (InclusionLevel.UNDEFINED, InclusionLevel.NOT_IN_NAV, InclusionLevel.INCLUDED)
LINK = re.compile(r"\[([^\]]*)\]\((?!https?:|#|mailto:)([^)#\s]+)(#[^)]*)?\)")
PICTURE = re.compile(r"!\[([^\]]*)\]\((?!https?:)([^)\s]+)\)")


def on_config(config: Any) -> Any:
    """Put the generated pages where the navigation names their section."""
    made = {section: list(pages()) for section, pages in MADE.items()}
    config.nav = [_filled(entry, made) for entry in config.nav]
    return config


def _filled(entry: Any, made: dict[str, list[str]]) -> Any:
    if isinstance(entry, dict):
        ((title, below),) = entry.items()
        if isinstance(below, str) and below.rstrip("/") in made:
            return {title: made[below.rstrip("/")]}
        if isinstance(below, list):
            return {title: [_filled(one, made) for one in below]}
    return entry


def on_files(files: Files, config: Any) -> Files:
    """Add what is made from the code, and what stands elsewhere in the repository."""
    for pages in MADE.values():
        for path, text in pages().items():
            files.append(File.generated(config, path, content=text))
    for source, path in ADOPTED.items():
        files.append(File.generated(config, path, content=(REPO / source).read_text(encoding="utf-8")))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Files) -> str:
    """Lead each link to a page of the site; a link to any other file of the repository becomes the file's name."""
    here = page.file.src_uri
    origin = {path: source for source, path in ADOPTED.items()}.get(here, f"docs/{here}")
    folder = posixpath.dirname(origin)

    def led(match: re.Match[str]) -> str:
        text, target, anchor = match[1], match[2], match[3] or ""
        path = posixpath.normpath(posixpath.join(folder, target))
        place = ADOPTED.get(path) or (path.removeprefix("docs/") if path.startswith("docs/") else None)
        page_of = files.get_file_from_path(place) if place is not None else None
        if place is not None and page_of is not None and page_of.inclusion in SHOWN:
            return f"[{text}]({posixpath.relpath(place, posixpath.dirname(here) or '.')}{anchor})"
        if not (REPO / path).exists():
            return match[0]  # MkDocs warns of it, and a warning is an error
        return f"{text} (`{path}`)" if path not in text else f"`{path}`"

    return LINK.sub(led, PICTURE.sub(lambda match: match[1] if match[2].startswith("reports/") else match[0], markdown))

"""The committed example report: no picture in it is of a dataset that may not be passed on."""

from __future__ import annotations

import re

from conftest import REPO

OURS = {"demo"}
"""Datasets whose pictures this project drew itself."""


def test_its_gallery_shows_generated_pictures_alone() -> None:
    page = (REPO / "reports" / "example" / "report.html").read_text(encoding="utf-8")
    shown = re.findall(r'<section class="gallery" id="gallery-(.+?)-\d+"', page)
    assert shown and set(shown) <= OURS
    # pictures stand in galleries alone, as data: nothing else of the page holds any
    parts = page.split('<section class="gallery"')
    assert "data:image/" not in parts[0] and all("data:image/" in part for part in parts[1:])

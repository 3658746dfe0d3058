"""The page as text: escaping, what it embeds, what it never refers to."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
from made_records import made

from bench.report.figures.drawing import Figure
from bench.report.figures.gallery import Gallery, GalleryImage
from bench.report.figures.illustrate import Illustrations, illustrate
from bench.report.formats.html import page
from bench.report.tables import build
from bench.store.evidence import EvidenceFiles

EVIL = "<img src=x onerror=alert(1)>"
CLOSING = "</script><script>alert(2)</script>"


class Elements(HTMLParser):
    """Names and attributes of all elements, and the text of scripts."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: list[str] = []
        self._open = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))
        self._open = tag

    def handle_data(self, data: str) -> None:
        if self._open == "script" and data.strip():
            self.scripts.append(data)

    def handle_endtag(self, tag: str) -> None:
        self._open = ""


def rendered(**changes: Any) -> str:
    records = [
        made("dinomaly", "mvtec", {"bottle": 0.9, EVIL: 0.8, CLOSING: 0.7}, config={"attention": CLOSING, **changes}),
        made("vitad", "mvtec", {"bottle": 0.8, EVIL: 0.9, CLOSING: 0.6}),
        made("rd4ad", "mvtec", {"bottle": 0.7, EVIL: 0.85, CLOSING: 0.5}),
    ]
    return page(f"{EVIL} {CLOSING}", build.tables(records), records, illustrate(records, EvidenceFiles([])))


def data_of(text: str) -> dict[str, Any]:
    data: dict[str, Any] = json.loads(Elements(text).scripts[0])
    return data


def test_a_name_makes_no_element_and_no_attribute() -> None:
    found = Elements(rendered()).found
    assert [attrs.get("type") for tag, attrs in found if tag == "script"] == [
        *(["application/json"] * 2),
        None,
    ]
    assert not [tag for tag, _ in found if tag == "img"]
    assert not [attrs for _, attrs in found if any(name.startswith("on") for name in attrs)]


def test_nothing_is_fetched() -> None:
    for tag, attrs in Elements(rendered()).found:
        for name, value in attrs.items():
            if name in ("src", "href", "xlink:href", "action", "srcset", "poster"):
                assert (value or "").startswith(("#", "data:")), f"<{tag} {name}={value}>"
    style = re.search(r"<style>(.*?)</style>", rendered(), re.DOTALL)
    assert style and "url(" not in style[1] and "@import" not in style[1]


def test_only_the_script_of_the_page_is_allowed() -> None:
    text = rendered()
    script = Elements(text).scripts[2]
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    policy = next(attrs["content"] for tag, attrs in Elements(text).found if tag == "meta" and "http-equiv" in attrs)
    assert policy and f"script-src 'sha256-{digest}'" in policy and "default-src 'none'" in policy


def test_ids_are_unique() -> None:
    ids = [attrs["id"] for _, attrs in Elements(rendered()).found if "id" in attrs]
    assert len(ids) == len(set(ids)) and {"details", "data", "overview-multi"} <= set(ids)


def test_the_details_are_those_of_the_records() -> None:
    data = data_of(rendered(dropout=0.7))
    first = data["records"][0]
    config = data["shared"][first["config"]]
    assert config["dropout"] == 0.7 and config["attention"] == CLOSING
    assert first["changed"] == ["attention", "dropout"] and first["command"] == "bench run"
    # the same machine, protocol and data are there once
    for name in ("environment", "protocol"):
        assert len({record[name] for record in data["records"]}) == 1


def test_every_number_of_ours_leads_to_its_records() -> None:
    text = rendered()
    count = len(data_of(text)["records"])
    found = [attrs["data-r"] or "" for _, attrs in Elements(text).found if "data-r" in attrs]
    assert len(found) > 20 and all(0 <= int(place) < count for places in found for place in places.split())


def test_a_command_can_be_repeated_and_names_no_user() -> None:
    command = ("bench", "run", "--data-root", "mvtec=/home/me/my data/mvtec", "--results", "/tmp/runs", "--setting=a/b")
    record = made("dinomaly", "mvtec").model_copy(update={"command": command})
    why = Figure("why", "Absent", absent="the images are not at hand (no folder /home/me/data; see https://a.b/c)")
    text = page("x", build.tables([record]), [record], Illustrations((why,)))
    assert data_of(text)["records"][0]["command"] == (
        "bench run --data-root 'mvtec=~/my data/mvtec' --results /tmp/runs --setting=a/b"
    )
    assert "/home" not in text and "(no folder …/data; see https://a.b/c)" in text


def test_every_panel_of_the_gallery_has_a_heading() -> None:
    tile = np.zeros((8, 8, 3), np.uint8)
    shot = GalleryImage("bottle/1", "bottle", "detected", (tile,) * 4, ("input", "no mask", "map", "overlay"))
    extras = Illustrations(galleries=(Gallery("g", "G", "", (shot,), dataset="mvtec"),))
    text = page("x", [], [made("dinomaly", "mvtec")], extras)
    heads = [f"<span>{panel}</span>" for panel in shot.panels]
    assert "\n".join(heads) in text and 'alt="no mask of bottle/1"' in text


def test_advice_with_slashes_is_no_folder() -> None:
    advice = "Lay your images out as `<class>/train/good/*`, <class>/test/<good or defect>/* or '/data/mine/x'"
    why = Figure("why", "Absent", absent=f"no images below /home/me/data. {advice} (root=/srv/a/b)")
    record = made("dinomaly", "mvtec")
    text = page("x", build.tables([record]), [record], Illustrations((why,)))
    shown = "`&lt;class&gt;/train/good/*`, &lt;class&gt;/test/&lt;good or defect&gt;/* or &#39;…/x&#39;"
    assert "no images below …/data" in text and shown in text and "(root=…/b)" in text


def test_a_page_without_published_rows_has_no_switch_for_them() -> None:
    records = [made("dinomaly", "mvtec")]
    shown = page("x", build.tables(records, published=False), records)
    assert 'data-switch="published"' not in shown and 'data-switch="published"' in rendered()


def test_a_record_without_costs_has_no_times() -> None:
    record = made("dinomaly", "mvtec").model_copy(update={"efficiency": None})
    assert data_of(page("x", build.tables([record]), [record]))["records"][0]["seconds"] is None


def test_the_command_writes_page_and_figures(bench: Callable, tree: Path, tmp_path: Path, small: Callable) -> None:
    assert bench(*small(steps=2), "--data-root", str(tree), "--results", "out", "--keep-maps").returncode == 0
    done = bench(
        *("report", "--results", "out", "--out", "made", "--format", "html,figures", "--data-root", f"folder={tree}")
    )
    assert done.returncode == 0, done.stderr + done.stdout
    text = (tmp_path / "made" / "report.html").read_text(encoding="utf-8")
    found = Elements(text).found
    assert len([tag for tag, _ in found if tag == "img"]) >= 4, "the gallery has pictures"
    pdfs = sorted(path.stem for path in (tmp_path / "made" / "figures").iterdir())
    kinds = ("gallery", "pr", "pro", "roc", "scores", "throughput", "training")
    assert [name.partition("-")[0] for name in pdfs] == list(kinds)
    assert all(path.read_bytes()[:5] == b"%PDF-" for path in (tmp_path / "made" / "figures").iterdir())

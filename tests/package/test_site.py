"""The documentation's site: it builds without a warning, and has a page for every method, dataset and metric."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest
from site_pages.markdown import as_markdown, table

from bench.published import method_names
from bench.registry import DATASETS, METHODS, METRICS

REPO = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(out)]
    told = {**os.environ, "PYTHONPATH": "tools", "NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(command, cwd=REPO, env=told, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return out


class _Links(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found += [value for key, value in attrs if tag == "a" and key == "href" and value]


def test_every_page_is_there_and_every_link_leads_to_one(site: Path) -> None:
    for name in METHODS.builtin:
        assert (site / "methods" / f"{name}.html").exists(), name
    for name in DATASETS.builtin:
        assert (site / "datasets" / f"{name}.html").exists(), name
    pages = list(site.rglob("*.html"))
    assert len(pages) > 50
    for page in pages:
        links = _Links()
        links.feed(page.read_text(encoding="utf-8"))
        for link in links.found:
            target = link.partition("#")[0]
            if target and "://" not in target and page.name != "404.html":
                assert (page.parent / target).resolve().exists(), (page, link)


def test_a_page_holds_what_the_code_says(site: Path) -> None:
    uniad = (site / "methods" / "uniad.html").read_text(encoding="utf-8")
    for text in ("neighbour_mask", "EfficientNet", "Differences from the official code"):
        assert text in uniad, text
    dinomaly = (site / "methods" / "dinomaly.html").read_text(encoding="utf-8")
    assert "148,008,960" in dinomaly  # parameters, as the paper counts them
    assert re.search(r"<td>99.6</td>", dinomaly)  # MVTec AD's image AUROC, as printed
    metrics = (site / "metrics" / "index.html").read_text(encoding="utf-8")
    assert [name for name in METRICS.builtin if name.partition("@")[0] not in metrics] == []


def test_a_link_out_of_the_docs_is_the_file_s_name(site: Path) -> None:
    page = (site / "own-method.html").read_text(encoding="utf-8")
    assert "<code>docs/example-plugin/bench_example/mean_patch.py</code>" in page


def test_readme_names_every_method_and_is_short() -> None:
    readme = (REPO / "README.md").read_text(encoding="utf-8")
    names = method_names()
    told = re.sub(r"\s+", " ", readme).lower()
    assert [name for name in METHODS.builtin if names.get(name, name).lower() not in told] == []
    assert len(readme.split()) <= 900


def test_tables_and_lists() -> None:
    assert table(("a", "b"), [("x|y", None)]) == "| a | b |\n|---|---|\n| x\\|y | – |\n"
    assert table(("a",), []) == ""
    assert as_markdown("Told:\n- one\n  more\n- two") == "Told:\n\n- one\n  more\n- two"

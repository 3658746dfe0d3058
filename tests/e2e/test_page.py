"""The report's page in a real browser: what it does, what it shows, and what it never does."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from made_records import made

from bench.report.figures.drawing import Figure
from bench.report.figures.illustrate import Illustrations, illustrate
from bench.report.formats.html import page
from bench.report.tables import build
from bench.report.tables.table import Table, TableRow
from bench.store.evidence import EvidenceFiles

EVIL = "<img src=x onerror=alert(1)>"
NASTY = "</script><script>alert(2)</script>\"'&amp;"
CLASSES = {"bottle": 0.91, "metal_nut": 0.83, EVIL: 0.72}


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    playwright = pytest.importorskip(
        "playwright.sync_api", reason="playwright is not installed: pip install playwright"
    )
    names = ("chromium", "chromium-browser", "google-chrome")
    found = next((path for name in names if (path := shutil.which(name))), None)
    if found is None:
        pytest.skip("no Chromium on this machine: apt-get install chromium")
    with playwright.sync_playwright() as started:
        opened = started.chromium.launch(executable_path=found, args=["--no-sandbox"])
        yield opened
        opened.close()


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two datasets, three methods with published rows, one of several seeds, and names that would do harm."""
    records = [
        made("dinomaly", "mvtec", CLASSES, seed=0, config={"dropout": 0.4, "attention": NASTY}),
        made("dinomaly", "mvtec", {name: level + 0.02 for name, level in CLASSES.items()}, seed=1),
        made("dinomaly", "mvtec", {name: level + 0.03 for name, level in CLASSES.items()}, seed=0),
        made("rd4ad", "mvtec", {name: level - 0.05 for name, level in CLASSES.items()}),
        made("vitad", "mvtec", {name: level - 0.1 for name, level in CLASSES.items()}),
        made("vitad", "visa", {"candle": 0.8, NASTY: 0.75}),
    ]
    extras = illustrate(records, EvidenceFiles([]))
    reason = Figure("why", "Absent", absent=f"because of {EVIL}")
    extras = Illustrations((*extras.figures, reason), extras.galleries, extras.tables)
    path = tmp_path_factory.mktemp("page") / "report.html"
    tables = [with_interval(table) for table in build.tables(records)]
    path.write_text(page(f"Report {EVIL}", tables, records, extras), encoding="utf-8")
    return path


def with_interval(table: Table) -> Table:
    """The table with an interval in each cell of ours."""

    def filled(row: TableRow) -> TableRow:
        return replace(row, cells=tuple(replace(c, interval=(0.8, 0.912)) if c.records else c for c in row.cells))

    blocks = tuple(replace(block, rows=tuple(map(filled, block.rows))) for block in table.blocks)
    return replace(table, blocks=blocks)


class Watched:
    """A page with all that went wrong in it."""

    def __init__(self, page: Any) -> None:
        self.page = page
        self.wrong: list[str] = []
        self.requests: list[str] = []
        page.on("console", lambda message: self.wrong.append(message.text))
        page.on("pageerror", lambda error: self.wrong.append(str(error)))
        page.on("dialog", lambda dialog: (self.wrong.append(f"dialog {dialog.message}"), dialog.dismiss()))
        page.on("request", lambda request: self.requests.append(request.url))


@pytest.fixture
def watched(browser: Any, written: Path) -> Iterator[Watched]:
    """The opened page; the test fails if it complained, asked for anything but itself or ran a script of a name."""
    context = browser.new_context(viewport={"width": 1280, "height": 900}, color_scheme="light")
    opened = Watched(context.new_page())
    opened.page.goto(written.as_uri())
    yield opened
    assert opened.wrong == []
    assert [url for url in opened.requests if not url.startswith("data:")] == [written.as_uri()]
    context.close()


OVERVIEW = "#overview-multi"
BY_CLASS = "#classes-mvtec-multi"


def column(page: Any, sheet: str, body: int, place: int) -> list[str]:
    rows = page.locator(f"{sheet} tbody:not(.title)").nth(body).locator("tr.line:visible")
    return [rows.nth(row).locator("th, td").nth(place).inner_text() for row in range(rows.count())]


def numbers(page: Any, sheet: str, place: int) -> list[float]:
    """The values of ours in the first block in one column, from the top, as the page sorts them."""
    ours = page.locator(f"{sheet} tbody:not(.title)", has_text="Ours").first
    cells = ours.locator(f"tr.line:visible > :nth-child({place + 1})")
    values = [cells.nth(row).get_attribute("data-v") for row in range(cells.count())]
    return [float(value) for value in values if value]


def test_a_click_on_a_heading_sorts_and_a_second_one_turns_it(watched: Watched) -> None:
    page = watched.page
    head = page.locator(f"{OVERVIEW} .heads th").nth(1)
    assert head.get_attribute("aria-sort") == "none"
    head.locator("button").click()
    assert head.get_attribute("aria-sort") == "descending"
    found = numbers(page, OVERVIEW, 1)
    assert len(found) > 3 and found == sorted(found, reverse=True)
    # the keyboard does the same
    head.locator("button").press("Enter")
    assert head.get_attribute("aria-sort") == "ascending"
    assert numbers(page, OVERVIEW, 1) == sorted(found)
    other = page.locator(f"{OVERVIEW} .heads th").nth(2)
    other.locator("button").click()
    assert (head.get_attribute("aria-sort"), other.get_attribute("aria-sort")) == ("none", "descending")


def test_a_third_click_restores_the_order(watched: Watched) -> None:
    page = watched.page
    button = page.locator(f"{OVERVIEW} .heads th").nth(1).locator("button")
    before = numbers(page, OVERVIEW, 1)
    for _ in range(2):
        button.click()
    assert numbers(page, OVERVIEW, 1) == sorted(before) != before
    button.click()
    assert numbers(page, OVERVIEW, 1) == before
    assert page.locator(f"{OVERVIEW} .heads th").nth(1).get_attribute("aria-sort") == "none"


@pytest.mark.parametrize("name", ["LaTeX", "Markdown", "CSV"])
def test_a_table_is_copied_as_it_would_be_written(name: str, watched: Watched) -> None:
    page = watched.page
    page.evaluate("navigator.clipboard.writeText = (text) => { window.copied = text; return Promise.resolve(); }")
    button = page.locator(f"{OVERVIEW} .copy").get_by_text(name)
    button.click()
    page.locator(f"{OVERVIEW} .copy").get_by_text("copied").wait_for()
    text = page.evaluate("window.copied")
    start = {"LaTeX": "% made by bench report", "Markdown": "## Overview", "CSV": "dataset,method,source,I-AUROC"}[name]
    assert text.startswith(start) and "RD4AD" in text
    button.click()
    assert page.evaluate("window.copied") == text


def test_the_page_says_what_can_be_clicked_and_when_nothing_matches(watched: Watched) -> None:
    page = watched.page
    assert page.get_by_text("A click on a number shows its record").is_visible()
    assert not page.locator("#nothing").is_visible()
    page.fill("#words", "nothing is called so")
    page.locator("#nothing").wait_for(state="visible")
    assert not page.locator("#statistics").is_visible(), "no heading without a table"
    page.fill("#words", "")
    page.locator("#statistics").wait_for(state="visible")


def test_a_mean_stays_below_its_classes(watched: Watched) -> None:
    page = watched.page
    page.locator(f"{BY_CLASS} .heads th").nth(0).locator("button").click()
    names = column(page, BY_CLASS, 0, 0)
    assert names[-1].startswith("mean of") and names[:-1] == sorted(names[:-1], key=str.lower)
    assert EVIL in names, "a name is shown as it is"


def test_datasets_and_words_filter(watched: Watched) -> None:
    page = watched.page
    assert page.locator("#classes-visa-multi").is_visible()
    page.select_option("#dataset", "mvtec")
    assert not page.locator("#classes-visa-multi").is_visible()
    links = page.locator("nav a:visible").all_inner_texts()
    assert links and not [text for text in links if "VisA" in text], "no link leads to what is hidden"
    titles = page.locator(f"{OVERVIEW} tbody.title:visible")
    assert [title.strip() for title in titles.all_inner_texts()] == ["MVTec AD"]
    page.fill("#words", "vitad")
    page.locator(f"{OVERVIEW} tr.line", has_text="RD4AD").first.wait_for(state="hidden")
    assert all("ViTAD" in name for name in column(page, OVERVIEW, 0, 0))
    page.fill("#words", "nothing is called so")
    page.locator(OVERVIEW).wait_for(state="hidden")
    assert page.locator("#shown").inner_text() == "0 rows"
    assert page.locator("nav a:visible").all_inner_texts() == ["Figures"]
    page.select_option("#dataset", "")
    page.fill("#words", "")
    page.locator('nav a[href="#classes-visa-multi"]').wait_for(state="visible")


def test_published_rows_and_columns_go_and_come_back(watched: Watched) -> None:
    page = watched.page
    before = page.locator(f"{OVERVIEW} tr.line:visible").count()
    assert page.locator(f"{OVERVIEW} tr.published:visible").count() > 0
    switch = page.locator('[data-switch="published"]')
    switch.uncheck()
    assert page.locator(".published:visible").count() == 0
    span = page.locator(f"{BY_CLASS} .groups th:visible").first
    heads = page.locator(f"{BY_CLASS} .heads th:visible").count() - 1
    groups = page.locator(f"{BY_CLASS} .groups th:visible")
    spans = [int(groups.nth(place).get_attribute("colspan") or 1) for place in range(groups.count())]
    assert span.is_visible() and sum(spans) == heads, "headings span what is left"
    switch.check()
    assert page.locator(f"{OVERVIEW} tr.line:visible").count() == before


def test_groups_of_metrics_are_switched_off(watched: Watched) -> None:
    page = watched.page
    page.locator('[data-switch="g-pixel"]').uncheck()
    shown = page.locator(f"{OVERVIEW} .heads th:visible").all_inner_texts()
    assert "I-AUROC" in shown and not any(name.startswith("P-") or name == "AUPRO" for name in shown)
    assert page.locator(f"{OVERVIEW} tr.line td.g-pixel:visible").count() == 0


def test_a_click_on_a_number_shows_its_record(watched: Watched) -> None:
    page = watched.page
    page.locator(f"{OVERVIEW} tr.line:not(.published)", has_text="Dinomaly").first.locator("td button").first.click()
    dialog = page.locator("#details")
    assert dialog.is_visible()
    text = dialog.inner_text()
    for word in (
        "Dinomaly",
        "I-AUROC",
        "bench run",
        "common v1",
        "dropout",
        "80.00 to 91.20",
        "mvtec/dinomaly/multi/s0-",
    ):
        assert word in text, f"{word} is not in: {text}"
    assert NASTY in text, "a setting is shown as it is"
    assert page.locator("#details tr.changed").count() == 2
    page.keyboard.press("Escape")
    assert not dialog.is_visible()


def test_a_published_number_says_where_it_stands(watched: Watched) -> None:
    page = watched.page
    page.locator(f"{OVERVIEW} tr.published td button").first.click()
    text = page.locator("#details").inner_text()
    assert "in print" in text and "table" in text


def test_arrows_move_between_numbers_and_tab_leaves_the_table(watched: Watched) -> None:
    page = watched.page
    first = page.locator(f'{OVERVIEW} td button[tabindex="0"]')
    assert first.count() == 1
    first.focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowDown")
    where = page.evaluate("[document.activeElement.parentNode.cellIndex, document.activeElement.tabIndex]")
    assert where == [2, 0]
    page.keyboard.press("Enter")
    assert page.locator("#details").is_visible()


def test_dark_and_light(watched: Watched) -> None:
    page = watched.page
    colour = "getComputedStyle(document.body).backgroundColor"
    light = page.evaluate(colour)
    page.locator("#theme").click()
    dark = page.evaluate(colour)
    assert light != dark
    page.emulate_media(color_scheme="dark")
    page.locator("#theme").click()
    assert page.evaluate(colour) == light, "what the reader chose stands above the system"


def test_names_are_text_and_make_no_element(watched: Watched) -> None:
    page = watched.page
    assert page.locator('img[src="x"]').count() == 0
    assert page.locator("script").count() == 3
    assert page.title() == f"Report {EVIL}"
    assert page.locator(".absent li", has_text=EVIL).count() == 1


def test_no_script_but_the_pages_own_may_run(browser: Any, written: Path) -> None:
    context = browser.new_context()
    page = context.new_page()
    said: list[str] = []
    page.on("console", lambda message: said.append(message.text))
    page.goto(written.as_uri())
    page.evaluate("document.body.insertAdjacentHTML('beforeend', '<img src=x onerror=\"window.bad = 1\">')")
    page.wait_for_timeout(100)
    assert page.evaluate("window.bad") is None
    assert any("Content Security Policy" in text for text in said)
    context.close()


def test_a_phone_scrolls_tables_and_not_the_page(browser: Any, written: Path) -> None:
    context = browser.new_context(viewport={"width": 390, "height": 844})
    page = context.new_page()
    page.goto(written.as_uri())
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    box = page.locator(f"{OVERVIEW} .scroll")
    assert box.evaluate("box => box.scrollWidth > box.clientWidth")
    box.evaluate("box => box.scrollTo(200, 0)")
    stub = page.locator(f"{OVERVIEW} tr.line th").first.bounding_box()
    assert stub is not None and stub["x"] >= 0, "the name of a row stays in sight"
    context.close()


@pytest.mark.parametrize("width", [1600, 390])
def test_heads_that_were_moved_are_at_the_top_on_paper(width: int, browser: Any, written: Path) -> None:
    context = browser.new_context(viewport={"width": width, "height": 300})
    page = context.new_page()
    page.goto(written.as_uri())
    for sheet in (OVERVIEW, BY_CLASS):
        under_the_bar(page, sheet)
        page.emulate_media(media="print")
        places = [page.locator(f"{sheet} {part}").first.bounding_box()["y"] for part in ("table", "thead th")]
        assert abs(places[0] - places[1]) <= 30, sheet  # the heads may have one line above, of groups
        row = page.locator(f"{sheet} tbody tr").first.bounding_box()
        head = page.locator(f"{sheet} .heads th").first.bounding_box()
        assert row["y"] >= head["y"] + head["height"] - 1, "no row lies below the heads"
        page.emulate_media(media="screen")
    context.close()


def test_it_prints(browser: Any, written: Path) -> None:
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    page = context.new_page()
    page.goto(written.as_uri())
    page.emulate_media(media="print")
    assert not page.locator(".bar").is_visible() and page.locator(OVERVIEW).is_visible()
    assert page.pdf()[:5] == b"%PDF-"
    context.close()


def test_a_wide_table_is_cut_between_groups_on_paper(browser: Any, written: Path) -> None:
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    page = context.new_page()
    page.goto(written.as_uri())
    count = page.locator(f"{BY_CLASS} .heads th").count() - 1
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    page.emulate_media(media="print")
    parts = page.locator(f"{BY_CLASS} table:visible")
    heads = [parts.nth(place).locator(".heads th").count() - 1 for place in range(parts.count())]
    assert len(heads) > 1 and sum(heads) == count, "every column is on paper once"
    rows = page.locator(f"{BY_CLASS} table.piece tr.line")
    cells = [rows.nth(place).locator("td").count() for place in range(rows.count())]
    assert set(cells) == set(heads)
    page.evaluate("dispatchEvent(new Event('afterprint'))")
    page.emulate_media(media="screen")
    assert page.locator("table.piece").count() == 0 and page.locator(f"{BY_CLASS} table:visible").count() == 1
    context.close()


def under_the_bar(page: Any, sheet: str) -> tuple[float, float]:
    """Where the bar ends and where the heads of a table begin, once the page is scrolled to the middle of it."""
    page.evaluate(
        "(sheet) => { const box = document.querySelector(`${sheet} table`).getBoundingClientRect();"
        " scrollTo(0, scrollY + box.top + box.height / 2 - 100); }",
        sheet,
    )
    page.wait_for_timeout(150)
    bar, head = (page.locator(part).first.bounding_box() for part in (".bar", f"{sheet} thead th"))
    return bar["y"] + bar["height"], head["y"]


@pytest.mark.parametrize("width", [1600, 390])
def test_heads_stay_below_the_bar_while_the_page_is_scrolled(width: int, browser: Any, written: Path) -> None:
    context = browser.new_context(viewport={"width": width, "height": 300})
    page = context.new_page()
    page.goto(written.as_uri())
    for sheet in (OVERVIEW, BY_CLASS):
        bottom, head = under_the_bar(page, sheet)
        assert abs(bottom - head) <= 2, sheet
    # a box that scrolls takes its heads along sideways
    box = page.locator(f"{OVERVIEW} .scroll")
    if width == 390:
        box.evaluate("box => box.scrollTo(9999, 0)")
        last = page.locator(f"{OVERVIEW} .heads th").last.bounding_box()
        assert last is not None and last["x"] + last["width"] <= 391
    context.close()


def test_a_table_that_goes_on_fades_at_its_right_edge(browser: Any, written: Path) -> None:
    context = browser.new_context(viewport={"width": 390, "height": 844})
    page = context.new_page()
    page.goto(written.as_uri())
    box = page.locator(f"{OVERVIEW} .scroll")
    box.scroll_into_view_if_needed()
    mask = "box => getComputedStyle(box).maskImage"
    page.locator(f"{OVERVIEW} .scroll.more").wait_for()
    assert "gradient" in box.evaluate(mask)
    box.evaluate("box => box.scrollTo(9999, 0)")
    page.locator(f"{OVERVIEW} .scroll:not(.more)").wait_for()
    assert box.evaluate(mask) == "none", "the last column is read in full"
    context.close()


def test_a_wide_table_by_class_shows_one_metric_at_a_time(watched: Watched) -> None:
    page = watched.page
    every = page.locator(f"{BY_CLASS} .heads th").count() - 1
    shown = page.locator(f"{BY_CLASS} .heads th[data-metric]:not([data-metric='']):visible")
    metrics = "heads => [...new Set(heads.map((head) => head.dataset.metric))]"
    pick = page.locator(f"{BY_CLASS} .pick")
    assert shown.evaluate_all(metrics) == ["image/auroc"]
    pick.get_by_label("AUPRO").check()
    assert shown.evaluate_all(metrics) == ["pixel/aupro@0.3"]
    cells = page.locator(f"{BY_CLASS} tr.line").first.locator("td:visible")
    assert 1 < cells.count() == shown.count() < every
    # the metrics are one stop of the tab key, arrows choose
    page.keyboard.press("ArrowLeft")
    assert shown.evaluate_all(metrics) == ["pixel/f1max"]
    page.locator('[data-switch="g-pixel"]').uncheck()
    assert shown.evaluate_all(metrics) == ["image/auroc"], "a metric that is switched off gives way"
    page.locator('[data-switch="g-pixel"]').check()
    pick.get_by_label("all", exact=True).check()
    assert shown.count() == every
    assert page.locator(f"{OVERVIEW} .pick").count() == 0


def test_the_command_of_a_record_is_copied(watched: Watched) -> None:
    page = watched.page
    page.evaluate("navigator.clipboard.writeText = (text) => { window.copied = text; return Promise.resolve(); }")
    page.locator(f"{OVERVIEW} tr.line:not(.published) td button").first.click()
    page.locator("#details .repeat button").first.click()
    page.locator("#details .repeat button", has_text="copied").first.wait_for()
    assert page.evaluate("window.copied") == "bench run"


def test_text_in_figures_is_of_one_size_on_every_screen(browser: Any, written: Path) -> None:
    context = browser.new_context(viewport={"width": 1024, "height": 768})
    page = context.new_page()
    page.goto(written.as_uri())
    scales = page.locator(".drawing svg").evaluate_all(
        "all => all.map((svg) => svg.getBoundingClientRect().width / svg.viewBox.baseVal.width)"
    )
    assert scales and max(scales) <= 1.31
    context.close()

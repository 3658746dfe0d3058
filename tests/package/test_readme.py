"""Numbers in README and docs are those of the committed records; commands, links and options exist."""

from __future__ import annotations

import io
import re
import shlex
from pathlib import Path

import click
import pytest
from rich.console import Console

from bench.cli.main import cli
from bench.cli.terminal import score_table
from bench.speed import record as speed_record
from bench.store import record as records
from bench.store.rows import Row

REPO = Path(__file__).resolve().parents[2]
PAGES = {
    str(path.relative_to(REPO)): path.read_text(encoding="utf-8")
    for path in (REPO / "README.md", *sorted((REPO / "docs").glob("*.md")), REPO / "results" / "README.md")
}
README = PAGES["README.md"]
RECORD = REPO / "results" / "baselines" / "demo-dinomaly-multi-s0.json"
SPEED = REPO / "results" / "baselines" / "speed" / "cpu-mvtec.json"


def test_the_table_is_the_committed_record() -> None:
    out = io.StringIO()
    Console(file=out, width=100).print(score_table(Row((records.read(RECORD),))))
    for line in out.getvalue().splitlines():
        assert line.rstrip() in README


def test_the_committed_record_is_the_demo_suite_as_it_stands() -> None:
    from bench.config import configure, load_suite
    from bench.metrics import METRIC_VERSION
    from bench.protocol import COMMON
    from bench.registry import METHODS

    record, suite = records.read(RECORD), load_suite("demo")
    kind = METHODS.load("dinomaly")
    config = kind(configure(kind, "demo", suite.set["dinomaly"], suite.encoder)).config
    assert record.config == config.model_dump(mode="json")
    assert record.protocol.hash == COMMON.hash() and record.metric_version == METRIC_VERSION


def test_the_speed_table_is_the_committed_record() -> None:
    record, page = speed_record.read(SPEED), PAGES["docs/speed.md"]
    for name, speed in record.methods.items():
        rates = (f"{speed.learning.over_plain.median:.2f}", f"{speed.inference.over_plain.median:.2f}")
        kept = "–"
        if speed.train is not None:
            assert speed.train.over_again is not None and speed.train.allowed is not None
            kept = f"{speed.train.over_again.median:.2f} of {speed.train.allowed:.2f}"
        assert f"| `{name}` | {rates[0]} | {kept} | {rates[1]} | {speed.seconds / 3600:.1f} |" in page, name
    assert record.environment.device == "cpu"


def test_the_gpu_s_speed_table_is_the_committed_record() -> None:
    record, page = speed_record.read(SPEED.with_name("cuda-nvidia-h100-80gb-hbm3-mvtec.json")), PAGES["docs/speed.md"]
    speed = record.methods["dinomaly"]
    train, inference = speed.train, speed.inference
    assert train is not None and speed.latency is not None and speed.energy == "nvml"
    rows = {
        f"{record.environment.precision}, eager": (train.ours, train.over_plain, inference.ours, inference.over_plain)
    }
    scoring = {(one.precision, one.compiled): one for one in inference.variants}
    for one in train.variants:
        how = "compiled" if one.compiled else "eager"
        name = f"{one.precision}, {how}{'' if one.kept else ', features computed again'}"
        scored = scoring[one.precision, one.compiled] if one.kept else None
        rows[name] = (one.rate, one.over_plain, *((scored.rate, scored.over_plain) if scored else (None, None)))
    for name, rates in rows.items():
        texts = [f"{rate.median:.{digits}f}" if rate else "–" for rate, digits in zip(rates, (1, 2, 1, 2), strict=True)]
        assert f"| {name} | {' | '.join(texts)} |" in page
    compiled = max(one.rate.median for one in train.variants)
    p50, p95 = (f"{1e3 * seconds:.1f} ms" for seconds in (speed.latency.p50, speed.latency.p95 or 0.0))
    for text in (
        f"takes {train.plain.median:.1f} steps and {inference.plain.median:.1f} images a second",
        f"{speed.steps / compiled:.0f} s compiled and {speed.steps / train.ours.median:.0f} s eager in bf16",
        f"takes {p50}\n(median of {speed.latency.images}; 95th percentile {p95})",
        f"a step takes {train.joules:.1f} J and an image {inference.joules:.2f} J",
        f"take {speed.store_mib / 1024:.1f} GiB",
    ):
        assert text in page


def test_the_second_host_s_speed_is_its_record() -> None:
    record = speed_record.read(SPEED.parent / "second-host" / "cuda-nvidia-h100-80gb-hbm3-mvtec.json")
    speed, page = record.methods["dinomaly"], PAGES["docs/speed.md"]
    assert speed.train is not None and speed.latency is not None
    eager = next(one for one in speed.train.variants if one.precision == "bf16" and one.kept and not one.compiled)
    compiled = speed.train.ours.median
    assert f"one image takes {1e3 * speed.latency.p50:.1f} ms" in page
    assert f"{eager.rate.median:.1f} steps a second, and compiled\ntraining does {compiled:.1f}" in page
    assert f"{speed.steps / compiled:.0f} s for 10,000 steps" in page


def test_as_many_numbers_of_papers_are_held_as_is_said() -> None:
    from bench.claims.check import check

    count = f"{sum(check().numbers.values()):,}"
    assert f"{count} published ones" in README
    assert f"{count} numbers of thirteen papers" in PAGES["docs/reports.md"]


def test_every_field_of_a_record_is_explained() -> None:
    page = PAGES["results/README.md"]
    assert [name for name in records.Record.model_fields if f"`{name}`" not in page] == []


# every second part of a text is inside a fence
COMMANDS = sorted(
    {
        line.replace("\\\n", " ").partition("#")[0].strip()
        for text in PAGES.values()
        for block in text.split("```")[1::2]
        for line in re.split(r"(?<!\\)\n", block)
        if line.startswith("bench ")
    }
)


def test_readme_has_commands() -> None:
    assert len(COMMANDS) >= 30


@pytest.mark.parametrize("line", COMMANDS)
def test_the_commands_parse(line: str) -> None:
    words = shlex.split(line)[1:]
    if plugin := words[0] == "--plugin":  # would be executed, so that what it defines has no name here
        words = words[2:]
    group = cli
    while words and hasattr(group, "get_command"):
        command = group.get_command(cli.make_context("bench", [], resilient_parsing=True), words.pop(0))
        assert command is not None, line
        group = command
    group.make_context("bench", words, resilient_parsing=plugin)


def options(command: click.Command) -> set[str]:
    context = click.Context(command)
    found = {name for option in command.get_params(context) for name in (*option.opts, *option.secondary_opts)}
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            inside = command.get_command(context, name)
            assert inside is not None
            found |= options(inside)
    return found


@pytest.mark.parametrize("page", PAGES)
def test_the_options_that_a_page_names_are_there(page: str) -> None:
    named = set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", PAGES[page]))
    assert named <= options(cli)


@pytest.mark.parametrize("page", PAGES)
def test_the_links_of_a_page_lead_somewhere(page: str) -> None:
    for target in re.findall(r"\]\((?!https?:)([^)#]+)", PAGES[page]):
        assert ((REPO / page).parent / target).exists(), target

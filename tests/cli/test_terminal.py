from __future__ import annotations

import io
import re
from collections.abc import Callable
from typing import Any

import pytest
from made_records import made
from rich.console import Console

from bench.cli.terminal import footnotes, percent, print_scores, score_line, score_table
from bench.machine import terminal as live
from bench.machine.terminal import TerminalProgress, console, duration, time_left
from bench.protocol import COMMON, SEVEN
from bench.store.agreement import mean
from bench.store.facts import ClassScores
from bench.store.record import Record
from bench.store.rows import Row

TRICKY = ("[red]x[/]", "[/]", "a[bold", ":bug:", "50%", "{0}", "grüne Dose")


def record(**changes: Any) -> Record:
    classes = changes.pop("classes", ("bottle", "screw"))
    scores = changes.pop("scores", {cls: ClassScores(values=dict.fromkeys(SEVEN, 0.5)) for cls in classes})
    dataset = {"fingerprint": "f", "kind": "industrial", "classes_known": 2, "train": {}, "test_good": {}}
    parts: dict[str, Any] = {
        "status": "done",
        "created": "2026-01-02T03:04:05+00:00",
        "command": (),
        "cell": {
            "method": "dinomaly",
            "dataset": "mvtec",
            "setting": "multi",
            "seed": 3,
            "protocol": "common",
            "classes": classes,
            "fingerprint": "0" * 12,
            **changes.pop("cell", {}),
        },
        "protocol": {"name": "common", "version": 1, "hash": "0", "rules": COMMON.rules(), "metrics": SEVEN},
        "metric_version": 1,
        "config": {"steps": 10},
        "changed": (),
        "dataset": {**dataset, "test_bad": {}, **changes.pop("dataset", {})},
        "encoder": {
            "name": "x",
            "weights_sha256": "0",
            "blocks": (),
            "position": "timm",
            "grid": (1, 1),
        },
        "input_size": 1,
        "scores": scores,
        "mean": {metric: mean(one.values.get(metric) for one in scores.values()) for metric in SEVEN},
        "environment": {
            "python": "3",
            "packages": {},
            "commit": None,
            "platform": "",
            "cpu": "",
            "cores": 1,
            "memory_gib": 1.0,
            "device": "cpu",
            "precision": "fp32",
            "threads": 1,
        },
    }
    return Record(**{**parts, **changes})


def shown(thing: Any, **options: Any) -> str:
    out = Console(file=io.StringIO(), width=200, emoji=False, **options)
    out.print(thing)
    assert isinstance(out.file, io.StringIO)
    return out.file.getvalue()


def table(*records: Record) -> Any:
    return score_table(Row(records))


def rows(*records: Record) -> dict[str, list[str]]:
    lines = shown(table(*records)).splitlines()
    cells = [[part.strip() for part in re.split("[│┃]", line)[1:-1]] for line in lines]
    return {row[0]: row[1:] for row in cells if row}


@pytest.fixture(autouse=True)
def no_wishes(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("FORCE_COLOR", "NO_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE", "COLUMNS"):
        monkeypatch.delenv(name, raising=False)


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, "–"), (0.0, "0.0"), (1.0, "100.0"), (0.98765, "98.8"), (0.5, "50.0"), (0.0004, "0.0")],
)
def test_scores_are_percent_with_one_decimal(value: float | None, text: str) -> None:
    assert percent(value) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0.0 s"),
        (3.14, "3.1 s"),
        (9.99, "10.0 s"),
        (10, "10 s"),
        (59.4, "59 s"),
        (59.6, "1 min 0 s"),
        (125, "2 min 5 s"),
        (3599.6, "1 h 0 min"),
        (12_000, "3 h 20 min"),
        (360_000, "100 h 0 min"),
    ],
)
def test_durations_are_short(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_the_table_has_a_row_a_class_and_the_mean_of_all() -> None:
    values = {metric: 0.9 + number / 100 for number, metric in enumerate(SEVEN)}
    scores = {"bottle": ClassScores(values=values), "screw": ClassScores(values=dict.fromkeys(SEVEN, 0.5))}
    found = rows(record(scores=scores))
    assert list(found) == ["class", "bottle", "screw", "mean of 2"]
    assert found["class"] == ["I-AUROC", "I-AP", "I-F1max", "P-AUROC", "P-AP", "P-F1max", "AUPRO"]
    assert found["bottle"] == ["90.0", "91.0", "92.0", "93.0", "94.0", "95.0", "96.0"]
    assert found["mean of 2"] == ["70.0", "70.5", "71.0", "71.5", "72.0", "72.5", "73.0"]
    title = shown(table(record())).splitlines()[0].strip()
    assert title == "dinomaly on mvtec, multi, seed 3, protocol common"


def test_a_mean_over_some_of_the_classes_says_so() -> None:
    assert "mean of 2 (of 15 classes)" in rows(record(dataset={"classes_known": 15}))


def test_undefined_scores_are_dashes_with_a_footnote() -> None:
    values = {metric: None if metric.startswith("pixel") else 0.75 for metric in SEVEN}
    reasons = {metric: "no masks" for metric in SEVEN if metric.startswith("pixel")}
    scores = {cls: ClassScores(values=values, undefined=reasons) for cls in ("bottle", "screw")}
    made = record(scores=scores, mean=values)
    for row in ("bottle", "mean of 2"):
        assert rows(made)[row] == ["75.0"] * 3 + ["–"] * 4
    assert footnotes(Row((made,))) == [f"– {', '.join(reasons)}: no masks (bottle, screw)"]


def test_footnotes_name_changes_and_lost_masks() -> None:
    assert footnotes(Row((record(),))) == []
    made = record(changed=("steps",), dataset={"masks_vanished": {"bottle": 2, "screw": 1}})
    assert footnotes(Row((made,))) == [
        "not the paper's settings: steps = 10",
        "masks smaller than half an evaluation pixel, counted as normal pixels: bottle 2, screw 1",
    ]


def test_footnotes_count_relabelled_images() -> None:
    made = record(dataset={"masks_vanished": {"bottle": 2}, "relabelled": {"bottle": 2}})
    assert footnotes(Row((made,)))[0] == (
        "anomalous images scored as normal, their masks being empty once resized: bottle 2"
    )


def test_variants_of_a_metric_keep_their_name() -> None:
    metrics = ("pixel/aupro@0.3:grid200", "pixel/aupro@0.05")
    scores = {"bottle": ClassScores(values=dict.fromkeys(metrics, 0.5))}
    made = record(
        classes=("bottle",),
        scores=scores,
        mean=dict.fromkeys(metrics, 0.5),
        protocol={"name": "p", "version": 1, "hash": "0", "rules": COMMON.rules(), "metrics": metrics},
    )
    assert rows(made)["class"] == ["AUPRO:grid200", "AUPRO@0.05"]


def test_class_names_are_shown_as_they_are() -> None:
    assert set(TRICKY) < set(rows(record(classes=TRICKY)))
    assert all(name in shown(table(record(classes=TRICKY)), force_terminal=True) for name in TRICKY)


def half(part: str, score: float, known: int = 4) -> Record:
    values = {metric: None if metric.startswith("pixel") else score for metric in SEVEN}
    undefined = {metric: "no masks" for metric in SEVEN if metric.startswith("pixel")}
    return record(
        classes=(part,),
        scores={part: ClassScores(values=values, undefined=undefined)},
        cell={"dataset": "fmnist", "part": part},
        dataset={"kind": "semantic", "classes_known": 10, "parts_known": known},
    )


def test_a_row_of_parts_is_one_table_with_their_mean() -> None:
    parts = [half(part, score) for part, score in zip("ABCD", (0.9, 0.8, 0.7, 0.6), strict=True)]
    found = rows(*parts)
    assert list(found) == ["split", "A", "B", "C", "D", "mean of 4"]
    assert found["A"] == ["90.0"] * 3 + ["–"] * 4
    assert found["mean of 4"] == ["75.0"] * 3 + ["–"] * 4
    assert shown(table(*parts)).splitlines()[0].strip() == "dinomaly on fmnist, multi, seed 3, protocol common"
    pixel = ", ".join(metric for metric in SEVEN if metric.startswith("pixel"))
    assert footnotes(Row(tuple(parts))) == [f"– {pixel}: no masks (A, B, C, D)"]


def test_an_incomplete_row_has_no_mean() -> None:
    found = rows(half("A", 0.9), half("B", 0.8), half("D", 0.7))
    assert list(found) == ["split", "A", "B", "D", "3/4 splits"]
    assert found["3/4 splits"] == ["–"] * 7


def test_a_part_is_one_line_of_what_it_has() -> None:
    assert score_line(half("A", 0.9)) == "A  I-AUROC 90.0, I-AP 90.0, I-F1max 90.0"


def test_extra_scores_are_columns_and_pooled_ones_a_line() -> None:
    values = dict.fromkeys(SEVEN, 0.5)
    extra = {"image/auroc:logical": 0.25, "image/auroc:mean": 0.75, "sample/auroc": 1.0}
    scores = {"bottle": ClassScores(values=values, extra=extra), "screw": ClassScores(values=values, extra=extra)}
    made = record(scores=scores, pooled=ClassScores(values={"image/auroc": 0.125}))
    found = rows(made)
    assert found["class"][7:] == ["I-AUROC logical", "I-AUROC mean of families", "S-AUROC"]
    assert found["bottle"][7:] == found["mean of 2"][7:] == ["25.0", "75.0", "100.0"]
    assert found["pooled"] == ["12.5"] + ["–"] * 9
    assert footnotes(Row((made,))) == [
        "pooled: all classes ranked together, as one threshold for all of them sees them"
    ]


def test_an_extra_score_that_one_class_lacks_has_no_mean() -> None:
    values = dict.fromkeys(SEVEN, 0.5)
    scores = {"bottle": ClassScores(values=values, extra={"sample/ap": 1.0}), "screw": ClassScores(values=values)}
    found = rows(record(scores=scores))
    assert [line[7] for line in found.values()] == ["S-AP", "100.0", "–", "–"]


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """A clock that passes when it is told to."""
    now = [100.0]
    monkeypatch.setattr(live.time, "monotonic", lambda: now[0])

    def passes(seconds: float) -> None:
        now[0] += seconds

    return passes


def test_piped_progress_is_plain_lines_ever_further_apart(
    capsys: pytest.CaptureFixture[str], clock: Callable[[float], None]
) -> None:
    progress = TerminalProgress(console())
    progress.say("reading " + "x" * 500)
    with progress.phase("train", 1000, done=500) as advance:
        for number in range(300):
            clock(1.0)
            advance(1, "" if number % 2 else "[loss]")
    first, *lines = capsys.readouterr().out.splitlines()
    assert first == "reading " + "x" * 500, "one line of any length"
    # after 10 s, then 20, 40, 60, 60 and 60
    assert [line.split(",")[0] for line in lines[:-1]] == [
        f"  train {500 + passed}/1000" for passed in (10, 30, 70, 130, 190, 250)
    ]
    assert lines[0] == "  train 510/1000", "2 % of what there is to do is no ground for a guess"
    assert lines[1] == "  train 530/1000, 7 min 50 s left"
    assert lines[-1] == "  train 800/1000 in 5 min 0 s"


def test_notes_stand_at_the_end_of_a_line(capsys: pytest.CaptureFixture[str], clock: Callable[[float], None]) -> None:
    with TerminalProgress(console()).phase("train", len(TRICKY)) as advance:
        for note in TRICKY:
            clock(60.0)
            advance(1, note)
    *lines, last = capsys.readouterr().out.splitlines()
    assert lines[:-1] == [
        f"  train {number}/{len(TRICKY)}, {duration(60.0 * (len(TRICKY) - number))} left, {note}"
        for number, note in enumerate(TRICKY[:-1], start=1)
    ]
    assert last == f"  train {len(TRICKY)}/{len(TRICKY)} in 7 min 0 s"


@pytest.mark.parametrize(
    ("passed", "done", "total", "left"),
    [
        (9.9, 50, 100, ""),
        (10.0, 50, 100, "10 s"),
        (10.0, 1, 772, ""),
        (10.0, 4, 100, ""),
        (10.0, 5, 100, "3 min 10 s"),
        (60.0, 1, 772, "12 h 51 min"),
        (60.0, 0, 772, ""),
    ],
)
def test_how_long_it_takes_is_said_once_it_can_be_told(passed: float, done: int, total: int, left: str) -> None:
    assert time_left(passed, done, total) == left


def test_who_wants_quiet_hears_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    quiet = TerminalProgress.of(quiet=True)
    quiet.say("reading")
    with quiet.phase("decode", 3) as advance:
        advance(3, "")
    assert capsys.readouterr() == ("", "")
    TerminalProgress.of(quiet=False).say("reading")
    assert capsys.readouterr() == ("", "reading\n")


def test_piped_progress_of_a_short_phase_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    with TerminalProgress(console()).phase("decode", 3) as advance:
        for _ in range(3):
            advance(1, "")
    assert re.fullmatch(r"  decode 3/3 in 0\.\d s\n", capsys.readouterr().out)


def test_a_phase_that_fails_does_not_claim_its_end(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ValueError), TerminalProgress(console()).phase("train", 3) as advance:
        advance(1, "")
        raise ValueError
    assert capsys.readouterr().out == ""


def test_the_live_bar_shows_notes_as_they_are() -> None:
    file = Terminal()
    progress = TerminalProgress(Console(file=file, force_terminal=True, emoji=False, width=200))
    with progress.phase("[/]", len(TRICKY)) as advance:
        for note in TRICKY:
            advance(1, note)
    plain = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", file.getvalue())
    assert f"{len(TRICKY)}/{len(TRICKY)}" in plain and TRICKY[-1] in plain and "[/]" in plain
    for note in TRICKY:
        file = Terminal()
        progress = TerminalProgress(Console(file=file, force_terminal=True, emoji=False, width=200))
        with progress.phase("score", 1) as advance:
            advance(1, note)
        assert note in re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", file.getvalue())


@pytest.mark.parametrize(("crowded", "said"), [(None, False), (0.5, False), (30.0, True)])
def test_times_of_a_crowded_machine_are_said_to_be_no_measure(crowded: float | None, said: bool) -> None:
    head = made()
    assert head.efficiency is not None
    cost = head.efficiency.model_copy(update={"crowded_seconds": crowded, "seconds": {"train": 40.0}})
    out = Console(file=io.StringIO(), width=200, emoji=False)
    print_scores(head.model_copy(update={"efficiency": cost}), out)
    assert isinstance(out.file, io.StringIO)
    assert ("other processes wanted the cores for 30 s" in out.file.getvalue()) == said

from __future__ import annotations

import io
import re
from typing import Any

import pytest
from rich.console import Console

from bench.cli import terminal
from bench.cli.terminal import TerminalProgress, console, duration, footnotes, percent, score_table
from bench.protocol import COMMON, SEVEN
from bench.store.record import ClassScores, Record

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
        },
        "protocol": {"name": "common", "version": 1, "hash": "0", "fields": {**COMMON.fields()}},
        "metric_version": 1,
        "config": {"steps": 10},
        "changed": (),
        "dataset": {**dataset, "test_bad": {}, **changes.pop("dataset", {})},
        "encoder": {
            "name": "x",
            "weights_sha256": "0",
            "blocks": (),
            "position": "timm",
            "input_size": 1,
            "grid": (1, 1),
        },
        "scores": scores,
        "mean": dict.fromkeys(SEVEN, 0.5),
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


def rows(record: Record) -> dict[str, list[str]]:
    cells = [
        [part.strip() for part in re.split("[│┃]", line)[1:-1]] for line in shown(score_table(record)).splitlines()
    ]
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
    found = rows(record(scores=scores, mean={metric: (value + 0.5) / 2 for metric, value in values.items()}))
    assert list(found) == ["class", "bottle", "screw", "mean of 2"]
    assert found["class"] == ["I-AUROC", "I-AP", "I-F1max", "P-AUROC", "P-AP", "P-F1max", "AUPRO"]
    assert found["bottle"] == ["90.0", "91.0", "92.0", "93.0", "94.0", "95.0", "96.0"]
    assert found["mean of 2"] == ["70.0", "70.5", "71.0", "71.5", "72.0", "72.5", "73.0"]
    title = shown(score_table(record())).splitlines()[0].strip()
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
    assert footnotes(made) == [f"– {metric}: no masks (bottle, screw)" for metric in reasons]


def test_footnotes_name_changes_and_lost_masks() -> None:
    assert footnotes(record()) == []
    made = record(changed=("steps",), dataset={"masks_vanished": {"bottle": 2, "screw": 1}})
    assert footnotes(made) == [
        "not the paper's settings: steps = 10",
        "masks smaller than half an evaluation pixel, counted as normal pixels: bottle 2, screw 1",
    ]


def test_variants_of_a_metric_keep_their_name() -> None:
    metrics = ("pixel/aupro@0.3:grid200", "pixel/aupro@0.05")
    scores = {"bottle": ClassScores(values=dict.fromkeys(metrics, 0.5))}
    fields = {**COMMON.fields(), "metrics": metrics}
    made = record(
        classes=("bottle",),
        scores=scores,
        mean=dict.fromkeys(metrics, 0.5),
        protocol={"name": "p", "version": 1, "hash": "0", "fields": fields},
    )
    assert rows(made)["class"] == ["AUPRO:grid200", "pixel/aupro@0.05"]


def test_class_names_are_shown_as_they_are() -> None:
    assert set(TRICKY) < set(rows(record(classes=TRICKY)))
    assert all(name in shown(score_table(record(classes=TRICKY)), force_terminal=True) for name in TRICKY)


def test_piped_progress_is_plain_lines(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(terminal, "PLAIN_EVERY_SECONDS", 0.0)
    progress = TerminalProgress(console())
    progress.say("reading " + "x" * 500)
    with progress.phase("train", 20, done=10) as advance:
        for note in TRICKY:
            advance(1, note)
        advance(3, "")
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "reading " + "x" * 500, "a piped line is never broken"
    assert len(lines) == 1 + len(TRICKY) + 1 + 1
    for number, (line, note) in enumerate(zip(lines[1:], TRICKY, strict=False), start=11):
        assert re.fullmatch(rf"  train {number}/20, \d+\.\d s left, {re.escape(note)}", line)
    assert re.fullmatch(r"  train 20/20, 0\.0 s left", lines[-2])
    assert re.fullmatch(r"  train 20/20 in \d+\.\d s", lines[-1])
    assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f]", "".join(lines))


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


def test_the_console_leaves_a_broken_pipe_to_the_command_line(monkeypatch: pytest.MonkeyPatch) -> None:
    class Gone(io.StringIO):
        def write(self, text: str) -> int:
            raise BrokenPipeError

    monkeypatch.setattr("sys.stdout", Gone())
    with pytest.raises(BrokenPipeError):
        console().print("text")

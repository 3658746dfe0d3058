from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from click.shell_completion import ShellComplete
from made_records import made

import bench
from bench.cli import ls, main
from bench.cli.run import HEADINGS
from bench.cli.run import run as run_command
from bench.errors import DatasetError, TrainingError
from bench.store import record as records


def call(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    code = main.run(arguments)
    out, err = capsys.readouterr()
    return code, out, err


def raising(error: BaseException) -> click.Command:
    def callback() -> None:
        raise error

    return click.Command("ls", callback=callback)


def test_help_and_version(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in (("--help",), ("-h",), ()):
        code, out, err = call(capsys, *arguments)
        assert (code, err) == (0, "") and out.startswith("Usage: bench ") and "Examples:" in out
        assert all(name in out and text in out for name, (_, text) in main.COMMANDS.items())
    code, out, err = call(capsys, "--version")
    assert (code, err) == (0, "") and re.fullmatch(
        rf"bench {re.escape(bench.__version__)}, commit ([0-9a-f]{{40}}(-dirty)?|not known), record schema 2\n", out
    )


@pytest.mark.parametrize(
    "command",
    [
        "run",
        "check",
        "score",
        "compare",
        "report",
        "speed",
        "ls",
        "show",
        "data verify",
        "data sheet",
        "weights convert",
        "new method",
        "doctor",
        "cache clear",
        "completion",
    ],
)
def test_every_command_has_help_with_an_example(capsys: pytest.CaptureFixture[str], command: str) -> None:
    assert {command.split()[0]} <= main.COMMANDS.keys()
    code, out, _ = call(capsys, *command.split(), "--help")
    assert code == 0 and f"Usage: bench {command} " in out and f" bench {command} " in out.partition("Example")[2]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("rnu",), "no command 'rnu'. Did you mean 'run'? See: bench --help"),
        (("--no-such",), "No such option"),
        (
            ("data", "vrify"),
            "bench data has no command 'vrify'. Did you mean 'verify'? Known: get, audit, verify, sheet, cues.",
        ),
        (("new", "suite"), "bench new has no command 'suite'. Known: method, dataset, metric. See: bench new --help"),
        (("data", "--no-such"), "No such option"),
        (("ls", "nothing"), "See: bench ls --help"),
        (("ls", "method"), "nothing called 'method' to list. Did you mean 'methods'?"),
        (("ls", "runs", "--results", "nowhere"), "nowhere: no such folder, so no runs"),
    ],
)
def test_mistakes_are_one_message_and_exit_code_2(
    capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], message: str
) -> None:
    code, out, err = call(capsys, *arguments)
    assert (code, out) == (2, "") and err.startswith("error: ") and message in err and "Traceback" not in err


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (DatasetError("no data"), 2, "error: no data\n"),
        (TrainingError("loss is nan"), 1, "error: loss is nan\n"),
        (PermissionError(13, "Permission denied", "/data"), 2, "error: /data: Permission denied. See: bench doctor"),
        (ModuleNotFoundError("No module named 'x'", name="x"), 2, "error: module 'x' is not installed here. Expected"),
        (ZeroDivisionError("by 0"), 1, "unexpected error: ZeroDivisionError: by 0. Run again with --debug"),
        (KeyboardInterrupt(), 130, "interrupted\n"),
    ],
)
def test_errors_become_exit_codes_and_tracebacks_only_with_debug(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, error: BaseException, code: int, message: str
) -> None:
    monkeypatch.setattr(ls, "ls", raising(error))
    found, out, err = call(capsys, "ls")
    assert (found, out) == (code, "") and message in err and "Traceback" not in err
    if isinstance(error, Exception):
        for arguments in (("--debug", "ls"), ("ls", "--debug")):
            with pytest.raises(type(error)):
                main.run(arguments)


@pytest.mark.parametrize("arguments", [("--help",), ("ls", "methods"), ("show", "mvtec")])
def test_a_reader_that_leaves_ends_the_command_quietly(arguments: tuple[str, ...]) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    try:
        done = subprocess.run(
            [sys.executable, "-m", "bench", *arguments], stdout=writer, stderr=subprocess.PIPE, timeout=60
        )
    finally:
        os.close(writer)
    assert (done.returncode, done.stderr) == (128 + signal.SIGPIPE, b"")


def test_listing(capsys: pytest.CaptureFixture[str]) -> None:
    listed = {what: call(capsys, "ls", what)[1].splitlines() for what in ("methods", "datasets", "protocols", "suites")}
    assert [line.split()[0] for line in listed["protocols"]] == ["common", "ad2", "paper"]
    assert {"mvtec", "folder", "demo"} <= {line.split()[0] for line in listed["datasets"]}
    assert any(line.startswith("demo ") for line in listed["suites"])
    assert listed["methods"][0].startswith("reconstruction: ")
    assert listed["methods"][1].split()[:3] == ["dinomaly", "ViT", "Dinomaly:"]
    assert not any("not importable" in line for lines in listed.values() for line in lines)


def commands(group: click.Group) -> Iterator[click.Command]:
    """Every command below a group, and the groups themselves."""
    for name in group.list_commands(click.Context(group)):
        command = group.get_command(click.Context(group), name)
        assert command is not None
        yield command
        if isinstance(command, click.Group):
            yield from commands(command)


def test_examples_are_never_broken_into_lines() -> None:
    for command in commands(main.cli):
        shown = command.get_help(click.Context(command, info_name="bench", terminal_width=60))
        epilog = command.epilog or ""
        examples = [line for line in epilog.splitlines() if line.startswith("  bench ")]
        assert examples and all(line.strip() in shown for line in examples), command.name


def test_listing_everything(capsys: pytest.CaptureFixture[str]) -> None:
    _, out, err = call(capsys, "ls")
    lines = out.splitlines()
    assert [line for line in lines if not line.startswith(" ")] == [
        "methods",
        "datasets",
        "metrics",
        "protocols",
        "suites",
    ]
    # what is listed by its kind, two columns further in
    alone = call(capsys, "ls", "suites")[1].splitlines()
    assert lines[-len(alone) :] == [f"  {line}" for line in alone] and err.startswith("next: bench ls encoders")
    found = json.loads(call(capsys, "ls", "--json")[1])
    assert found["schema"] == 1 and [one["name"] for one in found["protocols"]] == ["common", "ad2", "paper"]
    first = found["methods"][0]
    assert first.pop("summary").startswith("Dinomaly: ")
    assert first == {"name": "dinomaly", "family": "reconstruction", "encoders": ["vit"], "needs": ["features"]}


def test_listing_runs_and_encoders(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    path = tmp_path / "runs" / "a.json"
    records.write(made(), path)
    (tmp_path / "runs" / "b.json").write_text("{")
    code, out, err = call(capsys, "ls", "runs", "--results", str(path.parent))
    assert code == 0 and out.startswith(f"{path}  {made().cell.title}, seed {made().cell.seed}: ")
    assert "ignored: " in err and "b.json" in err
    encoders = call(capsys, "ls", "encoders")[1].splitlines()
    assert re.fullmatch(r"vit_tiny_patch8_128\.bench +comes with bench", encoders[0])
    assert any(re.fullmatch(r"vit_small_patch16_224\.dino +default of vitad", line) for line in encoders)
    assert "resnet34.tv_in1k" in encoders


@pytest.mark.parametrize(
    ("words", "begun", "found"),
    [
        (["run", "--methods"], "di", ["dinomaly", "dinomaly2"]),
        (["run", "--methods"], "dinomaly,vi", ["dinomaly,vitad"]),
        (
            ["run", "--methods"],
            "dinomaly,d",
            ["dinomaly,dinomaly2", "dinomaly,dual_student", "dinomaly,draem", "dinomaly,destseg"],
        ),
        (["run", "--datasets"], "mv", ["mvtec", "mvtec_ad2", "mvtec_loco"]),
        (["run", "--suite"], "dem", ["demo"]),
        (["run", "--protocol"], "", ["common", "ad2", "paper"]),
        (["run", "--setting"], "few-shot-", ["few-shot-single"]),
        (["show"], "mp", ["mpdd"]),
        (["ls"], "en", ["encoders"]),
        (["data", "verify"], "bt", ["btad"]),
        (["compare", "dinomaly"], "rd", ["rd4ad", "rdpp"]),
        (["unknown"], "ru", ["run"]),
        ([], "compl", ["completion"]),
    ],
)
def test_names_are_completed(words: list[str], begun: str, found: list[str]) -> None:
    completes = ShellComplete(main.cli, {}, "bench", "_BENCH_COMPLETE")
    assert [item.value for item in completes.get_completions(words, begun)] == found


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_shell_gets_what_it_needs(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = call(capsys, "completion", shell)
    assert code == 0 and f"_BENCH_COMPLETE={shell}_complete" in out and "bench" in out


def test_bash_completes_names(tmp_path: Path) -> None:
    if (bash := shutil.which("bash")) is None:
        pytest.skip("no bash here")
    # what the tab key does, with bench as this Python has it
    (tmp_path / "bench").write_text(f'#!/bin/sh\nexec {sys.executable} -m bench "$@"\n')
    (tmp_path / "bench").chmod(0o755)
    script = (
        'eval "$(bench completion bash)"; COMP_WORDS=(bench run --methods vi); COMP_CWORD=3; '
        '_bench_completion bench; echo "${COMPREPLY[@]}"'
    )
    environment = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    done = subprocess.run([bash, "-c", script], capture_output=True, text=True, env=environment, cwd=tmp_path)
    assert done.stdout.strip() == "vitad", done.stderr


def test_every_option_of_a_run_stands_under_one_heading() -> None:
    named = [name for names in HEADINGS.values() for name in names]
    parameters = {parameter.name for parameter in run_command.params}
    assert len(named) == len(set(named)) and set(named) == parameters
    text = run_command.get_help(click.Context(run_command, info_name="bench run"))
    assert re.findall(r"^(\S.*):$", text, re.M) == [*HEADINGS, "Help"]


def test_the_exit_code_reaches_the_shell(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-m", "bench", "ls", "x"], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 2 and done.stderr.startswith("error: ")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("run", "--suite", "demo"), "interrupted. Finished cells are kept; the same command goes on"),
        (("speed",), "interrupted. Methods that were measured are recorded\n"),
        (("report",), "interrupted\n"),
    ],
)
def test_an_interrupted_command_says_what_it_leaves(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], message: str
) -> None:
    def stop(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(main.cli, "main", stop)
    code, _, err = call(capsys, *arguments)
    assert code == 130 and err.startswith(message), err

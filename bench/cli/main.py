"""The `bench` command: its sub-commands are imported when called, its errors are one message and an exit code.

Exit codes: 0 all well; 1 a check or a cell failed; 2 the user's mistake, or a file that cannot be read or written; 130
interrupted; 141 nobody reads what the command is for; 143 terminated.
"""

from __future__ import annotations

import importlib
import signal
from collections.abc import Sequence
from typing import Any

import click

import bench
from bench import plugins
from bench.cli.echo import echo
from bench.errors import BenchError, UsageError
from bench.machine import stopping, streams
from bench.registry import did_you_mean

COMMANDS = {
    "run": ("bench.cli.run:run", "Run methods on datasets and record the scores."),
    "try": ("bench.cli.try_folder:try_folder", "Show which pictures of a folder are anomalous."),
    "predict": ("bench.cli.predict:predict", "Score any images by a model that a run kept."),
    "submit": ("bench.cli.submit:submit", "Make the archive that MVTec AD 2's server takes, and check it."),
    "export": ("bench.cli.export:export", "Write a threshold of a record for other programs."),
    "check": ("bench.cli.check:check", "Fail where a score or a speed is worse than the recorded one."),
    "score": ("bench.cli.score:score", "Score anomaly maps that another program wrote."),
    "explain": ("bench.cli.explain:explain", "Say what moves a recorded number to a published one."),
    "claims": ("bench.cli.claims:claims", "Judge a table of results by arithmetic, number by number."),
    "import": ("bench.cli.importing:importing", "Score a checkpoint that a method's authors released."),
    "compare": ("bench.cli.compare:compare", "Put two methods or runs side by side, with paired intervals."),
    "report": ("bench.cli.report:report", "Make tables of the scores, published ones beside them."),
    "pack": ("bench.cli.pack:pack", "Pack records so that anybody can recompute their numbers."),
    "reproduce": ("bench.cli.pack:reproduce", "Recompute every number of a pack."),
    "speed": ("bench.cli.speed:speed", "Time every method beside the plain way, and record it."),
    "ls": ("bench.cli.ls:ls", "List methods, datasets, protocols, suites, encoders or runs."),
    "show": ("bench.cli.show:show", "Show a method, a dataset, an encoder or a record."),
    "data": ("bench.cli.data:data", "Get a dataset, verify it, or draw a contact sheet of it."),
    "weights": ("bench.cli.weights:weights", "Make official checkpoints into the files of encoders."),
    "new": ("bench.cli.new:new", "Begin a method of your own from a template."),
    "doctor": ("bench.cli.doctor:doctor", "Look for what is wrong here, and say how to mend it."),
    "cache": ("bench.cli.cache:cache", "Show what bench keeps on this machine, or remove it."),
    "completion": ("bench.cli.completion:completion", "Print what a shell needs to complete names."),
}

_CELLS = "Finished cells are kept; the same command goes on from the last checkpoint"
KEPT = {
    "run": _CELLS,
    "try": _CELLS,
    "import": _CELLS,
    "check": _CELLS,
    "speed": "Methods that were measured are recorded",
}
"""What an interrupted command leaves; the others have nothing worth a word."""

PRINTS = frozenset({"ls", "show", "claims", "explain", "compare", "reproduce", "doctor", "completion"})
"""Commands that are called for what they print; what the others are for lies in files, or is their exit code."""

EPILOG = """\b
Examples:
  bench run --suite demo
  bench run --methods dinomaly --datasets mvtec --data-root /data
  bench show dinomaly
  bench --plugin my_method.py run --methods my_method --datasets demo
"""


class LazyGroup(click.Group):
    """A group that imports a command's module only when the command is called."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command."""
        try:
            return super().invoke(ctx)
        except BrokenPipeError as error:
            # not of our output, see bench.machine.streams; click would end without a word, as if its reader had left
            raise ConnectionError("a connection broke off") from error

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the commands in the order users meet them."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import and return a command."""
        if cmd_name not in COMMANDS and ctx.resilient_parsing:
            return None  # a shell asks what could follow
        if cmd_name not in COMMANDS:
            raise UsageError(f"no command '{cmd_name}'.{did_you_mean(cmd_name, COMMANDS)} See: bench --help")
        module, _, attribute = COMMANDS[cmd_name][0].partition(":")
        command: click.Command = getattr(importlib.import_module(module), attribute)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List commands from the table above, importing none."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in COMMANDS.items()])


def _version(ctx: click.Context, _: click.Parameter, asked: bool) -> None:
    """Print what a record made here would be of."""
    if not asked or ctx.resilient_parsing:
        return
    from bench.store.provenance import commit
    from bench.store.record import SCHEMA_VERSION

    click.echo(f"bench {bench.__version__}, commit {commit() or 'not known'}, record schema {SCHEMA_VERSION}")
    ctx.exit()


@click.group(cls=LazyGroup, epilog=EPILOG, context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--version", is_flag=True, is_eager=True, expose_value=False, callback=_version, help="Show the version.")
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
@click.option(
    "--plugin", metavar="FILE", multiple=True, help="Execute a Python file that defines methods, datasets or metrics."
)
@click.pass_context
def cli(ctx: click.Context, debug: bool, plugin: tuple[str, ...]) -> None:
    """Compare multi-class anomaly-detection methods under one protocol."""
    ctx.obj = debug


def run(arguments: Sequence[str]) -> int:
    """Run the command line and return its exit code; nothing but `--debug` shows a traceback."""
    with streams.protected() as output:
        code = _run(arguments)
        trouble = output.trouble()
        return code if code or trouble is None else _unsaid(_command(arguments), trouble)


def _unsaid(command: str, trouble: OSError) -> int:
    """Return the exit code of a command that succeeded, though not all it had to say could be printed."""
    reader_left = isinstance(trouble, BrokenPipeError)
    if command in COMMANDS and command not in PRINTS:
        if not reader_left:
            _say(f"not all could be printed ({trouble.strerror}); nothing else is lost")
        return 0
    if not reader_left:
        _say(f"error: cannot write to standard output: {trouble.strerror}")
    return 128 + signal.SIGPIPE if reader_left else 2


def _command(arguments: Sequence[str]) -> str:
    """Return the command among the arguments; empty where there is none."""
    return next((argument for argument in arguments if argument in COMMANDS), "")


def _run(arguments: Sequence[str]) -> int:
    # both options are read here, so that they may stand anywhere, and before click asks for a context
    debug = "--debug" in arguments
    rest: list[str] = []
    try:
        rest, files = plugins.split([argument for argument in arguments if argument != "--debug"])
        for path in files:
            plugins.load(path)
        with stopping.signals():
            result = cli.main(args=rest, prog_name="bench", standalone_mode=False)
        return result if isinstance(result, int) else 0
    except click.exceptions.Exit as stop:
        return stop.exit_code
    except (KeyboardInterrupt, click.Abort):
        what, code = stopping.outcome()
        command = _command(rest)
        _say(f"{what}. {KEPT[command]}" if command in KEPT else what)
        return code
    except click.exceptions.NoArgsIsHelpError as help_wanted:
        click.echo(help_wanted.format_message())
        return 0
    except click.ClickException as error:
        if debug:
            raise
        hint = f" See: {error.ctx.command_path} --help" if isinstance(error, click.UsageError) and error.ctx else ""
        _say(f"error: {error.format_message()}{hint}")
        return 2
    except BenchError as error:
        if debug:
            raise
        _say(f"error: {error}")
        return error.exit_code
    except OSError as error:
        if debug:
            raise
        # a file's rights, a disk, too many open files: nothing that bench could mend
        where = f"{error.filename}: " if error.filename else ""
        _say(f"error: {where}{error.strerror or error}. See: bench doctor, or --debug for the traceback")
        return 2
    except ModuleNotFoundError as error:
        if debug:
            raise
        _say(
            f"error: module '{error.name}' is not installed here. Expected what bench and its plug-ins import: after "
            "an update of a checkout run there: pip install -e . -c constraints.txt"
        )
        return 2
    except Exception as error:
        if debug:
            raise
        _say(f"unexpected error: {type(error).__name__}: {error}. Run again with --debug for the traceback")
        return 1


def _say(text: str) -> None:
    echo(text, err=True)

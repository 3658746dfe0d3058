"""`bench new`: a method, a dataset or a metric of your own from a template."""

from __future__ import annotations

from pathlib import Path

import click

from bench.cli.options import PATH
from bench.cli.subcommands import Subcommands
from bench.errors import UsageError


@click.group(cls=Subcommands, epilog="\b\nExample:\n  bench new method my_method")
def new() -> None:
    """Begin a method, a dataset or a metric of your own from a template."""


@new.command(
    short_help="Write a method that works, to be changed.",
    epilog="\b\nExample:\n  bench new method my_method\n  bench --plugin my_method.py show my_method",
)
@click.argument("name")
@click.option("--out", type=PATH, metavar="DIR", default=Path(), help="Folder (default: here).")
def method(name: str, out: Path) -> int:
    """Write NAME.py, a method that works as it stands and is meant to be changed."""
    from bench import templates
    from bench.registry import METHODS

    if not templates.is_name(name):
        raise UsageError(f"'{name}': expected lower-case letters, digits and underscores, such as my_method")
    if name in METHODS.targets:
        raise UsageError(f"method '{name}' is there already. Expected another name. See: bench ls methods")
    path = _written(out, name, templates.method(name))
    click.echo(f"wrote {path}. Try it, without weights or data of your own:")
    click.echo(
        f"  bench --plugin {path} run --methods {name} --datasets demo --encoder vit_tiny_patch8_128.bench "
        f"--set {name}.input_size=128 --set {name}.steps=200"
    )
    return 0


@new.command(
    short_help="Write a dataset that is read, to be changed.",
    epilog="\b\nExample:\n  bench new dataset my_dataset\n"
    "  bench --plugin my_dataset.py data verify my_dataset --root DIR",
)
@click.argument("name")
@click.option("--out", type=PATH, metavar="DIR", default=Path(), help="Folder (default: here).")
def dataset(name: str, out: Path) -> int:
    """Write NAME.py, a reader of images in a layout of its own with a miniature to test it on, meant to be changed."""
    from bench import templates
    from bench.registry import DATASETS

    if not templates.is_name(name):
        raise UsageError(f"'{name}': expected lower-case letters, digits and underscores, such as my_dataset")
    if name in DATASETS.targets:
        raise UsageError(f"dataset '{name}' is there already. Expected another name. See: bench ls datasets")
    path = _written(out, name, templates.dataset(name))
    click.echo(f"wrote {path}: its first lines show the layout that it reads. Change them to yours, then:")
    click.echo(f"  bench --plugin {path} data verify {name} --root DIR")
    click.echo(f"  bench --plugin {path} run --methods knn --datasets {name} --data-root DIR")
    return 0


@new.command(
    short_help="Write a metric that works, to be changed.",
    epilog="\b\nExample:\n  bench new metric my_metric\n  bench --plugin my_metric.py show image/my_metric",
)
@click.argument("name")
@click.option("--out", type=PATH, metavar="DIR", default=Path(), help="Folder (default: here).")
def metric(name: str, out: Path) -> int:
    """Write NAME.py, an image metric that works as it stands and is meant to be changed."""
    from bench import templates
    from bench.registry import METRICS

    if not templates.is_name(name):
        raise UsageError(f"'{name}': expected lower-case letters, digits and underscores, such as my_metric")
    if f"image/{name}" in METRICS.targets:
        raise UsageError(f"metric 'image/{name}' is there already. Expected another name. See: bench ls metrics")
    path = _written(out, name, templates.metric(name))
    click.echo(f"wrote {path}. Try it, without weights or data of your own:")
    click.echo(f"  bench --plugin {path} run --suite demo --metrics image/{name}")
    click.echo(f"  bench --plugin {path} report")
    return 0


def _written(out: Path, name: str, source: str) -> Path:
    """Write a new file and return it."""
    path = out / f"{name}.py"
    try:
        out.mkdir(parents=True, exist_ok=True)
        with path.open("x", encoding="utf-8") as file:
            file.write(source)
    except FileExistsError:
        raise UsageError(f"{path} is there already. Expected a new file: it is not overwritten") from None
    except OSError as error:
        raise UsageError(f"{path}: cannot be written ({error.strerror}). Choose a folder with --out") from error
    return path

"""Plug-ins from one file, for as long as the process runs: methods, datasets, metrics (`--plugin my_method.py`).

Nothing is looked for: only a file that the user names is executed. A package that is to be found without being named
registers entry points instead, see `bench.registry`; those too are imported only when their name is asked for.
"""

from __future__ import annotations

import hashlib
import importlib.util
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from bench import regular
from bench.errors import UsageError
from bench.home import expanded
from bench.registry import DATASETS, METHODS, METRICS, Registry

OPTION = "--plugin"
_PREFIX = "bench_plugin_"


def split(arguments: Sequence[str]) -> tuple[list[str], list[Path]]:
    """Take every `--plugin FILE` out of a command line, wherever it stands; what follows `--` is not ours to read.

    Raises:
        UsageError: the option without a file.
    """
    rest: list[str] = []
    files: list[Path] = []
    given = iter(arguments)
    for argument in given:
        if argument == "--":
            return [*rest, argument, *given], files
        name, equals, value = argument.partition("=")
        if name != OPTION:
            rest.append(argument)
            continue
        found = value if equals else next(given, "")
        if not found:
            raise UsageError(f"{OPTION} without a file. Expected: bench {OPTION} my_method.py ls methods")
        files.append(expanded(found))
    return rest, files


def load(path: Path) -> tuple[str, ...]:
    """Execute a Python file and register every method, dataset and metric that it defines; return their names.

    Raises:
        UsageError: no such file, it cannot be executed, it defines nothing, or a name is taken.
    """
    module = _execute(path)
    try:
        return _register(module, path)
    except UsageError:
        # refused: no other process is to execute it either, see `loaded`
        del sys.modules[module.__name__]
        raise


def _register(module: ModuleType, path: Path) -> tuple[str, ...]:
    from bench.api import Dataset, Method
    from bench.metrics.metric import Metric

    names = []
    for attribute, found in vars(module).items():
        # what the file imports from elsewhere is not its own
        if not isinstance(found, type) or found.__module__ != module.__name__ or attribute.startswith("_"):
            continue
        registry: Registry[Any]
        if issubclass(found, Method):
            name, registry = getattr(found, "name", None), METHODS
        elif issubclass(found, Dataset):
            name, registry = getattr(getattr(found, "card", None), "name", None), DATASETS
        elif issubclass(found, Metric):
            name, registry = getattr(found, "id", None), METRICS
        else:
            continue
        if not isinstance(name, str) or not name:
            raise UsageError(
                f"{OPTION} {path}: class {attribute} has no name. Expected name = '...', a card with one, or id = '...'"
            )
        registry.add(name, f"{module.__name__}:{attribute}")
        names.append(name)
    if not names:
        raise UsageError(
            f"{OPTION} {path}: no subclass of bench.api.Method, bench.api.Dataset or bench.metrics.Metric in it. "
            "See docs/plugins.md"
        )
    return tuple(names)


def loaded() -> tuple[Path, ...]:
    """Return the files that were executed, for another process to do the same."""
    return tuple(Path(str(module.__file__)) for name, module in list(sys.modules.items()) if name.startswith(_PREFIX))


def _execute(path: Path) -> ModuleType:
    if not path.is_file():
        raise UsageError(
            f"{OPTION} {path}: {regular.why_not(path)}. Expected a Python file; begin one with: bench new method NAME"
        )
    # a name of its own for each place and content: two files called model.py do not meet, and pixels that a dataset
    # read in its own way are not taken for those of its next version
    try:
        content = regular.read_bytes(path)
    except OSError as error:
        raise UsageError(f"{OPTION} {path}: cannot be read ({error.strerror}). Expected a Python file") from error
    digest = hashlib.sha256(str(path.resolve()).encode(errors="backslashreplace") + b"\0" + content).hexdigest()
    name = f"{_PREFIX}{digest[:12]}"
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, path.resolve())
    if spec is None or spec.loader is None:
        raise UsageError(f"{OPTION} {path}: not a Python file. Expected a name that ends in .py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        # whatever it raises, it is the file that cannot be used
        del sys.modules[name]
        raise UsageError(
            f"{OPTION} {path} cannot be imported ({type(error).__name__}: {error}). Traceback: --debug"
        ) from error
    return module

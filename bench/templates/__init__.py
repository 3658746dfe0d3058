"""Templates of plug-ins: each is a working module of its own, so that it is checked like the rest."""

from __future__ import annotations

import re
from pathlib import Path

METHOD = Path(__file__).with_name("method.py")
DATASET = Path(__file__).with_name("dataset.py")
METRIC = Path(__file__).with_name("metric.py")
_NAME = re.compile(r"[a-z][a-z0-9_]{0,39}")


def is_name(name: str) -> bool:
    """Return whether a method, dataset or metric may be called so: lower-case letters, digits, underscores."""
    return _NAME.fullmatch(name) is not None


def method(name: str) -> str:
    """Return the source of a working method called `name`, to be changed."""
    return _renamed(METHOD, "Method", "method", name)


def dataset(name: str) -> str:
    """Return the source of a working dataset called `name`, to be changed."""
    return _renamed(DATASET, "Dataset", "dataset", name)


def metric(name: str) -> str:
    """Return the source of a working image metric called `image/<name>`, to be changed."""
    return _renamed(METRIC, "Metric", "metric", name)


def _renamed(template: Path, kind: str, word: str, name: str) -> str:
    own = "".join(part.capitalize() for part in name.split("_") if part)
    source = template.read_text(encoding="utf-8")
    return source.replace(f"Template{kind}", own).replace(f"template_{word}", name)

"""Files that users begin with: each is a working module of its own, so that it is checked like the rest."""

from __future__ import annotations

import re
from pathlib import Path

METHOD = Path(__file__).with_name("method.py")
METRIC = Path(__file__).with_name("metric.py")
_NAME = re.compile(r"[a-z][a-z0-9_]{0,39}")


def is_name(name: str) -> bool:
    """Return whether a method may be called so: lower-case letters, digits and underscores, a letter first."""
    return _NAME.fullmatch(name) is not None


def method(name: str) -> str:
    """Return the source of a working method called `name`, to be changed."""
    kind = "".join(word.capitalize() for word in name.split("_") if word)
    source = METHOD.read_text(encoding="utf-8")
    return source.replace("TemplateMethod", kind).replace("template_method", name)


def metric(name: str) -> str:
    """Return the source of a working image metric called `image/<name>`, to be changed."""
    kind = "".join(word.capitalize() for word in name.split("_") if word)
    source = METRIC.read_text(encoding="utf-8")
    return source.replace("TemplateMetric", kind).replace("template_metric", name)

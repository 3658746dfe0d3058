"""Settings declared in a method's source, read without importing it, which would load torch for seconds.

Only what can be told for certain is told. A configuration that is put together in another way than a class of fields
upon a base class is not understood here, and is judged once the method is imported.
"""

from __future__ import annotations

import ast
from pathlib import Path

from bench import api
from bench.registry import METHODS, parsed


class _NotTold(Exception):
    """The source does not say it in a way that is understood here."""


def settings(method: str) -> frozenset[str] | None:
    """Return the names of a method's settings; None where its source does not tell."""
    try:
        path, name = METHODS.origin(method), METHODS.targets[method].partition("[")[0].rpartition(":")[2].strip()
        return frozenset(_fields(path, _config(_class(path, name))))
    except (_NotTold, ImportError, OSError, SyntaxError, ValueError):
        return None


def _config(method: ast.ClassDef) -> str:
    """Return the configuration's class: the first name in brackets behind a base, `Trained[Config, Network]`."""
    for base in method.bases:
        if isinstance(base, ast.Subscript):
            inner = base.slice.elts[0] if isinstance(base.slice, ast.Tuple) else base.slice
            if isinstance(inner, ast.Name):
                return inner.id
    raise _NotTold


def _fields(path: Path, name: str) -> set[str]:
    """Return the fields of a class in a file, those of its base classes included."""
    config = _class(path, name)
    annotated = [node for node in config.body if isinstance(node, ast.AnnAssign)]
    fields = [node.target for node in annotated if "ClassVar" not in ast.unparse(node.annotation)]
    found = {target.id for target in fields if isinstance(target, ast.Name)}
    for base in config.bases:
        found |= _inherited(path, base)
    return found


def _inherited(path: Path, base: ast.expr) -> set[str]:
    imports = [node for node in parsed(path).body if isinstance(node, ast.ImportFrom)]
    if isinstance(base, ast.Attribute) and isinstance(base.value, ast.Name):
        # from . import dinomaly; class Config(dinomaly.Config)
        for node in imports:
            if node.level == 1 and node.module is None and base.value.id in (one.name for one in node.names):
                return _fields(path.with_name(f"{base.value.id}.py"), base.attr)
    if isinstance(base, ast.Name):
        if any(isinstance(node, ast.ClassDef) and node.name == base.id for node in parsed(path).body):
            return _fields(path, base.id)
        for node in imports:
            if base.id in (one.name for one in node.names if one.asname is None):
                if node.level == 1 and node.module:
                    return _fields(path.with_name(f"{node.module}.py"), base.id)
                if node.module == api.__name__:
                    return set(getattr(api, base.id).model_fields)
    raise _NotTold


def _class(path: Path, name: str) -> ast.ClassDef:
    for node in parsed(path).body:
        if isinstance(node, ast.ClassDef) and node.name == name:
            return node
    raise _NotTold

"""Source bundle: bench's own source for other machines, so that they run the code that planned the cells."""

from __future__ import annotations

import shutil
from importlib.util import find_spec
from pathlib import Path

MAPPED = ("bench", "bench.methods", "bench.datasets")
"""Packages that may lie in folders of their own; every other one lies where its name says."""


def assemble(folder: Path) -> Path:
    """Copy bench as it is imported here into `folder` and return the package's folder, whole wherever it is put.

    From a checkout or an installed wheel alike: methods and datasets lie below the package, where a wheel has them.
    """
    for name in MAPPED:
        spec = find_spec(name)
        assert spec is not None and spec.origin is not None, name
        target = folder / name.replace(".", "/")
        shutil.copytree(
            Path(spec.origin).parent, target, ignore=shutil.ignore_patterns("__pycache__"), dirs_exist_ok=True
        )
    return folder / "bench"

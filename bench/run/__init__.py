"""Running of cells, from plan to record; read `cell.py` first. Called, the package is `bench.functions.run`."""

import sys

from bench.callable_package import CalledPackage

sys.modules[__name__].__class__ = CalledPackage

"""Reports: tables as data, and formats as functions of them. Made from records and published scores alone.

Called, the package is `bench.functions.report`.
"""

import sys

from bench.callable_package import CalledPackage

sys.modules[__name__].__class__ = CalledPackage

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from bench.demo import exact
from bench.demo.exact import Chance

REPO = Path(__file__).resolve().parents[2]
DRAWING = [*sorted((REPO / "bench/demo").glob("*.py")), REPO / "bench/speed/gratings.py"]
"""Files whose numbers reach a pixel."""


# ------------------------------------------------------------------------------------------------------ functions
def test_sine_and_cosine_are_right_to_ten_digits() -> None:
    angles = np.linspace(-6283, 6283, 20001)
    assert np.abs(exact.sin(angles) - np.sin(angles)).max() < 1e-10
    assert np.abs(exact.cos(angles) - np.cos(angles)).max() < 1e-10


def test_the_exponential_is_right_to_ten_digits() -> None:
    exponents = np.linspace(-40, 40, 20001)
    assert np.abs(exact.exp(exponents) / np.exp(exponents) - 1).max() < 1e-10


def test_numbers_give_numbers_and_arrays_their_own_kind() -> None:
    for function in (exact.sin, exact.cos, exact.exp):
        number = function(0.5)
        assert type(number) is float
        for kind in (np.float32, np.float64):
            found = function(np.full((2, 3), 0.5, kind))
            assert found.dtype == kind and found.shape == (2, 3)
            assert np.all(found == kind(number))
    assert type(exact.hypot(3.0, 4.0)) is float and exact.hypot(3.0, 4.0) == 5
    assert exact.hypot(np.full(2, 3, np.float32), np.full(2, 4, np.float32)).tolist() == [5, 5]


@pytest.mark.parametrize("exponent", range(1, 26))
def test_powers_are_products(exponent: int) -> None:
    assert exact.power(3.0, exponent) == 3.0**exponent, "whole numbers, so that no order of factors rounds"
    assert exact.power(np.full(2, -2, np.float32), exponent).tolist() == [(-2.0) ** exponent] * 2


BITS = {
    "cos": (exact.cos(0.7), "0x1.87996529f9d93p-1"),
    "sin": (exact.sin(123.456), "-0x1.9b9dadc41aefdp-1"),
    "exp": (exact.exp(-8.25), "0x1.11f30f59bf255p-12"),
    "hypot": (exact.hypot(0.1, 0.7), "0x1.6a09e667f3bccp-1"),
    "power": (exact.power(0.7, 24), "0x1.91c663f221658p-13"),
}


@pytest.mark.parametrize("name", BITS)
def test_results_have_the_bits_that_they_have_elsewhere(name: str) -> None:
    found, bits = BITS[name]
    assert found.hex() == bits


# --------------------------------------------------------------------------------------------------------- chance
def test_chance_draws_numpys_numbers_in_numpys_order() -> None:
    ours, numpys = Chance(5), np.random.default_rng(5)
    options = ("a", "b", "c", "d", "e")
    shares = (0.36, 0.18, 0.12, 0.14, 0.20)
    for _ in range(50):
        assert ours.uniform(2, 5) == pytest.approx(numpys.uniform(2, 5), rel=1e-15)
        assert ours.normal(1, 0.1) == pytest.approx(numpys.normal(1, 0.1), rel=1e-15)
        assert ours.integer(1, 4) == numpys.integers(1, 4)
        assert ours.choice(options) == numpys.choice(options)
        assert ours.choice(options, shares) == numpys.choice(options, p=shares)
        assert ours.sample(options, 3) == numpys.choice(options, 3, replace=False).tolist()
        low, high = (0, 10), (1, 30)
        assert np.allclose(ours.uniforms(low, high, (4, 2)), numpys.uniform(low, high, (4, 2)), rtol=1e-15)
        assert np.array_equal(ours.normals((3, 2)), numpys.standard_normal((3, 2)))


def test_normal_numbers_are_cut_where_numpy_takes_a_logarithm() -> None:
    cut, whole = Chance(0).normals(100_000), np.random.default_rng(0).standard_normal(100_000)
    beyond = np.abs(whole) > 3.6541528853610088
    assert 10 < beyond.sum() < 50
    assert np.array_equal(cut[~beyond], whole[~beyond])
    assert np.array_equal(cut[beyond], np.sign(whole[beyond]) * 3.6541528853610088)
    one = Chance(0)
    assert [one.normal() for _ in range(10_000)] == cut[:10_000].tolist()


# ------------------------------------------------------------------------------------------------- what is allowed
NUMPY = {
    # kinds of numbers
    *("bool_", "uint8", "uint16", "int64", "intp", "float32", "float64", "floating", "ndarray"),
    # making, laying out and choosing: no arithmetic
    *("arange", "array", "asarray", "broadcast_to", "full", "full_like", "meshgrid", "mgrid", "ones", "zeros"),
    *("zeros_like", "all", "any", "lexsort", "nonzero", "pad", "repeat", "roll", "sort", "take", "where"),
    # one operation an element, which IEEE 754 rounds in one way, or none
    *("abs", "clip", "floor", "gradient", "linspace", "maximum", "minimum", "mod", "rint", "sqrt"),
}
"""What drawing may ask of NumPy. Not so: sums, products of matrices, powers and everything transcendental."""
OWN = {"exact.py": {"np.random", "standard_normal"}, "raster.py": {"np.cumsum"}}
"""What single files may ask besides: the generator behind `Chance`, and sums of whole numbers."""
MATH = {"pi", "sqrt", "floor", "fsum", "factorial"}
"""fsum is the sum itself, rounded once."""
NDIMAGE = {"binary_closing", "binary_dilation", "binary_fill_holes", "distance_transform_edt", "label", "sum_labels"}
"""They count: distances are roots of whole numbers."""
METHODS = {"sum", "mean", "std", "var", "prod", "dot", "cumsum", "cumprod", "trace", "standard_normal", "normal"}
"""Of arrays and generators; their order of adding, or their logarithm, is the machine's."""


def strangers(source: str) -> Iterator[str]:
    """Yield what a file of drawing asks for and, as a rule, must not."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.BinOp | ast.AugAssign) and isinstance(node.op, ast.Pow | ast.MatMult):
            yield type(node.op).__name__
        elif isinstance(node, ast.ImportFrom) and node.module == "math":
            yield from (f"math.{alias.name}" for alias in node.names if alias.name not in MATH)
        elif isinstance(node, ast.Import | ast.ImportFrom):
            names = [getattr(node, "module", None) or "", *(alias.name for alias in node.names)]
            yield from (name for name in names if name.split(".")[0] in ("math", "random", "cmath", "numba"))
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in ("sum", "pow"):
            yield node.func.id
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            module, name = node.value.id, node.attr
            if module == "np" and name not in NUMPY:
                yield f"np.{name}"
            elif module == "ndimage" and name not in NDIMAGE:
                yield f"ndimage.{name}"
            elif module not in ("np", "rng") and name in METHODS:
                yield name
        elif isinstance(node, ast.Attribute) and node.attr in METHODS:
            yield node.attr


@pytest.mark.parametrize("path", DRAWING, ids=lambda path: path.name)
def test_drawing_uses_no_arithmetic_that_depends_on_the_machine(path: Path) -> None:
    assert set(strangers(path.read_text(encoding="utf-8"))) == OWN.get(path.name, set())


@pytest.mark.parametrize(
    "line",
    [
        *("np.sin(x)", "np.exp(x)", "x ** 3", "a @ b", "np.linalg.norm(x)", "np.hypot(x, y)", "np.interp(x, a, b)"),
        *("ndimage.gaussian_filter(x, 1)", "from math import sin", "import math", "import random", "sum(values)"),
        *("np.random.default_rng(0)", "field.mean()", "f(x).sum()", "source.standard_normal(3)"),
    ],
)
def test_the_search_would_find_it(line: str) -> None:
    assert list(strangers(line))

"""What is installed, what it imports, and how fast it starts."""

from __future__ import annotations

import ast
import json
import os
import re
import resource
import shutil
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import citation
import pytest

from bench.published.references import references

REPO = Path(__file__).resolve().parents[2]
BENCH = Path(sys.executable).with_name("bench")
MAPPED = {"bench.methods": "methods", "bench.datasets": "datasets"}
STARTS_WITHIN = 0.3
"""Seconds; what listing and help may take."""

LIGHT = (
    "bench",
    "bench.errors",
    "bench.functions",
    "bench.api",
    "bench.protocol",
    "bench.registry",
    "bench.config",
    "bench.suites",
    "bench.metrics",
    "bench.files",
    "bench.store.record",
    "bench.store.provenance",
    "bench.cli.main",
    "bench.cli.ls",
    "bench.cli.show",
    "bench.cli.check",
    "bench.cli.compare",
    "bench.cli.score",
    "bench.cli.new",
    "bench.cli.doctor",
    "bench.cli.cache",
    "bench.plugins",
    "bench.cache",
    "bench.doctor",
    "bench.store.folder",
    "bench.checks.verdicts",
    "bench.checks.output",
    "bench.checks.speed",
    "bench.checks.paired",
    "bench.checks.ratios",
    "bench.cli.speed",
    "bench.speed.record",
    "bench.cli.run",
    "bench.machine.crowding",
    "bench.machine.threads",
    "bench.machine.devices",
    "bench.run.executors.choice",
    "bench.plan.request",
)

# runs at the start of a Python process and tells at its end what it loaded and where plain names would come from
PROBE = """
import atexit, json, os, sys
def tell():
    from importlib.machinery import PathFinder
    found = {}
    for name in ("datasets", "methods"):
        spec = PathFinder.find_spec(name)
        found[name] = spec and (spec.origin or str(list(spec.submodule_search_locations)))
    with open(os.environ["PROBE_FILE"], "w") as file:
        json.dump({"found": found, "modules": sorted(sys.modules)}, file)
atexit.register(tell)
"""


def project() -> dict[str, Any]:
    return tomllib.loads((REPO / "pyproject.toml").read_text(encoding="utf-8"))


def folders() -> Iterator[tuple[str, Path]]:
    """Every folder of ours that has to be a package, with the name that it is imported by."""
    for name, top in {"bench": "bench", **MAPPED}.items():
        for folder in [REPO / top, *(path for path in (REPO / top).rglob("*") if path.is_dir())]:
            if "__pycache__" not in folder.parts and any(path.is_file() for path in folder.iterdir()):
                yield ".".join([name, *folder.relative_to(REPO / top).parts]), folder


def sources() -> list[Path]:
    return sorted(path for _, folder in folders() for path in folder.glob("*.py"))


def imported(path: Path) -> Iterator[str]:
    """Every absolute name that a file imports, at any depth of its code."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def within(name: str, package: str) -> bool:
    return f"{name}.".startswith(f"{package}.")


# ---------------------------------------------------------------------------------------------------- packages
def test_the_package_list_equals_the_tree() -> None:
    settings = project()["tool"]["setuptools"]
    assert settings["package-dir"] == MAPPED
    assert sorted(settings["packages"]) == sorted(name for name, _ in folders())


def test_every_package_has_its_init() -> None:
    # without one the editable install does not find the mapped folders
    assert [name for name, folder in folders() if not (folder / "__init__.py").is_file()] == []


def test_methods_and_datasets_stay_flat() -> None:
    assert [name for name, _ in folders() if name.startswith(tuple(f"{mapped}." for mapped in MAPPED))] == []


def _setuptools() -> tuple[int, ...]:
    try:
        return tuple(int(part) for part in re.findall(r"\d+", version("setuptools"))[:1])
    except PackageNotFoundError:
        return (0,)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the wheel that the source distribution gives, as whoever installs from it gets it."""
    if _setuptools() < (77,):
        pytest.skip("building a wheel offline needs setuptools 77 or newer in this environment")
    copy = tmp_path_factory.mktemp("copy")
    # a copy, since a build leaves files behind
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(REPO / name, copy)
    for top in ("bench", *MAPPED.values()):
        shutil.copytree(REPO / top, copy / top, ignore=shutil.ignore_patterns("__pycache__"))
    _done([sys.executable, "-c", "from setuptools.build_meta import build_sdist; build_sdist('out')"], copy)
    (source,) = (copy / "out").glob("*.tar.gz")
    command = [sys.executable, "-m", "pip", "wheel", str(source), "--no-deps", "--no-build-isolation"]
    _done([*command, "--wheel-dir", "out", "--quiet", "--disable-pip-version-check", "--no-index"], copy)
    (built,) = (copy / "out").glob("*.whl")
    return built


def _done(command: list[str], where: Path, **environment: str) -> str:
    told = {**os.environ, **environment}
    done = subprocess.run(command, cwd=where, env=told, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_a_wheel_holds_every_file_of_ours(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        held = {name for name in archive.namelist() if ".dist-info/" not in name}
        (points,) = (name for name in archive.namelist() if name.endswith("entry_points.txt"))
        assert "bench = bench.__main__:main" in archive.read(points).decode()
    want = {
        f"{name.replace('.', '/')}/{path.name}"
        for name, folder in folders()
        for path in folder.iterdir()
        if path.is_file()
    }
    assert held == want
    named = {"methods/dinomaly.py", "datasets/mvtec.py", "datasets/demo.py", "suites/demo.toml", "py.typed"}
    named |= {f"encoders/embedded/{name}" for name in ("vit_tiny_patch8_128.safetensors", "card.toml")}
    assert {f"bench/{name}" for name in named} <= held


def test_an_installed_wheel_runs_the_demo_outside_of_the_repository(wheel: Path, tmp_path: Path) -> None:
    installed, empty = tmp_path / "installed", tmp_path / "elsewhere"
    empty.mkdir()
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(installed)
    bench = [sys.executable, "-m", "bench"]
    told = {"PYTHONPATH": str(installed), "OMP_NUM_THREADS": "1"}
    assert "commit not known" in _done([*bench, "--version"], empty, **told)
    assert "dinomaly" in _done([*bench, "ls", "methods"], empty, **told)
    run = [*bench, "run", "--suite", "demo", "--classes", "fabric", "--set", "dinomaly.steps=2"]
    _done([*run, "--set", "dinomaly.warmup=1", "--quiet"], empty, **told)
    (record,) = (empty / "results").rglob("s0-*.json")
    assert json.loads(record.read_text())["environment"]["commit"] is None


def test_the_citation_file_names_the_papers_of_the_methods() -> None:
    cited = (REPO / "CITATION.cff").read_text(encoding="utf-8")
    assert cited == citation.text(), "python tools/citation.py > CITATION.cff"
    assert references()["dinomaly"].title in cited


# --------------------------------------------------------------------------------------------------- imports
def test_bench_never_names_a_method_or_dataset() -> None:
    for path in sources():
        if path.is_relative_to(REPO / "bench"):
            for name in imported(path):
                assert not any(within(name, mapped) for mapped in MAPPED), f"{path} imports {name}"
                assert name.partition(".")[0] not in MAPPED.values(), f"{path} imports {name}"


def test_methods_and_datasets_see_only_what_plug_ins_may() -> None:
    allowed = ("api", "encoders", "errors", "loading", "names", "protocol", "regular")
    # the demo's reader makes what it reads
    more = {REPO / "datasets/demo.py": ("cache", "demo")}
    for path in sources():
        if not path.is_relative_to(REPO / "bench"):
            for name in imported(path):
                if within(name, "bench"):
                    seen = (*allowed, *more.get(path, ()))
                    assert any(within(name, f"bench.{part}") for part in seen), f"{path} imports {name}"


def test_the_walk_would_find_a_forbidden_import(tmp_path: Path) -> None:
    path = tmp_path / "x.py"
    path.write_text("def f():\n    from bench.methods import dinomaly\nfrom bench import datasets\nimport methods.x\n")
    assert set(imported(path)) == {"bench.methods.dinomaly", "bench.datasets", "methods.x"}


def test_light_modules_load_no_torch() -> None:
    script = (
        "import importlib, sys\n"
        "for name in sys.argv[1:]:\n"
        "    importlib.import_module(name)\n"
        "    heavy = {'torch', 'timm', 'torchvision', 'numba'} & set(sys.modules)\n"
        "    assert not heavy, f'{name} loads {heavy}'\n"
    )
    done = subprocess.run([sys.executable, "-c", script, *LIGHT], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


# ----------------------------------------------------------------------------------------------- the command
def ways() -> list[Any]:
    script = pytest.param([str(BENCH)], id="console script")
    return [pytest.param([sys.executable, "-m", "bench"], id="python -m"), script]


@pytest.mark.parametrize("way", ways())
def test_plain_datasets_and_methods_are_not_ours(way: list[str], tmp_path: Path) -> None:
    if not Path(way[0]).exists():
        pytest.skip("bench's console script is not installed beside this Python")
    stand_ins = {name: tmp_path / "site" / name / "__init__.py" for name in ("datasets", "methods")}
    for path in stand_ins.values():
        path.parent.mkdir(parents=True)
        path.write_text("")
    found = probe([*way, "ls", "methods"], tmp_path, REPO)["found"]
    assert found == {name: str(path) for name, path in stand_ins.items()}


def probe(command: list[str], folder: Path, cwd: Path) -> dict[str, Any]:
    site = folder / "site"
    site.mkdir(exist_ok=True)
    (site / "sitecustomize.py").write_text(PROBE)
    environment = {**os.environ, "PYTHONPATH": str(site), "PROBE_FILE": str(folder / "probe.json")}
    done = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    answer: dict[str, Any] = json.loads((folder / "probe.json").read_text())
    return answer


QUICK = [["--help"], ["ls", "methods"], ["ls", "datasets"], ["ls", "metrics"], ["ls", "protocols"], ["ls", "suites"]]


@pytest.mark.parametrize("arguments", QUICK, ids=" ".join)
def test_help_and_listing_load_little(arguments: list[str], tmp_path: Path) -> None:
    modules = set(probe([sys.executable, "-m", "bench", *arguments], tmp_path, tmp_path)["modules"])
    heavy = {"torch", "torchvision", "timm", "numpy", "scipy", "sklearn", "pyarrow", "PIL", "rich", "pydantic"}
    assert "bench.cli.main" in modules and not modules & heavy


@pytest.mark.parametrize("arguments", QUICK, ids=" ".join)
def test_help_and_listing_answer_at_once(arguments: list[str], tmp_path: Path) -> None:
    def seconds() -> float:
        # processor time of the child, not wall time: a busy machine makes everyone wait
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run([sys.executable, "-m", "bench", *arguments], cwd=tmp_path, capture_output=True, check=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime

    spent: list[float] = []
    while not spent or (min(spent) >= STARTS_WITHIN and len(spent) < 5):
        spent.append(seconds())
    assert min(spent) < STARTS_WITHIN, f"seconds taken: {spent}"

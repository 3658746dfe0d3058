"""Who may import whom: the rooms of the house, the arrows between them, and no circle."""

from __future__ import annotations

import pytest
from imports import Arrow, arrows, circles, modules

GROUND = "errors words names regular home files cache machine"
"""What every room may lean on: it knows no cell, no record and no plug-in."""

ALLOWED = {
    # the ground, lowest first
    "errors": "",
    "words": "",
    "names": "",
    "regular": "",
    "callable_package": "",
    "families": "",
    "suites": "errors",
    "demo": "errors",
    "files": "errors",
    "home": "errors",
    "setting": "words",
    "cache": "errors home",
    "machine": "errors names cache",
    "bench": "machine",  # the package itself: its version, and lazily its functions
    # contracts, and what they are found by
    "batch": "",
    "sample": "",
    "registry": GROUND,
    "protocol": f"{GROUND} registry",
    "method": f"{GROUND} batch protocol",
    "loading": f"{GROUND} sample protocol",
    "dataset": f"{GROUND} sample loading",
    "api": f"{GROUND} batch sample dataset method protocol",
    "own": f"{GROUND} registry",
    "data_roots": f"{GROUND} registry own",
    "combined": f"{GROUND} api registry data_roots",
    "config": f"{GROUND} registry setting suites",
    # usable without the rest
    "metrics": f"{GROUND} registry protocol",
    "stats": f"{GROUND} metrics",
    "plugins": f"{GROUND} api metrics registry",
    "templates": f"{GROUND} api metrics encoders",
    # what there is: data, encoders, records, papers
    "encoders": f"{GROUND} api registry",
    "curate": f"{GROUND} api loading metrics",
    "store": f"{GROUND} bench registry protocol setting metrics stats loading own combined",
    "published": f"{GROUND} loading",
    "claims": f"{GROUND} registry protocol setting metrics published",
    # a cell: planned, run, scored; its model used again
    "plan": f"{GROUND} api method config registry protocol setting own combined data_roots loading encoders metrics"
    " store",
    "run": f"{GROUND} callable_package api combined plugins registry protocol loading encoders metrics store plan",
    "external": f"{GROUND} api config registry protocol setting data_roots loading metrics store plan run",
    # what is made of records alone: no room below here but the last ones knows how a cell is run
    "report.tables": f"{GROUND} combined config registry protocol setting metrics stats store published",
    "report.figures": f"{GROUND} protocol metrics stats store report.tables",
    "report.formats": f"{GROUND} bench published store report.tables report.figures",
    "explain": f"{GROUND} registry protocol loading metrics store published",
    "audit": f"{GROUND} api protocol loading encoders metrics stats store curate",
    "packs": f"{GROUND} loading metrics stats store curate",
    "exports": f"{GROUND} registry metrics store",
    # the speed of cells, whose tables are tables
    "speed": f"{GROUND} demo api method config registry loading encoders store plan run report.tables",
    "checks": f"{GROUND} metrics stats store speed",
    "report": f"{GROUND} callable_package config registry store speed report.tables report.formats",
    "prediction": f"{GROUND} bench api registry protocol loading encoders metrics store plan run"
    " report.tables report.figures report.formats",
    "submission": f"{GROUND} api registry loading curate external metrics prediction",
    # the doors
    "doctor": f"{GROUND} registry data_roots encoders store",
    "functions": f"{GROUND} own config store plan run external prediction report report.formats",
    "cli": "*",
    "__main__": "cli",
    # plug-ins, ours like anybody's; tests/package/test_packaging.py says which parts of these they see
    "methods": "api encoders errors protocol",
    "datasets": "api encoders errors loading names regular protocol cache demo",
}
"""Room -> the rooms that it may import when it runs, at the top of a file or inside of a function."""

NAMED = {
    "bench": "functions",
    "registry": "api metrics",
    "config": "api",
    "loading": "dataset",
    "store": "api",
}
"""Room -> the rooms whose types it may name besides, for the type checker alone."""


def room(module: str) -> str:
    """Return the room of a module: its package or file below bench/, of a report its part."""
    _, *parts = module.split(".")
    if parts[:1] == ["report"] and parts[1:2] and parts[1] in ("tables", "figures", "formats"):
        return ".".join(parts[:2])
    return parts[0] if parts else "bench"


def broken(sources: dict[str, str]) -> list[str]:
    """Return a line for every import that the table does not allow."""
    lines = []
    for arrow in sorted(arrows(sources)):
        here, there = room(arrow.importer), room(arrow.imported)
        doors = ALLOWED.get(here, "").split() + (NAMED.get(here, "").split() if arrow.types_only else [])
        if here != there and there not in doors and (doors != ["*"] or there in ("methods", "datasets", "functions")):
            lines.append(f"{arrow.importer} imports {arrow.imported}: no door from {here} to {there}")
    return lines


def test_the_room_of_a_cell_s_life_stays_small() -> None:
    # it held 56 once: planning, prediction and other programs' maps were houses of their own
    held = [name for name in modules() if room(name.rstrip(".")) == "run"]
    assert len(held) <= 33, "executors included; what is not of a cell's life belongs to another room"


def test_every_import_goes_through_a_door() -> None:
    assert broken(modules()) == []


def test_no_module_imports_itself_by_way_of_others() -> None:
    assert circles((one.importer, one.imported) for one in arrows(modules()) if not one.types_only) == []


def test_the_table_itself_has_no_circle_and_names_rooms_that_are_there() -> None:
    doors = [(here, there) for here, named in ALLOWED.items() for there in named.split() if there != "*"]
    assert circles(doors) == []
    rooms = {room(name.rstrip(".")) for name in modules()}
    assert {*ALLOWED} - rooms == set() and rooms - {*ALLOWED} == set(), "a room without a line in the table, or a line"
    assert {there for _, there in doors} <= rooms and {*" ".join(NAMED.values()).split()} <= rooms


@pytest.mark.parametrize(
    ("importer", "line"),
    [
        ("bench.metrics.ranks", "from bench.store import record"),
        ("bench.metrics.ranks", "def f():\n    from bench.loading.masks import read_union"),
        ("bench.report.tables.line", "def f():\n    import bench.run.cell"),
        ("bench.loading.hashes", "from bench import api"),
        ("bench.loading.hashes", "if TYPE_CHECKING:\n    from bench.run.cell import Options"),
        ("bench.machine.timing", "from ..plan.cells import Cell"),
        ("bench.cli.run", "from bench.methods import dinomaly"),
        ("bench.methods.knn", "from bench.run import cell"),
    ],
)
def test_a_broken_wall_is_seen(importer: str, line: str) -> None:
    sources = modules()
    before = broken(sources)
    sources[importer] += f"\n{line}\n"
    (found,) = set(broken(sources)) - {*before}
    assert found.startswith(f"{importer} imports ")


def test_types_may_be_named_where_a_module_may_not_be_imported() -> None:
    sources = modules()
    before = broken(sources)
    sources["bench.loading.hashes"] += "\nif TYPE_CHECKING:\n    from bench.dataset import Dataset\n"
    assert broken(sources) == before
    sources["bench.loading.hashes"] += "\nfrom bench.dataset import Dataset\n"
    assert len(broken(sources)) == len(before) + 1


def test_a_planted_circle_is_seen() -> None:
    sources = {
        "a.": "from a import b",
        "a.b": "def f():\n    from .c import x",
        "a.c": "import a.b",
        "a.d": "import a.c",
    }
    assert arrows(sources) >= {Arrow("a.b", "a.c"), Arrow("a.c", "a.b"), Arrow("a.d", "a.c")}
    assert circles((one.importer, one.imported) for one in arrows(sources)) == [["a.b", "a.c"]]

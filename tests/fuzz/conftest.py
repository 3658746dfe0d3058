from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import hostile
import pytest


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            # Pillow, torch and zipfile remark on what is wrong with a file, which is the purpose here
            item.add_marker(pytest.mark.filterwarnings("ignore::UserWarning"))
            item.add_marker(pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning"))


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """The one folder that a case may write to."""
    return tmp_path


@pytest.fixture(scope="session", autouse=True)
def canary(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A file that hostile code would make; it must not be there at the end."""
    path = tmp_path_factory.mktemp("canary") / "executed"
    yield path
    assert not path.exists()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if hostile.TRIED:
        terminalreporter.section("hostile cases tried (refused)")
        for kind, count in sorted(hostile.TRIED.items()):
            terminalreporter.line(f"{count:8,}  ({hostile.REFUSED[kind]:,})  {kind}")

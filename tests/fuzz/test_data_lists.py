"""What a dataset's folder says of itself: split files, and names of classes, defects and images."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from hostile import NAMES, bent, cases, damaged, names, scratch, survives
from hypothesis import given
from hypothesis import strategies as st
from layouts import LAYOUTS

from bench.api import Finding
from bench.curate.verify import verify
from bench.errors import DatasetError
from bench.names import UNPRINTABLE
from bench.registry import DATASETS


@pytest.fixture(scope="module")
def roots(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """One of each dataset, as distributed."""
    made = {}
    for name in ("mvtec", "visa", "realiad", "btad", "view"):
        made[name] = tmp_path_factory.mktemp(name)
        LAYOUTS[name](made[name])
    return made


def read(name: str, root: Path) -> None:
    """Index a dataset as every command does; whatever it names lies inside it and can be printed."""
    kind = DATASETS.load(name)

    def use() -> None:
        dataset = kind(kind.locate(root))
        samples, findings = dataset.inspect()  # type: ignore[attr-defined]
        for sample in samples:
            for path in (sample.image, *sample.masks):
                # no name leads out; a link may, and is made by the owner of the folder
                assert Path(os.path.normpath(path)).is_relative_to(os.path.normpath(root)), path
            assert not UNPRINTABLE.search(f"{sample.id}{sample.cls}{sample.defect}")
        texts(findings)
        dataset.samples()

    survives(f"dataset {name}", use, root)


def texts(findings: tuple[Finding, ...]) -> None:
    for finding in findings:
        assert not UNPRINTABLE.search(finding.text + finding.where), finding


VISA = "split_csv/1cls.csv"


@cases(150)
@given(data=st.data())
def test_damaged_split_tables(roots: dict[str, Path], data: st.DataObject) -> None:
    path = roots["visa"] / VISA
    before = path.read_bytes()
    try:
        path.write_bytes(data.draw(damaged(before)))
        read("visa", roots["visa"])
        read("folder", roots["visa"])
    finally:
        path.write_bytes(before)


@cases(150)
@given(
    rows=st.lists(
        st.lists(names | st.sampled_from(["candle", "train", "test", "normal", "anomaly"]), min_size=4, max_size=6),
        max_size=4,
    )
)
def test_split_tables_of_strange_entries(roots: dict[str, Path], rows: list[list[str]]) -> None:
    path = roots["visa"] / VISA
    before = path.read_bytes()
    try:
        lines = "".join(",".join(f'"{cell}"' for cell in row) + "\n" for row in rows)
        path.write_bytes(before + lines.encode("utf-8", "surrogatepass"))
        read("visa", roots["visa"])
        path.write_bytes(b"object,split,label,image,mask\n" + lines.encode("utf-8", "replace"))
        read("folder", roots["visa"])
    finally:
        path.write_bytes(before)


@cases(120)
@given(data=st.data())
def test_split_files_in_json(roots: dict[str, Path], data: st.DataObject) -> None:
    path = next(roots["realiad"].glob("realiad_jsons/realiad_jsons/zipper.json"))
    before = path.read_bytes()
    changed = data.draw(damaged(before) | bent(json.loads(before)))
    try:
        path.write_bytes(changed if isinstance(changed, bytes) else json.dumps(changed).encode())
        read("realiad", roots["realiad"])
    finally:
        path.write_bytes(before)


def linked(path: Path, target: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    path.symlink_to(target)


@pytest.mark.parametrize("target", ["/etc/passwd", "../../../../..", "/dev/zero", "loop", "/proc/self/mem"])
def test_split_files_that_lead_elsewhere_by_a_link(roots: dict[str, Path], tmp_path: Path, target: str) -> None:
    root = tmp_path / "visa"
    shutil.copytree(roots["visa"], root)
    victim = next(root.glob("candle/Data/Images/Normal/*.JPG"))
    linked(victim, victim.name if target == "loop" else target)
    kind = DATASETS.load("visa")
    dataset = kind(kind.locate(root))
    # a link to a regular file is its owner's affair; one that is no image is refused when it is read
    with pytest.raises(DatasetError):
        dataset.read_image(next(sample for sample in dataset.samples() if sample.image == victim))
    read("visa", root)


# -------------------------------------------------------------------------------------------------------- names
def placed(name: str) -> str:
    """A name as a file system takes it."""
    return os.fsdecode(
        os.fsencode(name.replace("\0", "0").encode("utf-8", "surrogateescape" if "\ud800" not in name else "replace"))
    )[:80]


@cases(60)
@given(cls=names, defect=names, stem=names, dataset=st.sampled_from(["folder", "mvtec", "btad", "view"]))
def test_folders_and_files_of_any_name(roots: dict[str, Path], cls: str, defect: str, stem: str, dataset: str) -> None:
    source = next(roots["mvtec"].glob("screw/train/good/*.png"))
    with scratch() as root:
        first = (
            "screw" if dataset == "mvtec" else "01" if dataset == "btad" else "seg_train" if dataset == "view" else ""
        )
        try:
            for split in ("train", "test"):
                for kind in ("good", "ok", placed(defect)):
                    file = root / first / placed(cls) / split / kind / f"{placed(stem)}.png"
                    other = root / placed(cls) / split / kind / f"{placed(stem)}.png"
                    for path in (file, other):
                        if Path(os.path.normpath(path)).is_relative_to(root):
                            path.parent.mkdir(parents=True, exist_ok=True)
                            shutil.copy(source, path)
        except (OSError, ValueError):
            pass  # no file system takes this name
        read(dataset, root)


@pytest.mark.parametrize("name", [name for name in NAMES if "/" not in name and "\0" not in name and name.strip(". ")])
def test_the_commands_print_no_name_that_a_terminal_obeys(bench: Callable, tree: Path, name: str) -> None:
    # a class of this name, and one whose images are called so
    name = placed(name)[:60]
    shutil.copytree(tree / "dots", tree / name)
    shutil.copy(tree / "lines/train/good/000.png", tree / "lines/train/good" / f"{name}.png")
    done = bench("data", "verify", "folder", "--root", str(tree))
    assert done.returncode in (0, 1) and "unexpected" not in done.stderr
    for text in (done.stdout, done.stderr):
        text.encode()
        assert not UNPRINTABLE.search(text.replace("\n", "").replace("\t", "")), text


def test_verify_goes_on_after_a_file_that_is_no_image(roots: dict[str, Path], tmp_path: Path) -> None:
    root = tmp_path / "mvtec"
    shutil.copytree(roots["mvtec"], root)
    for number, path in enumerate(sorted(root.rglob("*.png"))):
        if number % 3 == 0:
            path.write_bytes(path.read_bytes()[: 20 + number])
    kind = DATASETS.load("mvtec")
    report = survives("bench data verify", lambda: verify(kind(kind.locate(root)), workers=1), root)
    assert report is not None and {finding.kind for finding in report.findings} >= {"unreadable"}
    texts(tuple(report.findings))

"""What lies where no reader looks, folders that cannot be looked into, and names in two of Unicode's forms."""

from __future__ import annotations

import os
import shutil
import tempfile
import unicodedata
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from layouts import LAYOUTS, mask, picture, write_split
from PIL import Image

from bench.api import Counts, Finding, by_class
from bench.curate.verify import verify
from bench.datasets._listing import contents
from bench.datasets.folder import Folder
from bench.datasets.mvtec import MVTec
from bench.errors import DatasetError
from bench.machine.threads import cores
from bench.registry import DATASETS


def found(root: Path) -> list[tuple[str, str, bool]]:
    return [(finding.kind, finding.where, finding.stops) for finding in Folder(root).inspect()[1]]


# --------------------------------------------------------------------------------------------------- left out
@pytest.mark.parametrize("suffix", [".jfif", ".gif", ".JP2", ".heic", ".pgm", ".JPE"])
@pytest.mark.parametrize("place", ["train/good", "test/good", "test/square", "ground_truth/square"])
def test_pictures_in_other_formats_are_told(tree: Path, place: str, suffix: str) -> None:
    for name in ("a", "b"):
        (tree / "dots" / place / f"{name}{suffix}").write_bytes(b"x")
    ((kind, where, stops),) = found(tree)
    assert (kind, where, stops) == ("unread", f"dots/{place}/a{suffix}", False)
    (finding,) = verify(Folder(tree)).findings
    assert "the first of 2 pictures that are not read" in finding.text and ".png" in finding.text


@pytest.mark.parametrize("suffix", [".TIF", ".Tiff", ".PNG", ".JpG", ".BMP", ".WebP"])
def test_suffixes_are_read_in_any_case(tree: Path, suffix: str) -> None:
    path = tree / "dots/train/good/000.png"
    with Image.open(path) as image:
        image.save(path.with_suffix(suffix.lower()))
    path.with_suffix(suffix.lower()).rename(path.with_suffix(suffix))
    if suffix != ".PNG":
        path.unlink()
    assert len(by_class(Folder(tree).samples())["dots"]) == 10
    assert found(tree) == []


@pytest.mark.parametrize(
    ("place", "told"),
    [
        ("dots/train/good/cam1", "in a folder inside of train/good/"),
        ("dots/train/good/cam1/deep/er", "in a folder inside of train/good/"),
        ("dots/test/square/cam1", "in a folder inside of test/square/"),
        ("dots/train", "in train/ itself. Expected train/good"),
        ("dots/test", "in test/ itself. Expected test/good"),
        ("dots", "in the class's folder itself"),
        ("dots/extra", "in extra/. Expected train/, test/ and ground_truth/ in a class"),
        ("dots/validation/bad", "in validation/bad. Expected only normal ones"),
        ("dots/ground_truth", "in ground_truth/ itself"),
        ("dots/ground_truth/square/000/deep", "too deep for masks"),
        ("", "in no class"),
        ("more", "in no class"),
    ],
)
def test_pictures_that_lie_where_none_is_read_are_told(tree: Path, place: str, told: str) -> None:
    before = Folder(tree).samples()
    for number in range(3):
        picture(tree / place / f"x{number}.png")
    ((kind, where, stops),) = found(tree)
    assert (kind, stops) == ("unread", False) and where.endswith("x0.png")
    dataset = Folder(tree)
    assert dataset.samples() == before, "it stops nothing"
    assert told in dataset.remarks[0].text and "the first of 3" in dataset.remarks[0].text


def test_other_files_and_empty_folders_are_the_owners_affair(tree: Path) -> None:
    for name in ("dots/readme.txt", "dots/train/good/Thumbs.db", "notes.md", "dots/.hidden/x.png", ".git/x.png"):
        (tree / name).parent.mkdir(exist_ok=True)
        (tree / name).write_bytes(b"x")
    for name in ("empty", "dots/train/good/empty", "dots/more", "lost+found"):
        (tree / name).mkdir()
    assert found(tree) == []


@pytest.mark.parametrize("name", [name for name in LAYOUTS if name != "folder"])
def test_no_layout_as_distributed_leaves_anything_out(tmp_path: Path, name: str) -> None:
    LAYOUTS[name](tmp_path)
    kind = DATASETS.load(name)
    dataset = kind(kind.locate(tmp_path))
    assert dataset.samples() and dataset.remarks == ()


def test_a_run_says_what_it_leaves_out(bench: Callable, tree: Path, small: Callable[..., list[str]]) -> None:
    shutil.move(tree / "dots/train/good/004.png", picture(tree / "dots/train/good/cam1/x.png"))
    command = [*small(), "--data-root", str(tree), "--dry-run"]
    done = bench(*command)
    assert done.returncode == 0, done.stderr
    assert "unread: " in done.stderr and "in a folder inside of train/good/" in done.stderr
    assert f"bench data verify folder --root {tree}" in done.stderr
    assert "unread: " not in bench(*command, "--classes", "lines").stderr


# ------------------------------------------------------------------------------------------ masks of normal images
def test_masks_of_normal_images_are_asked_for_what_they_mark(tree: Path) -> None:
    truth = tree / "dots/ground_truth/good"
    for number in range(2):
        mask(truth / f"{number:03}_mask.png", 0)
    assert verify(Folder(tree)).findings == ()
    Image.new("L", (48, 48), 255).save(truth / "001_mask.png")
    before = Folder(tree).samples()
    (finding,) = verify(Folder(tree)).findings
    assert (finding.kind, finding.where, finding.stops) == ("normal-mask", "dots/ground_truth/good/001_mask.png", False)
    assert "marks 100.0%" in finding.text and str(tree / "dots/test/good/001.png") in finding.text
    assert not any(sample.masks for sample in before if not sample.label)


def test_masks_that_a_list_names_for_normal_images_are_asked_too(tmp_path: Path) -> None:
    rows = [("nuts", "train", "normal", "a.jpg", "a.bmp"), ("nuts", "test", "normal", "b.jpg", "b.bmp")]
    rows += [("nuts", "test", "anomaly", "c.jpg", "c.bmp"), ("nuts", "test", "normal", "d.jpg", "gone.bmp")]
    for _, _, label, image, truth in rows:
        picture(tmp_path / image)
        if truth != "gone.bmp":
            mask(tmp_path / truth, 255 if label == "anomaly" else 0)
    write_split(tmp_path, rows)
    assert verify(Folder(tmp_path)).findings == ()
    mask(tmp_path / "a.bmp", 255)
    (finding,) = verify(Folder(tmp_path)).findings
    assert (finding.kind, finding.where) == ("normal-mask", "a.bmp")


# ----------------------------------------------------------------------------------------------- may not be read
@pytest.fixture
def unprivileged(write_tree: Callable[..., Path]) -> Iterator[Path]:
    """A small dataset in the hands of a user whom permissions bind, even where the tests are root's."""
    with tempfile.TemporaryDirectory() as folder:
        root = write_tree(Path(folder) / "tree")
        Path(folder).chmod(0o755)
        # what is imported on first use lies where only the tests' own user may read
        assert verify(Folder(root)).findings == () and cores()
        before = os.geteuid()
        if before == 0:
            os.seteuid(65534)
        try:
            yield root
        finally:
            if before == 0:
                os.seteuid(0)
            for place, folders, _ in os.walk(folder):
                for name in folders:
                    Path(place, name).chmod(0o755)


def shut(folder: Path, mode: int = 0) -> None:
    """Take a folder's permissions away, as its owner."""
    me = os.geteuid()
    if me == 65534:
        os.seteuid(0)
    folder.chmod(mode)
    os.seteuid(me)


@pytest.mark.parametrize("mode", [0, 0o111, 0o444])
@pytest.mark.parametrize(
    "name", ["dots", "dots/train", "dots/train/good", "dots/test", "dots/test/good", "dots/test/square"]
)
def test_one_folder_that_cannot_be_looked_into_is_one_finding(unprivileged: Path, name: str, mode: int) -> None:
    shut(unprivileged / name, mode)
    report = verify(Folder(unprivileged))
    (finding,) = report.findings
    assert (finding.kind, finding.where) == ("unreadable", name)
    assert "cannot be looked into (Permission denied)" in finding.text
    assert report.seen["lines"] == Counts(5, 2, 3)


def test_masks_that_cannot_be_looked_into_are_one_finding(unprivileged: Path) -> None:
    for name in ("dots/ground_truth/square", "lines/ground_truth"):
        shut(unprivileged / name)
    assert [(kind, where) for kind, where, _ in found(unprivileged)] == [
        ("unreadable", "dots/ground_truth/square"),
        ("unreadable", "lines/ground_truth"),
    ]


@pytest.mark.parametrize("name", ["mvtec", "mvtec_loco", "visa", "mpdd", "btad", "realiad", "view", "folder"])
def test_a_folder_beside_the_classes_that_is_shut_stops_nothing(unprivileged: Path, name: str) -> None:
    os.seteuid(0) if os.getuid() == 0 else None
    home = unprivileged.parent / name
    expected = len(LAYOUTS[name](home))
    kind = DATASETS.load(name)
    root = kind.locate(home)
    for extra in ("lost+found", "System Volume Information", "private"):
        (root / extra).mkdir()
        (root / extra).chmod(0)
    os.seteuid(65534) if os.getuid() == 0 else None
    dataset = kind(kind.locate(home))
    assert len(dataset.samples()) == expected
    kinds = [(remark.kind, remark.where) for remark in dataset.remarks]
    # among one's own images any folder may have been meant as a class
    assert kinds == ([("unreadable", "private")] if name == "folder" else [])


def test_a_class_of_the_card_that_is_shut_is_a_finding_that_stops(unprivileged: Path) -> None:
    os.seteuid(0) if os.getuid() == 0 else None
    home = unprivileged.parent / "mvtec"
    LAYOUTS["mvtec"](home)
    os.seteuid(65534) if os.getuid() == 0 else None
    shut(home / "screw")
    assert [(f.cls, f.kind, f.stops) for f in MVTec(home).inspect()[1]] == [("screw", "unreadable", True)]
    with pytest.raises(DatasetError, match=r"screw: cannot be looked into \(Permission denied\)"):
        MVTec(home).samples()


SHUT = [
    ("mvtec", "screw/test/bent"),
    ("mvtec_loco", "juice_bottle/ground_truth/logical_anomalies/000"),
    ("visa", "candle"),
    ("visa", "candle/Data/Images/Anomaly"),
    ("visa", "candle/Data/Masks"),
    ("visa", "split_csv"),
    ("mpdd", "tubes"),
    ("btad", "01/train/ok"),
    ("realiad", "../realiad_jsons"),
    ("realiad", "zipper"),
    ("realiad", "zipper/OK"),
    ("realiad", "zipper/NG/HS"),
    ("view", "seg_train"),
    ("view", "seg_test/seg_test/sea"),
    ("folder", "apples/ground_truth"),
]


@pytest.mark.parametrize(("name", "shut_folder"), SHUT)
def test_one_shut_folder_is_one_finding_in_every_layout(unprivileged: Path, name: str, shut_folder: str) -> None:
    os.seteuid(0) if os.getuid() == 0 else None
    home = unprivileged.parent / name
    LAYOUTS[name](home)
    kind = DATASETS.load(name)
    root = kind.locate(home)
    for place, _, _ in os.walk(home):
        os.chown(place, 65534, 65534) if os.getuid() == 0 else None
    os.seteuid(65534) if os.getuid() == 0 else None
    shut(root / shut_folder)
    dataset = kind(kind.locate(home))
    report = verify(dataset)
    told = [(finding.kind, finding.where) for finding in report.findings if finding.kind != "count"]
    ((what, where),) = told
    assert what == "unreadable" and Path(shut_folder).name in where
    with pytest.raises(DatasetError, match=r"cannot be looked into \(Permission denied\)"):
        dataset.samples()


@pytest.mark.parametrize("name", ["cifar10", "cifar100", "fmnist", "mvtec", "realiad"])
def test_a_shut_folder_of_a_usual_name_hides_nothing_else(unprivileged: Path, name: str) -> None:
    os.seteuid(0) if os.getuid() == 0 else None
    home = unprivileged.parent / name
    kind = DATASETS.load(name)
    LAYOUTS[name](home / kind.aliases[-1])
    for alias in kind.aliases[:-1]:
        (home / alias).mkdir()
    os.seteuid(65534) if os.getuid() == 0 else None
    for alias in kind.aliases[:-1]:
        shut(home / alias)
    assert kind(kind.locate(home)).samples()


def test_a_root_that_is_shut_is_said_to_be(unprivileged: Path) -> None:
    shut(unprivileged, 0o111)
    with pytest.raises(DatasetError, match=r"cannot be looked into \(Permission denied\)"):
        Folder.locate(unprivileged)


# ---------------------------------------------------------------------------------------------- stray split folders
@pytest.mark.parametrize("stray", [("test",), ("train",), ("train", "test"), ("train/good", "test/good")])
def test_empty_split_folders_beside_the_classes_hide_none_of_them(tree: Path, stray: tuple[str, ...]) -> None:
    before = Folder(tree).samples()
    for name in stray:
        (tree / name).mkdir(parents=True)
    assert Folder(Folder.locate(tree)).samples() == before
    assert found(tree) == []


@pytest.mark.parametrize("name", ["train", "test"])
def test_a_class_may_be_called_train_or_test(tree: Path, name: str) -> None:
    (tree / "dots").rename(tree / name)
    assert list(by_class(Folder(Folder.locate(tree)).samples())) == sorted([name, "lines"])


def test_a_defect_may_be_called_train_or_test(tree: Path) -> None:
    for name in ("train", "test"):
        for place in ("test", "ground_truth"):
            shutil.copytree(tree / "dots" / place / "square", tree / "dots" / place / name)
    samples = Folder(Folder.locate(tree / "dots")).samples()
    assert {sample.defect for sample in samples} == {"good", "square", "train", "test"}
    assert list(by_class(samples)) == ["dots"]


def test_classes_beside_the_training_images_of_a_single_class_are_told(tree: Path) -> None:
    (tree / "lines").rename(tree / "dots/lines")
    dataset = Folder(Folder.locate(tree / "dots"))
    assert list(by_class(dataset.samples())) == ["dots"]
    (remark,) = dataset.remarks
    assert (remark.kind, remark.where) == ("unread", "dots/lines/ground_truth/square/000_mask.png"[5:])
    assert "in lines/. Expected train/, test/ and ground_truth/ in a class" in remark.text


# ------------------------------------------------------------------------------------------------- Unicode's forms
COMPOSED, APART = (unicodedata.normalize(form, "fläche") for form in ("NFC", "NFD"))


def test_names_are_paired_by_their_composed_form(tree: Path) -> None:
    before = [sample.id for sample in Folder(tree).samples()]
    for name, form in (("test/square", APART), ("ground_truth/square", COMPOSED)):
        folder = (tree / "dots" / name).rename(tree / "dots" / name.replace("square", form))
        for path in folder.iterdir():
            other = {APART: COMPOSED, COMPOSED: APART}[form]
            path.rename(path.with_name(path.name.replace("001", other)))
    (tree / "dots").rename(tree / unicodedata.normalize("NFD", "Löcher"))
    samples = Folder(tree).samples()
    composed = unicodedata.normalize("NFC", "Löcher")
    expected = [
        name.replace("dots", composed).replace("square/001", f"square/{COMPOSED}").replace("square", COMPOSED)
        if name.startswith("dots")
        else name
        for name in before
    ]
    assert sorted(sample.id for sample in samples) == sorted(expected)
    assert all(len(sample.masks) == sample.label for sample in samples)


def test_two_names_that_differ_only_in_their_form_are_told(tree: Path) -> None:
    for form in (COMPOSED, APART):
        shutil.copy(tree / "dots/train/good/000.png", tree / f"dots/train/good/{form}.png")
    ((kind, where, stops),) = found(tree)
    assert (kind, stops) == ("duplicate-id", True) and where.startswith("dots/train/good/fl")
    with pytest.raises(DatasetError, match="only in its Unicode form"):
        Folder(tree).samples()


def test_two_classes_that_differ_only_in_their_form_are_told(tree: Path) -> None:
    for form in (COMPOSED, APART):
        shutil.copytree(tree / "dots", tree / form)
    kinds = [finding.kind for finding in Folder(tree).inspect()[1]]
    assert kinds == ["name"]


def test_a_list_finds_names_in_either_form(tmp_path: Path) -> None:
    rows = [("nuts", "train", "normal", "a.jpg", ""), ("nuts", "test", "normal", "b.jpg", "")]
    rows += [("nuts", "test", "anomaly", f"{COMPOSED}/{COMPOSED}.jpg", f"{COMPOSED}/{COMPOSED}.png")]
    for _, _, _, image, truth in rows:
        picture(tmp_path / image.replace(COMPOSED, APART))
        if truth:
            mask(tmp_path / truth.replace(COMPOSED, APART))
    write_split(tmp_path, rows)
    samples = Folder(tmp_path).samples()
    assert f"nuts/test/{COMPOSED}/{COMPOSED}" in {sample.id for sample in samples}
    assert all(path.is_file() for sample in samples for path in (sample.image, *sample.masks))


# ------------------------------------------------------------------------------------------------------------ speed
def test_a_folder_is_listed_once_and_no_file_looked_at(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(200):
        (tree / f"dots/train/good/x{number}.png").touch()
    looks: list[str] = []
    lists: list[str] = []
    real_stat, real_scandir = os.stat, os.scandir

    def stat(path: object, **kind: object) -> os.stat_result:
        looks.append(str(path))
        return real_stat(path, **kind)  # type: ignore[arg-type]

    def scandir(path: object) -> object:
        lists.append(str(path))
        return real_scandir(path)  # type: ignore[call-overload]

    monkeypatch.setattr(os, "stat", stat)
    monkeypatch.setattr(os, "scandir", scandir)
    assert len(ClassOnly(tree).samples()) == 220
    assert not [path for path in looks if path.endswith(".png")]
    assert lists.count(str(tree / "dots/train/good")) <= 3


class ClassOnly(Folder):
    """Own images, read as ever."""


def test_contents_of_what_is_no_folder_are_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for name in ("none", "file"):
        assert contents(tmp_path / name).images == () and contents(tmp_path / name).trouble == ""


def test_findings_say_whether_they_stop(tree: Path) -> None:
    assert Finding("", "layout", ".", "x").stops
    (tree / "dots/ground_truth/square/000_mask.png").unlink()
    assert found(tree) == [("missing-mask", "dots/test/square/000.png", True)]

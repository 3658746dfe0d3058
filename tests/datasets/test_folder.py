"""One's own images in the layouts that people have, and which of them are held for testing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from layouts import mask, picture

from bench.api import Counts, Sample, by_class
from bench.curate.verify import verify
from bench.datasets import _held
from bench.datasets.folder import Folder
from bench.errors import DatasetError


def pictures(folder: Path, count: int, suffix: str = ".png") -> None:
    for number in range(count):
        picture(folder / f"{number:03}{suffix}")


def masks(folder: Path, count: int, end: str = "_mask.png") -> None:
    for number in range(count):
        mask(folder / f"{number:03}{end}")


def table(path: Path, header: str, *rows: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join([header, *rows]) + "\n", encoding="utf-8")


def read(root: Path) -> tuple[Folder, tuple[Sample, ...]]:
    dataset = Folder(Folder.locate(root))
    samples = dataset.samples()
    assert dataset.remarks == ()
    assert verify(Folder(root)).findings == ()
    return dataset, samples


def counts(samples: tuple[Sample, ...]) -> dict[str, Counts]:
    seen = Counter((sample.cls, sample.split, sample.label) for sample in samples)
    return {
        cls: Counts(seen[cls, "train", 0], seen[cls, "test", 0], seen[cls, "test", 1], seen[cls, "val", 0])
        for cls in by_class(samples)
    }


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "washers"


# ----------------------------------------------------------------------------------------------------- good and bad
@pytest.mark.parametrize("good", ["good", "Good", "OK", "normal"])
@pytest.mark.parametrize("bad", ["bad", "NG", "scratch"])
def test_good_and_bad_side_by_side(root: Path, good: str, bad: str) -> None:
    pictures(root / good, 10)
    pictures(root / bad, 3)
    dataset, samples = read(root)
    assert counts(samples) == {"washers": Counts(7, 3, 3)}
    assert {sample.defect for sample in samples} == {"good", bad}
    assert f"washers/{good}/004" in {sample.id for sample in samples}, "its id does not say what was held"
    assert dataset.notes == (
        (
            "washers",
            "which normal images are trained on is not stated: 3 of 10 (30%, by the hash of their names, seed 0) are "
            "held for testing",
        ),
    )


def test_good_and_bad_by_class_beside_classes_with_a_split(root: Path, write_tree: Callable[..., Path]) -> None:
    for cls in ("bolts", "nuts"):
        pictures(root / cls / "good", 6)
        pictures(root / cls / "bent", 2)
        pictures(root / cls / "rust", 1)
    write_tree(root, classes=("dots",))
    _, samples = read(root)
    assert counts(samples) == {"bolts": Counts(4, 2, 3), "dots": Counts(5, 2, 3), "nuts": Counts(4, 2, 3)}


@pytest.mark.parametrize("truth", ["ground_truth", "masks", "GT"])
def test_masks_beside_good_and_bad(root: Path, truth: str) -> None:
    pictures(root / "good", 4)
    pictures(root / "bad", 2)
    masks(root / truth / "bad", 2)
    _, samples = read(root)
    assert [len(sample.masks) for sample in samples if sample.label] == [1, 1]
    for path in (root / truth / "bad").iterdir():
        path.rename(root / truth / path.name)
    (root / truth / "bad").rmdir()
    _, samples = read(root)
    assert [len(sample.masks) for sample in samples if sample.label] == [1, 1], "of the only kind of defect"
    next((root / truth).iterdir()).unlink()
    with pytest.raises(DatasetError, match="anomalous, but without a mask"):
        Folder(root).samples()


def test_what_is_held_depends_on_names_alone(root: Path, tmp_path: Path) -> None:
    pictures(root / "good", 20)
    pictures(root / "bad", 1)
    held = {sample.id for sample in read(root)[1] if sample.split == "test" and not sample.label}
    assert len(held) == 6
    again = tmp_path / "other/washers"
    for number in reversed(range(20)):
        picture(again / f"good/{number:03}.jpg")
    pictures(again / "bad", 5)
    pictures(tmp_path / "other/more/good", 3)
    assert {sample.id for sample in read(again)[1] if sample.split == "test" and not sample.label} == held


@pytest.mark.parametrize(("count", "held"), [(2, 1), (3, 1), (4, 1), (5, 2), (10, 3), (200, 60)])
def test_how_many_are_held(count: int, held: int) -> None:
    samples = [Sample(f"{number}", "c", "train", 0, "good", Path("x")) for number in range(count)]
    found = _held.hold(samples)
    assert [sample.id for sample in found] == [sample.id for sample in samples]
    assert sum(sample.split == "test" for sample in found) == held


def test_one_normal_image_is_too_few(root: Path) -> None:
    pictures(root / "good", 1)
    pictures(root / "bad", 3)
    with pytest.raises(DatasetError, match=r"a single normal image\. Expected at least 2"):
        Folder(Folder.locate(root)).samples()


@pytest.mark.parametrize("count", [1, 2, 5])
@pytest.mark.parametrize("stray", ["test", "Testing", "validation"])
def test_a_stray_split_beside_classes_is_no_class_and_is_told(root: Path, stray: str, count: int) -> None:
    for cls in ("bolts", "nuts"):
        pictures(root / cls / "good", 10)
        pictures(root / cls / "bad", 3)
    pictures(root / stray / "good", count)
    dataset = Folder(Folder.locate(root))
    assert counts(dataset.samples()) == {"bolts": Counts(7, 3, 3), "nuts": Counts(7, 3, 3)}
    (told,) = verify(Folder(root)).findings
    assert dataset.remarks == (told,) and (told.where, told.stops) == (f"{stray}/good/000.png", False)
    what = "not read" if count == 1 else f"the first of {count} pictures that are not read"
    assert f"/{stray}/good/000.png: {what}, in no class" in told.text


def test_a_class_may_be_called_as_a_split_is(root: Path, write_tree: Callable[..., Path]) -> None:
    pictures(root / "nuts/good", 10)
    write_tree(root, classes=("test",))
    dataset = Folder(Folder.locate(root))
    assert sorted(counts(dataset.samples())) == ["nuts", "test"] and dataset.remarks == ()


# ---------------------------------------------------------------------------------------------------- normals alone
@pytest.mark.parametrize("place", [".", "good"])
def test_normal_pictures_alone(root: Path, place: str) -> None:
    pictures(root / place, 5, ".jpg")
    dataset, samples = read(root)
    assert counts(samples) == {"washers": Counts(3, 2, 0)}
    assert [note for _, note in dataset.notes][1] == "no anomalous image: images are scored, but no metric is defined"


def test_pictures_below_normal_ones_are_told(root: Path) -> None:
    pictures(root, 5)
    pictures(root / "more/deep", 2)
    dataset = Folder(Folder.locate(root))
    assert counts(dataset.samples()) == {"washers": Counts(3, 2, 0)}
    assert [remark.kind for remark in dataset.remarks] == ["unread"]


def test_folders_that_say_nothing_of_their_images_are_no_dataset(root: Path) -> None:
    for name in ("a", "b"):
        pictures(root / name, 3)
    with pytest.raises(DatasetError, match=r"found folders a, b\. Expected good/ and bad/, or train/ and test/"):
        Folder.locate(root)


# ---------------------------------------------------------------------------------------------- train and test trees
@pytest.mark.parametrize(("train", "test"), [("Train", "Test"), ("TRAIN", "TEST"), ("training", "testing")])
def test_splits_in_any_case(root: Path, train: str, test: str) -> None:
    pictures(root / train / "Good", 4)
    pictures(root / test / "GOOD", 2)
    pictures(root / test / "Cut", 2)
    masks(root / "Ground_Truth/Cut", 2)
    _, samples = read(root)
    assert counts(samples) == {"washers": Counts(4, 2, 2)}
    assert {sample.id for sample in samples if sample.label} == {"washers/test/Cut/000", "washers/test/Cut/001"}
    assert all(len(sample.masks) == sample.label for sample in samples)


@pytest.mark.parametrize("below", [".", "bolts"])
def test_training_images_directly_in_their_folder(root: Path, below: str) -> None:
    pictures(root / below / "Train", 8)
    pictures(root / below / "test/good", 2)
    pictures(root / below / "test/bad", 2)
    _, samples = read(root)
    cls = "washers" if below == "." else "bolts"
    assert counts(samples) == {cls: Counts(8, 2, 2)}
    assert f"{cls}/train/good/007" in {sample.id for sample in samples}


def test_test_images_directly_in_their_folder_are_told(root: Path) -> None:
    pictures(root / "train", 4)
    pictures(root / "test/good", 2)
    pictures(root / "test/bad", 2)
    pictures(root / "test", 3)
    dataset = Folder(Folder.locate(root))
    assert counts(dataset.samples()) == {"washers": Counts(4, 2, 2)}
    assert [remark.kind for remark in dataset.remarks] == ["unread"]


def test_a_split_of_ones_own_must_be_whole(root: Path) -> None:
    pictures(root / "train/good", 4)
    pictures(root / "test/bad", 2)
    with pytest.raises(DatasetError, match="Expected normal test images"):
        Folder(Folder.locate(root)).samples()


# ----------------------------------------------------------------------------------------------------------- tables
@pytest.mark.parametrize("titles", ["filename,label", "File,Label", "image,class", "path,verdict"])
@pytest.mark.parametrize(("good", "bad"), [("good", "bad"), ("OK", "NG"), ("normal", "anomaly"), ("0", "1")])
def test_a_table_of_names_and_labels(root: Path, titles: str, good: str, bad: str) -> None:
    pictures(root / "shots", 8)
    rows = [f"shots/{number:03}.png,{good if number < 6 else bad}" for number in range(8)]
    table(root / "labels.csv", titles, *rows)
    dataset, samples = read(root)
    assert counts(samples) == {"washers": Counts(4, 2, 2)}
    assert "washers/shots/003" in {sample.id for sample in samples}
    assert len(dataset.notes) == 1 and "2 of 6 (30%" in dataset.notes[0][1]


def test_a_table_of_masks_splits_and_products(root: Path) -> None:
    pictures(root, 10)
    masks(root / "truth", 10)
    rows = ["000.png,nuts,train,good,", "001.png,nuts,train,ok,", "002.png,nuts,val,good,", "003.png,nuts,test,0,"]
    rows += ["004.png,nuts,test,ng,truth/004_mask.png", "005.png,bolts,Train,good,", "006.png,bolts,Test,good,"]
    rows += ["007.png,bolts,test,defect,truth/007_mask.png"]
    table(root / "list.csv", "filename,product,split,label,mask", *rows)
    dataset, samples = read(root)
    assert counts(samples) == {"bolts": Counts(1, 1, 1), "nuts": Counts(2, 1, 1, 1)}
    assert dataset.notes == () and [len(sample.masks) for sample in samples if sample.label] == [1, 1]
    assert "nuts/train/000" in {sample.id for sample in samples}


def test_titles_that_differ_in_case_alone_are_refused(root: Path) -> None:
    pictures(root, 4)
    rows = ["000.png,good,bad", "001.png,good,bad", "002.png,good,good", "003.png,bad,good"]
    table(root / "labels.csv", "filename,label,Label", *rows)
    with pytest.raises(DatasetError, match=r"labels.csv: columns 'label', 'Label' differ in case alone"):
        Folder(Folder.locate(root)).samples()


def test_bare_names_are_found_in_folders_below(root: Path) -> None:
    pictures(root / "a", 3)
    picture(root / "b/x.png")
    table(root / "labels.csv", "filename,label", "000.png,good", "001.png,good", "002.png,good", "x.png,bad")
    assert counts(read(root)[1]) == {"washers": Counts(2, 1, 1)}
    picture(root / "b/001.png")
    with pytest.raises(DatasetError, match=r"labels.csv:3: image '001.png' is in several folders below"):
        Folder(root).samples()


def test_a_table_decides_over_folders_and_other_tables_do_not(root: Path, write_tree: Callable[..., Path]) -> None:
    write_tree(root, classes=("dots",))
    table(root / "scores.csv", "image,score", "a,0.5")
    table(root / "notes.csv", "who,when", "me,now")
    assert list(counts(read(root)[1])) == ["dots"]
    rows = [f"dots/test/good/00{number}.png,good" for number in range(2)]
    table(root / "labels.csv", "filename,label", *rows, "dots/test/square/000.png,bad")
    assert counts(Folder(Folder.locate(root)).samples()) == {"washers": Counts(1, 1, 1)}
    table(root / "more.csv", "filename,label", *rows)
    with pytest.raises(DatasetError, match=r"labels.csv and more.csv list images. Expected one such table"):
        Folder(root).samples()


@pytest.mark.parametrize(
    ("row", "told"),
    [
        ("000.png,gud,", "label 'gud'. Expected 0, good, nominal, normal, ok, pass of a normal image"),
        ("000.png,,", "label ''"),
        ("000.png,bad,train", "anomalous, yet to be trained on"),
        ("000.png,good,later", "split 'later'. Expected train, val or test"),
        ("gone.png,good,train", "is not there"),
        ("../000.png,good,train", "points outside its folder"),
        ("000.png,good", "2 fields. Expected 3"),
    ],
)
def test_lines_that_cannot_be_used_are_named(root: Path, row: str, told: str) -> None:
    pictures(root, 4)
    rows = ["001.png,good,train", "002.png,good,test", "003.png,bad,test"]
    table(root / "labels.csv", "filename,label,split", *rows, row)
    with pytest.raises(DatasetError) as caught:
        Folder(Folder.locate(root)).samples()
    assert "labels.csv:5" in str(caught.value) and told in str(caught.value)


def test_visas_columns_take_other_words_too(root: Path) -> None:
    pictures(root, 3)
    rows = ["a,train,Good,000.png,", "a,test,ok,001.png,", "a,test,Defect,002.png,"]
    table(root / "split_csv/1cls.csv", "object,split,label,image,mask", *rows)
    assert counts(read(root)[1]) == {"a": Counts(1, 1, 1)}


# ----------------------------------------------------------------------------------------------------- whole commands
def flat(root: Path) -> None:
    pictures(root / "good", 10)
    pictures(root / "bad", 3)


def by_product(root: Path) -> None:
    flat(root / "bolts")
    flat(root / "nuts")


def trees(root: Path) -> None:
    pictures(root / "Train", 5)
    pictures(root / "Test/ok", 3)
    pictures(root / "Test/ng", 3)
    masks(root / "Masks/ng", 3, ".png")


def listed(root: Path) -> None:
    pictures(root / "all", 12)
    table(root / "x.csv", "filename,label", *(f"{n:03}.png,{'ok' if n < 9 else 'ng'}" for n in range(12)))


def alone(root: Path) -> None:
    pictures(root, 8)


@pytest.mark.parametrize("write", [flat, by_product, trees, listed, alone])
def test_every_layout_runs_from_verify_to_a_report(
    bench: Callable, root: Path, write: Callable[[Path], None], small: Callable[..., list[str]]
) -> None:
    write(root)
    done = bench("data", "verify", "folder", "--root", str(root))
    assert done.returncode == 0 and "clean" in done.stdout, done.stdout
    assert ("are held for testing" in done.stdout) == (write is not trees)
    done = bench(*small(), "--data-root", str(root), "--results", "runs")
    assert done.returncode == 0, done.stderr
    assert ("are held for testing" in " ".join(done.stdout.split())) == (write is not trees)
    done = bench("report", "--results", "runs", "--format", "markdown", "--out", "report")
    assert done.returncode == 0, done.stderr
    told = " ".join(path.read_text() for path in Path("report").rglob("*.md"))
    # without a score there is no table of scores to put a note under
    assert told and ("are held for testing" in told) == (write not in (trees, alone))


# -------------------------------------------------------------------------------------------------------------- names
def test_own_datasets_carry_the_names_of_their_folders_or_ones_that_are_given(
    bench: Callable, tmp_path: Path, small: Callable[..., list[str]]
) -> None:
    for name in ("washers", "bolts_2026", "shots"):
        flat(tmp_path / name)
    for options in (
        [*small("./washers")],
        [*small("folder"), "--data-root", "bolts=bolts_2026", "--data-root", "nails=shots"],
    ):
        done = bench(*options, "--results", "runs")
        assert done.returncode == 0, done.stderr
    assert {path.name for path in Path("runs").iterdir()} == {"washers", "bolts", "nails"}
    assert "dinomaly on bolts" in done.stdout
    done = bench("report", "--results", "runs", "--format", "markdown", "--out", "report")
    told = " ".join(path.read_text() for path in Path("report").rglob("*.md"))
    assert done.returncode == 0 and all(name in told for name in ("washers", "bolts", "nails"))


def test_folders_whose_names_cannot_be_datasets_are_refused(bench: Callable, tmp_path: Path) -> None:
    for name in ("mvtec", "a;b"):
        flat(tmp_path / "x" / name)
    for given, told in (
        ("x/mvtec", "its name is that of a dataset of bench's"),
        ("x/a;b", "its name cannot be a dataset's"),
        ("./gone", "no such folder"),
    ):
        done = bench("run", "--methods", "knn", "--datasets", given)
        assert done.returncode == 2 and told in done.stderr, done.stderr
    done = bench("run", "--methods", "knn", "--datasets", "mvtec", "--data-root", "mvtek=x")
    assert done.returncode == 2 and "Did you mean 'mvtec'?" in done.stderr

"""Own images listed in split_csv/1cls.csv, and what such a file may not say."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from layouts import mask, picture, write_split

from bench.api import Counts, Sample
from bench.curate.verify import verify
from bench.datasets.folder import Folder
from bench.errors import DatasetError

ROWS = [
    ("nuts", "train", "normal", "shelf/a.jpg", ""),
    ("nuts", "train", "normal", "shelf/b.jpg", ""),
    ("nuts", "test", "normal", "shelf/c.jpg", ""),
    ("nuts", "test", "anomaly", "shelf/d.jpg", "shelf/d_label.bmp"),
    ("nuts", "test", "anomaly", "other/d.jpg", "other/d_label.bmp"),
]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "root"
    for _, _, _, image, truth in ROWS:
        picture(folder / image)
        if truth:
            mask(folder / truth)
    write_split(folder, ROWS)
    return folder


def listed(root: Path, *rows: tuple[str, ...]) -> None:
    write_split(root, [*ROWS, *rows])


def refuses(root: Path, *parts: str) -> None:
    with pytest.raises(DatasetError) as caught:
        Folder(Folder.locate(root)).samples()
    for part in (*parts, "split_csv/1cls.csv", f"bench data verify folder --root {root}"):
        assert part in str(caught.value)


def test_files_in_any_folders_are_read_as_the_list_says(root: Path) -> None:
    samples = Folder(Folder.locate(root)).samples()
    assert samples == (
        Sample(
            "nuts/test/other/d",
            "nuts",
            "test",
            1,
            "anomaly",
            root / "other/d.jpg",
            masks=(root / "other/d_label.bmp",),
        ),
        Sample("nuts/test/shelf/c", "nuts", "test", 0, "good", root / "shelf/c.jpg"),
        Sample(
            "nuts/test/shelf/d",
            "nuts",
            "test",
            1,
            "anomaly",
            root / "shelf/d.jpg",
            masks=(root / "shelf/d_label.bmp",),
        ),
        Sample("nuts/train/shelf/a", "nuts", "train", 0, "good", root / "shelf/a.jpg"),
        Sample("nuts/train/shelf/b", "nuts", "train", 0, "good", root / "shelf/b.jpg"),
    )


def test_a_byte_order_mark_blank_lines_and_more_columns_do_no_harm(root: Path) -> None:
    before = Folder(root).samples()
    write_split(root, [("", *row) for row in ROWS], header="note,object,split,label,image,mask")
    path = root / "split_csv/1cls.csv"
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes() + b"\r\n\r\n")
    assert Folder(root).samples() == before


def test_a_class_without_any_mask_is_scored_by_image(root: Path) -> None:
    write_split(root, [(*row[:4], "") for row in ROWS])
    assert not any(sample.masks for sample in Folder(root).samples())
    write_split(root, [*ROWS[:4], (*ROWS[4][:4], "")])
    refuses(root, "other/d.jpg is anomalous, but no mask is named")


def test_a_missing_mask_is_found_and_the_image_kept(root: Path) -> None:
    (root / "other/d_label.bmp").unlink()
    refuses(root, str(root / "other/d.jpg"), str(root / "other/d_label.bmp"))
    samples, findings = Folder(root).inspect()
    assert [finding.kind for finding in findings] == ["missing-mask"]
    assert len(samples) == 5


@pytest.mark.parametrize(
    ("image", "told"),
    [
        ("../secret.jpg", "points outside its folder"),
        ("shelf/../../secret.jpg", "points outside its folder"),
        ("/etc/secret.jpg", "points outside its folder"),
        ("C:/secret.jpg", "points outside its folder"),
        ("shelf\\a.jpg", "is no usable path"),
        ("", "is no usable path"),
        (".", "is no usable path"),
        ("shelf/\x1b[2Ja.jpg", "is no usable path"),
        ("split_csv/1cls.csv", "is no image"),
        ("folder.jpg", "is no file"),
        ("shelf/gone.jpg", "is not there"),
        ("shelf/a.jpg/b.jpg", "is not there"),
        ("x" * 300 + ".jpg", "File name too long"),
        ("shelf/a.jpg", "was named in split_csv/1cls.csv:2 already"),
        ("./shelf//a.jpg", "was named in split_csv/1cls.csv:2 already"),
        ("shelf/d_label.bmp", "was named in split_csv/1cls.csv:5 already"),
        ("shelf/a.png", "differs only in its extension from the image in split_csv/1cls.csv:2"),
    ],
)
def test_paths_that_may_not_be_read_are_refused(root: Path, image: str, told: str) -> None:
    picture(root.parent / "secret.jpg")
    picture(root / "shelf/a.png")
    (root / "folder.jpg").mkdir()
    listed(root, ("nuts", "train", "normal", image, ""))
    refuses(root, "1cls.csv:7", told)
    samples, findings = Folder(root).inspect()
    assert len(findings) == 1
    assert len(samples) == 5
    assert [finding.text for finding in verify(Folder(root)).findings] == [findings[0].text]


@pytest.mark.parametrize("link", ["file", "folder"])
def test_links_of_ones_own_may_lead_anywhere(root: Path, link: str) -> None:
    elsewhere = picture(root.parent / "elsewhere/x.jpg")
    if link == "file":
        (root / "shelf/x.jpg").symlink_to(elsewhere)
        listed(root, ("nuts", "train", "normal", "shelf/x.jpg", ""))
    else:
        (root / "way").symlink_to(elsewhere.parent)
        listed(root, ("nuts", "train", "normal", "way/x.jpg", ""))
    dataset = Folder(root)
    assert len(dataset.samples()) == 6 and verify(dataset).findings == ()


@pytest.mark.parametrize(
    ("target", "told"),
    [
        ("/dev/zero", "is no file"),
        ("gone.jpg", "is not there"),
        (".", "is no file"),
        ("x.jpg", "Too many levels of symbolic links"),
    ],
)
def test_links_that_lead_to_no_file_are_refused(root: Path, target: str, told: str) -> None:
    (root / "shelf/x.jpg").symlink_to(target)
    listed(root, ("nuts", "train", "normal", "shelf/x.jpg", ""))
    refuses(root, "1cls.csv:7", told)


def test_a_mask_may_be_a_link_but_no_name_leads_out(root: Path) -> None:
    (root / "other/link.png").symlink_to(mask(root.parent / "elsewhere.png"))
    write_split(root, [*ROWS[:4], (*ROWS[4][:4], "other/link.png")])
    assert len(Folder(root).samples()) == 5
    write_split(root, [*ROWS[:4], (*ROWS[4][:4], "../elsewhere.png")])
    refuses(root, "mask '../elsewhere.png' points outside its folder")


def test_the_root_itself_may_be_a_link(root: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(root)
    assert [s.id for s in Folder(tmp_path / "link").samples()] == [s.id for s in Folder(root).samples()]


def test_a_pipe_is_no_image_and_does_not_block(root: Path) -> None:
    os.mkfifo(root / "pipe.jpg")
    listed(root, ("nuts", "train", "normal", "pipe.jpg", ""))
    refuses(root, "'pipe.jpg' is no file")


def test_one_mask_for_two_images_is_refused(root: Path) -> None:
    write_split(root, [*ROWS[:4], (*ROWS[4][:4], ROWS[3][4])])
    refuses(root, "mask 'shelf/d_label.bmp' was named in split_csv/1cls.csv:5 already")


def test_one_image_in_two_classes_is_refused(root: Path) -> None:
    other = [("bolts", *row[1:]) for row in ROWS]
    write_split(root, [*ROWS, *other])
    refuses(root, "'shelf/a.jpg' was named in")


@pytest.mark.parametrize(
    ("row", "told"),
    [
        (("nuts", "train", "normal", "shelf/x.jpg"), "4 fields. Expected 5"),
        (("nuts", "train", "normal", "shelf/x.jpg", "", ""), "6 fields. Expected 5"),
        (("nuts", "valid", "normal", "shelf/x.jpg", ""), "split 'valid'. Expected train or test"),
        (("nuts", "train", "norml", "shelf/x.jpg", ""), "label 'norml'. Expected normal or anomaly"),
        (("nuts", "train", "anomaly", "shelf/x.jpg", ""), "yet to be trained on"),
        (("../nuts", "train", "normal", "shelf/x.jpg", ""), "'../nuts' is no usable class name"),
        (("", "train", "normal", "shelf/x.jpg", ""), "is no usable class name"),
        (("nuts", "train", "normal", '"shelf/x.jpg', ""), "unexpected end of data"),
        (("nuts", "train", "normal", "shelf/x.jpg\0", ""), "a NUL character"),
    ],
)
def test_broken_lines_are_refused_and_named(root: Path, row: tuple[str, ...], told: str) -> None:
    picture(root / "shelf/x.jpg")
    listed(root, row)
    refuses(root, "split_csv/1cls.csv:7", told)


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"", "an empty table. Expected a header with the columns object, split, label, image, mask"),
        (b"object,split,label,image\n", "no column mask"),
        (b"object;split;label;image;mask\n", "fields parted by ';'"),
        (b"object,split,label,image,mask,\n", "column 6 of 6 has no title"),
        (b"object,split,label,image,mask,mask\n", "column 'mask' is named 2 times"),
        (b"object,split,label,image,mask\n", "no image of any class is here"),
        (
            b"object,split,label,image,mask\nn\xfcsse,train,normal,a.jpg,\n",
            "1cls.csv:2: byte 1 of the line is not UTF-8",
        ),
        ("object,split,label,image,mask\n".encode("utf-16"), "byte 0 is not UTF-8"),
        (b"object,split,label,image,mask\nnuts,train,normal," + b"x" * 200_000 + b",\n", "field larger than"),
    ],
)
def test_broken_files_are_refused_and_named(root: Path, content: bytes, told: str) -> None:
    (root / "split_csv/1cls.csv").write_bytes(content)
    refuses(root, told)


@pytest.mark.parametrize("lost", [0, 2, 3])
def test_a_class_that_cannot_be_trained_or_scored_is_refused(root: Path, lost: int) -> None:
    told = {0: "normal images to train on", 2: "normal test images", 3: "no anomalous image"}[lost]
    write_split(root, [row for row in ROWS if row[1:3] != ROWS[lost][1:3]])
    with pytest.raises(DatasetError, match=rf"class 'nuts': .*{told}"):
        Folder(root).samples()


@pytest.mark.parametrize(
    ("name", "cls", "counts"),
    [
        ("KolektorSDD", "electrical_commutator", Counts(104, 70, 25)),
        ("magnetic_tile", "magnetic_tile", Counts(175, 75, 257)),
    ],
)
def test_real_listed_images_are_clean(shared: Path, name: str, cls: str, counts: Counts) -> None:
    report = verify(Folder(Folder.locate(shared / "data" / name)))
    assert report.seen == {cls: counts}
    assert report.findings == ()

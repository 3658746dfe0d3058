"""Tables that people hand in: what is taken, what is refused, and where that is."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from bench.loading import tables
from bench.loading.tables import CsvRow, TableError, read_table


def read(path: Path, content: bytes | str) -> list[CsvRow]:
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return list(read_table(path, ("id", "score")))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "table.csv"


ROWS = [CsvRow(2, {"id": "a", "score": "1"}), CsvRow(3, {"id": "b", "score": "2"})]


@pytest.mark.parametrize(
    "content",
    [
        "id,score\na,1\nb,2\n",
        "id,score\na,1\nb,2",
        "id,score\r\na,1\r\nb,2\r\n",
        "id,score\ra,1\rb,2\r",
        b"\xef\xbb\xbfid,score\na,1\nb,2\n",
        ' id , score\n"a",1\nb,"2"\n',
        '"id","score"\na,1\nb,2\n\n\r\n',
    ],
)
def test_the_same_table_however_it_was_saved(path: Path, content: bytes | str) -> None:
    assert read(path, content) == ROWS


def test_columns_may_come_in_any_order_and_with_others(path: Path) -> None:
    (row,) = read(path, 'note,score,id\n"of 3, the last",1,"a ""b"""\n')
    assert row.cells == {"note": "of 3, the last", "score": "1", "id": 'a "b"'}


def test_empty_lines_are_passed_over_and_counted(path: Path) -> None:
    assert [row.line for row in read(path, "\n\nid,score\n\na,1\n\n\nb,2\n")] == [5, 8]


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        ("b,0,5", "3 fields. Expected 2, as in the header: a decimal comma?"),
        ("b,2,", "3 fields. Expected 2"),
        ("b", "1 field. Expected 2, as in the header"),
        (" ", "1 field. Expected 2"),
        ("b;2", "1 field. Expected 2"),
        ("b\t2", "1 field. Expected 2"),
        ('"b,2', "unexpected end of data. Expected comma-separated fields, a quoted one closed on its line"),
        ('"b"c,2', "',' expected after '\"'"),
        ("b\0,2", "a NUL character"),
        ("x" * 200_000 + ",2", "field larger than field limit"),
        (b"\xfc,2", "byte 0 of the line is not UTF-8"),
        (b"\xed\xa0\x80,2", "byte 0 of the line is not UTF-8"),
    ],
)
def test_a_line_that_cannot_be_used_is_named_and_the_others_are_read(path: Path, line: bytes | str, fault: str) -> None:
    strange = line if isinstance(line, bytes) else line.encode()
    found = read(path, b"id,score\na,1\n" + strange + b"\nc,3\n")
    assert [row.line for row in found] == [2, 3, 4]
    assert fault in found[1].fault and not found[1].cells
    assert not found[0].fault and found[2].cells == {"id": "c", "score": "3"}


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("", "an empty table. Expected a header with the columns id, score"),
        ("\n\n", "an empty table"),
        ("a,b\n1,2\n", "no column id, score but 'a', 'b'. Expected a header"),
        ("a,1\nb,2\n", "no column id, score but 'a', '1'"),
        ("id;score\na;1\n", "no column id, score but 'id;score', fields parted by ';'"),
        ("id\tscore\na\t1\n", r"fields parted by '\t'"),
        ("Id,Score\na,1\n", "no column id, score but 'Id', 'Score'"),
        ("id,score,score\na,1,2\n", "column 'score' is named 2 times"),
        ("id,score, id\na,1,2\n", "column 'id' is named 2 times"),
        ("id,score,note,note\na,1,x,y\n", "column 'note' is named 2 times"),
        ("id,score,\na,0,5\n", "column 3 of 3 has no title"),
        (",id,score\n0,a,1\n", "column 1 of 3 has no title. Expected a header with the columns id, score (pandas:"),
        ('"id,score\na,1\n', "the header: unexpected end of data"),
        ("id,sc\0re\na,1\n", "the header: a NUL character"),
        ("id,score\na,1\n".encode("utf-16"), "byte 0 is not UTF-8, but UTF-16's mark"),
        ("id,scóre\n".encode("latin-1"), "the header: byte 5 of the line is not UTF-8"),
    ],
)
def test_a_header_that_does_not_say_which_column_is_which_is_refused(
    path: Path, content: bytes | str, told: str
) -> None:
    with pytest.raises(TableError) as caught:
        read(path, content)
    assert told in str(caught.value)


def test_what_is_no_file_or_too_large_is_refused_before_it_is_read(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(TableError, match="No such file"):
        list(read_table(path, ("id",)))
    with pytest.raises(TableError, match="Is a directory"):
        list(read_table(path.parent, ("id",)))
    os.mkfifo(path)
    with pytest.raises(TableError, match="a named pipe"):
        list(read_table(path, ("id",)))
    path.unlink()
    monkeypatch.setattr(tables, "MAX_BYTES", 20)
    with pytest.raises(TableError, match=r"21 bytes\. Expected at most 20"):
        read(path, "id,score\n" + "a,1\n" * 3)

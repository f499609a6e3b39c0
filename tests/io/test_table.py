"""Reading tables: what is taken, and what is refused in one message."""

from pathlib import Path

import pytest

from scaleout.errors import MeasurementError
from scaleout.validation import Row, take_rows

COLUMNS = ("chip", "m", "time_us")


def take(row: Row) -> tuple[int, str, int, float]:
    return row.line, row.text("chip"), row.whole("m"), row.number("time_us")


def read(folder: Path, data: bytes) -> list[tuple[int, str, int, float]]:
    path = folder / "table.csv"
    path.write_bytes(data)
    return take_rows(path, COLUMNS, take)


def test_rows_come_with_their_lines_in_the_order_of_the_file(tmp_path: Path) -> None:
    text = 'chip,m,time_us,source\n"a, b",16,1.5,"over\ntwo lines"\n\nc,1e3,.5e-3,x\n'
    assert read(tmp_path, text.encode()) == [(2, "a, b", 16, 1.5), (5, "c", 1000, 0.0005)]


def test_a_byte_order_mark_and_windows_line_ends_are_taken(tmp_path: Path) -> None:
    assert read(tmp_path, b"\xef\xbb\xbfchip,m,time_us\r\na,1,2\r\n") == [(2, "a", 1, 2.0)]


def test_columns_may_come_in_any_order_and_number(tmp_path: Path) -> None:
    assert read(tmp_path, b"time_us,note,m,chip\n2,,1,a\n") == [(2, "a", 1, 2.0)]


MALFORMED = {
    "missing column": (b"chip,m,time\na,1,2\n", "line 1: column 'time_us' is missing; did you mean 'time'?"),
    "column twice": (b"chip,m,m,time_us\na,1,1,2\n", "line 1: column 'm' is there twice"),
    "text in a number": (b"chip,m,time_us\na,1,fast\n", "line 2, column 'time_us': 'fast' is not accepted; expected a"),
    "negative": (b"chip,m,time_us\na,1,-2\n", "line 2, column 'time_us': '-2' is not accepted"),
    "zero": (b"chip,m,time_us\na,1,0\n", "line 2, column 'time_us': '0' is not accepted; expected a number above 0"),
    "nan": (b"chip,m,time_us\na,1,nan\n", "line 2, column 'time_us': 'nan' is not accepted"),
    "infinite": (b"chip,m,time_us\na,1,inf\n", "line 2, column 'time_us': 'inf' is not accepted"),
    "beyond floats": (b"chip,m,time_us\na,1,1e999\n", "line 2, column 'time_us': '1e999' is not accepted"),
    "digits of another script": ("chip,m,time_us\na,1,٣\n".encode(), "line 2, column 'time_us'"),
    "underscores": (b"chip,m,time_us\na,1_0,2\n", "line 2, column 'm': '1_0' is not accepted"),
    "half": (b"chip,m,time_us\na,1.5,2\n", "line 2, column 'm': '1.5' is not accepted; expected a whole number"),
    "empty cell": (b"chip,m,time_us\n,1,2\n", "line 2, column 'chip': is empty"),
    "too many cells": (b"chip,m,time_us\na,1,2,3\n", "line 2: 4 cells; expected 3"),
    "too few cells": (b"chip,m,time_us\na,1\n", "line 2: 2 cells; expected 3"),
    "not UTF-8": (b"chip,m,time_us\n\xff\xfe,1,2\n", "line 2: not UTF-8 text at byte 0"),
    "zero byte": (b"chip,m,time_us\na\x00,1,2\n", "line 2: holds a zero byte"),
    "binary": (bytes(range(256)) * 100, "expected CSV"),
    "open quote": (b'chip,m,time_us\n"a,1,2\n', "unexpected end of data"),
    "one endless line": (b"chip,m,time_us" + b"x" * 200_000, "line 1: longer than 100,000 characters"),
    "one endless cell": (b'chip,m,time_us\n"' + b"x\n" * 100_000 + b'",1,2\n', "field larger than field limit"),
    "empty": (b"", "is empty; expected a header with the columns chip, m, time_us"),
    "header alone": (b"chip,m,time_us\n", "has a header, but no rows"),
}


@pytest.mark.parametrize("name", MALFORMED)
def test_a_malformed_table_is_refused_in_words(tmp_path: Path, name: str) -> None:
    data, words = MALFORMED[name]
    with pytest.raises(MeasurementError) as caught:
        read(tmp_path, data)
    message = str(caught.value)
    assert words in message
    assert all(line.startswith(f"{tmp_path / 'table.csv'}: ") for line in message.splitlines())
    assert len(message) < 2000


def test_what_is_no_readable_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(MeasurementError, match="Is a directory"):
        take_rows(tmp_path, COLUMNS, take)
    with pytest.raises(MeasurementError, match="No such file"):
        take_rows(tmp_path / "none.csv", COLUMNS, take)


def test_every_malformed_row_is_found_and_counted(tmp_path: Path) -> None:
    rows = [f"a,1,{'x' if line % 2 else 3}" for line in range(100)]
    with pytest.raises(MeasurementError) as caught:
        read(tmp_path, "\n".join(["chip,m,time_us", *rows]).encode())
    lines = str(caught.value).splitlines()
    assert len(lines) == 21
    assert "line 3, column 'time_us'" in lines[0]
    assert lines[-1].endswith("and 30 more malformed rows")


def test_a_word_outside_the_known_ones_names_the_near_one() -> None:
    with pytest.raises(
        MeasurementError, match=r"line 7, column 'op': 'rmsnrom' is not accepted; did you mean 'rmsnorm'"
    ):
        Row(7, {"op": "rmsnrom"}).text("op", ("rmsnorm", "rope"))


def test_optional_cells_may_be_empty_or_not_there_but_not_wrong() -> None:
    row = Row(2, {"tp": "", "pp": "4", "dp": "two"})
    assert row.optional("cp") == ""
    assert (row.optional_whole("tp"), row.optional_whole("cp"), row.optional_whole("pp")) == (None, None, 4)
    assert (row.optional_number("tp"), row.optional_number("pp")) == (None, 4.0)
    with pytest.raises(MeasurementError, match="'two' is not accepted"):
        row.optional_number("dp")


def test_progress_reaches_the_end_of_the_file(tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    path.write_text("chip,m,time_us\n" + "a,1,2\n" * 50)
    seen: list[tuple[int, int]] = []
    take_rows(path, COLUMNS, take, lambda done, size: seen.append((done, size)))
    assert len(seen) == 50
    assert seen[-1] == (path.stat().st_size, path.stat().st_size)

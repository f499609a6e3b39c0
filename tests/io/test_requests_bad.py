"""Files of requests that are refused: in words, with file, line, column and value."""

import gzip
import os
from pathlib import Path
from typing import Any

import pytest
from test_requests import FILES, write

from scaleout.errors import MeasurementError
from scaleout.io.requests import FORMS, Trace
from scaleout.io.requests.form import CsvForm

CSV = [form for form in FILES if isinstance(FORMS[form], CsvForm)]
JSON = [form for form in FILES if form not in CSV]
INPUTS = {
    "scaleout": "input_tokens", "azure": "ContextTokens", "mooncake": "input_length", "vidur": "num_prefill_tokens",
    "splitwise": "prompt_size", "llmservingsim": "input_toks", "burstgpt": "Request tokens", "bench": "input_toks",
}  # fmt: skip
ARRIVAL = {
    "scaleout": "arrival_s", "azure": "TIMESTAMP", "mooncake": "timestamp", "vidur": "arrived_at",
    "splitwise": "arrival_timestamp", "llmservingsim": "arrival_time_ns", "burstgpt": "Timestamp", "bench": "arrival_s",
}  # fmt: skip


def refused(path: Path, form: str | None = None) -> str:
    with pytest.raises(MeasurementError) as caught:
        list(Trace(path, form))
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    assert len(message) < 1200
    assert "\n" not in message
    return message


def with_cell(form: str, column: str, value: str) -> str:
    """The short file of a form, a cell of its last row changed."""
    text, _ = FILES[form]
    lines = text.splitlines()
    if form in JSON:
        before, after = lines[-1].split(f'"{column}": ')
        lines[-1] = (
            f'{before}"{column}": {value}{after[min(at for at in (after.find(","), after.find("}")) if at >= 0) :]}'
        )
    else:
        header, cells = lines[0].split(","), lines[-1].split(",")
        cells[header.index(column)] = value
        lines[-1] = ",".join(cells)
    return "\n".join(lines) + "\n"


def last(form: str) -> int:
    return len(FILES[form][0].splitlines())


NUMBERS = ["-1", "NaN", "Infinity", "-Infinity", "1e999", '"x"', "1.5", "1e12", "9" * 400, "true", "null", "[1]"]


@pytest.mark.parametrize("value", ["0", *NUMBERS])
@pytest.mark.parametrize("form", [form for form in FILES if form != "burstgpt"])
def test_counts_of_tokens_are_whole_and_above_0(tmp_path: Path, form: str, value: str) -> None:
    message = refused(write(tmp_path, with_cell(form, INPUTS[form], value.strip('"'[: form in CSV]))))
    assert f"line {last(form)}, " in message
    assert f"{INPUTS[form]!r}: " in message
    assert "expected a whole number from 1 to 1,000,000,000" in message or "expected a number" in message


@pytest.mark.parametrize("value", NUMBERS)
def test_counts_of_tokens_of_burstgpt_are_whole(tmp_path: Path, value: str) -> None:
    if value != "[1]":
        assert "column 'Response tokens': " in refused(write(tmp_path, with_cell("burstgpt", "Response tokens", value)))


@pytest.mark.parametrize("value", ["-0.5", "nan", "inf", "x", "", "1e30"])
@pytest.mark.parametrize("form", CSV)
def test_times_are_numbers_from_0(tmp_path: Path, form: str, value: str) -> None:
    message = refused(write(tmp_path, with_cell(form, ARRIVAL[form], value)))
    assert f"line {last(form)}, column {ARRIVAL[form]!r}" in message


@pytest.mark.parametrize("value", ["-0.5", "NaN", "Infinity", '"x"', "null", "1e30", "true"])
@pytest.mark.parametrize("form", JSON)
def test_times_in_json_are_numbers_from_0(tmp_path: Path, form: str, value: str) -> None:
    message = refused(write(tmp_path, with_cell(form, ARRIVAL[form], value)))
    assert f"line {last(form)}, key {ARRIVAL[form]!r}" in message


@pytest.mark.parametrize("form", FILES)
def test_rows_out_of_order_are_refused_with_both_lines(tmp_path: Path, form: str) -> None:
    lines = FILES[form][0].splitlines(keepends=True)
    head = [] if form in JSON else lines[:1]
    rows = lines[len(head) :]
    message = refused(write(tmp_path, "".join([*head, *reversed(rows)])))
    first, second = len(head) + 1, len(head) + len(rows)
    assert f"line {second}: arrives at " in message
    assert f" s of line {first}; expected rows in the order of their arrival" in message


@pytest.mark.parametrize("form", CSV)
def test_a_last_line_that_is_cut_off_is_refused(tmp_path: Path, form: str) -> None:
    text = FILES[form][0]
    cut = text[: text.rstrip().rfind(",")]
    assert f"line {last(form)}: " in refused(write(tmp_path, cut))


@pytest.mark.parametrize("form", JSON)
def test_a_last_object_that_is_cut_off_is_refused(tmp_path: Path, form: str) -> None:
    text = FILES[form][0]
    for cut in (text[:-2], text[:-20], text[: text.rfind("{") + 1]):
        message = refused(write(tmp_path, cut))
        assert f"line {last(form)}: is no JSON object" in message
        assert "the file may be cut off here" in message


@pytest.mark.parametrize("form", FILES)
def test_a_missing_column_is_named_with_what_is_near(tmp_path: Path, form: str) -> None:
    text, column = FILES[form][0], INPUTS[form]
    path = write(tmp_path, text.replace(column, f"{column}z"))
    assert f"{column!r}" in refused(path)
    assert f"did you mean '{column}z'" in refused(path)
    message = refused(path, form)
    assert f"{column!r}" in message
    assert "is missing" in message


@pytest.mark.parametrize("form", CSV)
def test_a_column_twice_and_rows_of_other_widths_are_refused(tmp_path: Path, form: str) -> None:
    head, *rows = FILES[form][0].splitlines()
    column = INPUTS[form]
    twice = "\n".join([f"{head},{column}", *(f"{row},1" for row in rows)])
    assert f"column {column!r} is there twice" in refused(write(tmp_path, twice))
    wide = "\n".join([head, rows[0], f"{rows[1]},1"])
    assert f"line 3: {head.count(',') + 2} cells; expected {head.count(',') + 1}" in refused(write(tmp_path, wide))


@pytest.mark.parametrize("form", CSV)
def test_a_header_alone_is_refused(tmp_path: Path, form: str) -> None:
    assert "has a header, but no rows" in refused(write(tmp_path, FILES[form][0].splitlines()[0]))


@pytest.mark.parametrize("form", FILES)
def test_a_file_of_another_form_than_is_said_is_refused(tmp_path: Path, form: str) -> None:
    for other in FILES:
        if other != form:
            assert ": line 1" in refused(write(tmp_path, FILES[other][0]), form)


@pytest.mark.parametrize("form", FILES)
def test_a_compressed_file_that_is_cut_off_or_none_is_refused(tmp_path: Path, form: str) -> None:
    packed = gzip.compress(FILES[form][0].encode())
    for data in (packed[:-9], packed[:12], packed[:-8] + b"x" * 8, b"no gzip"):
        assert "cannot be unpacked" in refused(write(tmp_path, data, "t.gz"))
    assert refused(write(tmp_path, b"", "t.gz"))


NO_FILES: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "is empty; expected a header or JSON objects"),
    "blank": (b"\n\n", "line 1: is blank"),
    "binary": (bytes(range(256)) * 100, "expected CSV with a header, or a JSON object a line"),
    "not UTF-8": (b"arrival_s,input_tokens,output_tokens\n\xff,1,1\n", "line 2: not UTF-8 text at byte 0"),
    "zero byte": (b"arrival_s,input_tokens,output_tokens\n0,1\x00,1\n", "line 2: holds a zero byte"),
    "open quote": (b'arrival_s,input_tokens,output_tokens\n"0,1,1\n', "line 2: unexpected end of data"),
    "endless cell": (
        b'arrival_s,input_tokens,output_tokens\n"' + b"x\n" * 100_000 + b'",1,2\n', "line 2: field larger than",
    ),
    "prose": (b"It was a dark and stormy night\n", "are of no form of requests; known are scaleout: arrival_s"),
    "a list": (b"[1, 2]\n", "line 1: is a JSON list; expected one object a line"),
    "pretty JSON": (b'{\n "timestamp": 1\n}\n', "line 1: is no JSON object: Expecting property name"),
    "deep": (b"[" * 100_000 + b"\n", "line 1: is no JSON object"),
    "many digits": (b'{"timestamp": ' + b"9" * 5000 + b"}\n", "line 1: is no JSON object: a number too long"),
    "other keys": (b'{"prompt": "x", "max_tokens": 3}\n', "are of no form of requests; known are mooncake: timestamp"),
    "many columns": (b",".join(b"c%d" % at for at in range(5000)) + b"\n", "'c7' and more are of no form"),
    "an unknown column of ours": (
        b"arrival_s,input_tokens,output_tokens,prioriti\n0,1,1,1\n",
        "unknown column 'prioriti'; did you mean 'priority'?",
    ),
    "a batch": (
        FILES["splitwise"][0].replace("3,1,2048", "3,2,2048").encode(), "line 3, column 'batch_size': '2' is not",
    ),
    "sessions of LLMServingSim": (
        b'{"session_id": "a", "arrival_time_ns": 0, "sub_requests": []}\n',
        "line 1, key 'sub_requests': sessions whose requests wait for each other are not read",
    ),
    "all failed": (
        b"Timestamp,Request tokens,Response tokens\n5,0,0\n", "has 1 requests that failed, and no other",
    ),
    "more blocks than tokens": (
        b'{"timestamp": 0, "input_length": 512, "output_length": 1, "hash_ids": [1, 2]}\n',
        "line 1, key 'hash_ids': 2 blocks of 512 tokens; 512 tokens have 1",
    ),
    "hashes in words": (
        b'{"timestamp": 0, "input_length": 512, "output_length": 1, "hash_ids": ["a"]}\n',
        "line 1, key 'hash_ids': 'a' is not accepted; expected whole numbers",
    ),
    "hashes no list": (
        b'{"timestamp": 0, "input_length": 512, "output_length": 1, "hash_ids": 3}\n',
        "expected a list of whole numbers",
    ),
    "a session of JSON": (
        b'{"timestamp": 0, "input_length": 5, "output_length": 1, "session_id": []}\n',
        "expected text or a whole number",
    ),
    "tokens that are none": (
        b'{"input_toks": 5, "output_toks": 1, "arrival_time_ns": 0, "input_tok_ids": [-1]}\n',
        "'input_tok_ids': -1 is not",
    ),
    "no date": (FILES["azure"][0].replace("2023-11-16", "2023-11-36").encode(), "expected a time such as 2023-11-16"),
}  # fmt: skip


@pytest.mark.parametrize("name", NO_FILES)
def test_what_is_no_file_of_requests_is_refused(tmp_path: Path, name: str) -> None:
    data, says = NO_FILES[name]
    assert says in refused(write(tmp_path, data))


def test_what_cannot_be_read_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "cannot be read: Is a directory" in refused(tmp_path)
    assert "cannot be read: No such file" in refused(tmp_path / "none")
    assert "cannot be read: No such file" in refused(tmp_path / "none.gz")
    path = write(tmp_path, FILES["azure"][0])

    def forbid(*args: Any, **kwargs: Any) -> Any:
        raise PermissionError(13, os.strerror(13))

    monkeypatch.setattr(Path, "open", forbid)
    assert "cannot be read: Permission denied" in refused(path)


def test_an_unknown_form_is_refused() -> None:
    with pytest.raises(MeasurementError, match="unknown form of requests 'azur'; did you mean 'azure'"):
        Trace("x", "azur")


def test_what_was_read_before_a_mistake_was_given_out(tmp_path: Path) -> None:
    stream = iter(Trace(write(tmp_path, FILES["vidur"][0] + "x,1,1\n")))
    assert [next(stream).line, next(stream).line] == [2, 3]
    with pytest.raises(MeasurementError, match="line 4, column 'arrived_at'"):
        next(stream)

"""Files of requests: every form as its makers write it, found by its columns."""

import gzip
import json
import sys
import tracemalloc
from itertools import islice
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scaleout.errors import MeasurementError, ScaleoutError, SpecError
from scaleout.io.requests import FORMS, Trace, write_trace
from scaleout.io.requests.form import session_number
from scaleout.serving.arrivals import requests
from scaleout.specs import FORMS as NAMES
from scaleout.specs import Requests, TraceRow

FILES: dict[str, tuple[str, list[TraceRow]]] = {
    "scaleout": (
        "arrival_s,input_tokens,output_tokens,priority,session\n0,10,2,,\n1.5,20,3,-1,17\n",
        [TraceRow(2, 0.0, 10, 2), TraceRow(3, 1.5, 20, 3, -1, 17)],
    ),
    "azure": (
        "TIMESTAMP,ContextTokens,GeneratedTokens\n"
        "2023-11-16 18:15:46.6805900,374,44\n2023-11-16 18:15:50.9951690,396,109\n",
        [TraceRow(2, 0.0, 374, 44), TraceRow(3, 4.314579, 396, 109)],
    ),
    "mooncake": (
        '{"timestamp": 27482, "input_length": 1421, "output_length": 52, "hash_ids": [46, 47, 2353]}\n'
        '{"timestamp": 30535, "input_length": 1024, "output_length": 26, "hash_ids": [46, 47]}\n',
        [
            TraceRow(1, 27.482, 1421, 52, blocks=(46, 47), block_tokens=512),
            TraceRow(2, 30.535, 1024, 26, blocks=(46, 47), block_tokens=512),
        ],
    ),
    "vidur": (
        "arrived_at,num_prefill_tokens,num_decode_tokens\n0.0,591,140\n0.125,547,248\n",
        [TraceRow(2, 0.0, 591, 140), TraceRow(3, 0.125, 547, 248)],
    ),
    "splitwise": (
        "request_id,request_type,application_id,arrival_timestamp,batch_size,prompt_size,token_size\n"
        "0,2,0,1,1,4096,32\n1,2,0,3,1,2048,8\n",
        [TraceRow(2, 1.0, 4096, 32), TraceRow(3, 3.0, 2048, 8)],
    ),
    "llmservingsim": (
        '{"input_toks": 128, "output_toks": 512, "arrival_time_ns": 0}\n'
        '{"input_toks": 10, "output_toks": 70, "arrival_time_ns": 46926808}\n',
        [TraceRow(1, 0.0, 128, 512), TraceRow(2, 0.046926808, 10, 70)],
    ),
    "burstgpt": (
        "Timestamp,Model,Request tokens,Response tokens,Total tokens,Log Type\n"
        "5,ChatGPT,472,18,490,Conversation log\n45,GPT-4,300,0,300,API log\n118,GPT-4,417,276,693,API log\n",
        [TraceRow(2, 5.0, 472, 18), TraceRow(4, 118.0, 417, 276)],
    ),
    "bench": (
        "request_id,input_toks,output_toks,arrival_s,queue_s,ttft_s,tpot_ms,latency_s\n"
        "bench-0,2358,531,0.0,4.6e-05,0.169525,29.3281,15.713402\n"
        "bench-1,1034,769,0.285059,5e-06,0.062589,30.5142,23.497496\n",
        [TraceRow(2, 0.0, 2358, 531), TraceRow(3, 0.285059, 1034, 769)],
    ),
}
"""A short file of each form."""


def write(folder: Path, data: str | bytes, name: str = "trace") -> Path:
    path = folder / name
    path.write_bytes(data.encode() if isinstance(data, str) else data)
    return path


def test_every_form_of_a_spec_has_a_reader() -> None:
    assert tuple(FORMS) == tuple(NAMES)
    assert set(FORMS) == set(FILES)


@pytest.mark.parametrize("form", FILES)
def test_a_form_is_told_by_its_columns_and_read(tmp_path: Path, form: str) -> None:
    text, rows = FILES[form]
    trace = Trace(write(tmp_path, text))
    assert trace.form is None
    assert list(trace) == rows
    assert trace.form == form
    # a second pass is the same, and so is one whose form is given
    assert list(trace) == rows
    assert list(Trace(trace.path, form)) == rows


@pytest.mark.parametrize("form", FILES)
def test_a_compressed_file_is_read_as_it_was(tmp_path: Path, form: str) -> None:
    text, rows = FILES[form]
    assert list(Trace(write(tmp_path, gzip.compress(text.encode()), "t.gz"))) == rows


@pytest.mark.parametrize("form", FILES)
def test_byte_order_marks_windows_line_ends_blank_lines_and_a_missing_last_one_are_taken(
    tmp_path: Path, form: str
) -> None:
    text, rows = FILES[form]
    data = b"\xef\xbb\xbf" + text.replace("\n", "\r\n").rstrip().encode()
    assert list(Trace(write(tmp_path, data))) == rows
    assert [row[1:] for row in Trace(write(tmp_path, text.replace("\n", "\n\n")))] == [row[1:] for row in rows]


@pytest.mark.parametrize("form", [form for form in FILES if FILES[form][0][0] != "{"])
def test_columns_come_in_any_order(tmp_path: Path, form: str) -> None:
    text, rows = FILES[form]
    turned = "".join(",".join(reversed(line.split(","))) + "\n" for line in text.splitlines())
    assert list(Trace(write(tmp_path, turned))) == rows


def test_azure_of_2024_has_zones_and_may_have_images(tmp_path: Path) -> None:
    text = (
        "TIMESTAMP,NumImages,ContextTokens,GeneratedTokens\n"
        "2024-05-10 00:00:00.009930+00:00,0,2162,5\n2024-05-10 02:00:01.009930+02:00,1,2399,6\n"
    )
    assert list(Trace(write(tmp_path, text))) == [TraceRow(2, 0.0, 2162, 5), TraceRow(3, 1.0, 2399, 6)]


def test_a_week_of_azure_keeps_its_microseconds(tmp_path: Path) -> None:
    text = "TIMESTAMP,ContextTokens,GeneratedTokens\n2024-05-10 00:00:00.000001,1,1\n2024-05-17 00:00:00.000003,1,1\n"
    assert [row.arrival for row in Trace(write(tmp_path, text))] == [0.0, 604800.000002]


def test_requests_of_burstgpt_that_failed_are_counted_and_sessions_are_told_apart(tmp_path: Path) -> None:
    text = (
        "Timestamp,Session ID,Elapsed time,Model,Request tokens,Response tokens,Total tokens,Log Type\n"
        "5,2f9c-a,1.5,ChatGPT,472,18,490,Conversation log\n6,,2,ChatGPT,0,0,0,API log\n"
        "7,2f9c-a,1.5,ChatGPT,500,0,500,Conversation log\n8,2f9c-b,1,GPT-4,1,1,2,Conversation log\n"
        "9,2f9c-a,1,GPT-4,1,1,2,Conversation log\n10,,1,GPT-4,1,1,2,API log\n"
    )
    trace = Trace(write(tmp_path, text))
    rows = list(trace)
    assert [row.line for row in rows] == [2, 5, 6, 7]
    assert rows[0].session == rows[2].session != rows[1].session
    assert min(row.session for row in rows) == rows[3].session == -1
    assert trace.skipped == 2
    list(trace)
    assert trace.skipped == 2


def test_vidur_has_files_with_lengths_alone(tmp_path: Path) -> None:
    text = "num_prefill_tokens,num_decode_tokens,num_total_tokens,pd_ratio\n10,2,12,5.0\n20,3,23,6.67\n"
    trace = Trace(write(tmp_path, text))
    assert list(trace) == [TraceRow(2, None, 10, 2), TraceRow(3, None, 20, 3)]
    with pytest.raises(SpecError, match="'trace', but some has lengths alone"):
        list(requests(Requests(trace="some"), trace))


def _line(tokens: list[int], inputs: int | None = None) -> str:
    return json.dumps({
        "input_toks": len(tokens) if inputs is None else inputs, "output_toks": 1, "arrival_time_ns": 0,
        "input_tok_ids": tokens,
    }) + "\n"  # fmt: skip


@given(
    common=st.integers(0, 80), one=st.integers(0, 80), other=st.integers(0, 80), base=st.integers(0, 2**31 - 200)
)  # fmt: skip
def test_token_numbers_become_blocks_that_are_equal_as_far_as_the_prompts_are(
    tmp_path_factory: pytest.TempPathFactory, common: int, one: int, other: int, base: int
) -> None:
    first = [base + at for at in range(common)] + [base + 101 + at % 7 for at in range(one + 1)]
    second = [base + at for at in range(common)] + [base + 120 + at % 7 for at in range(other + 1)]
    path = write(tmp_path_factory.mktemp("t"), _line(first) + _line(second))
    a, b = Trace(path)
    assert (len(a.blocks), len(b.blocks)) == (len(first) // 16, len(second) // 16)
    equal = common // 16
    assert a.blocks[:equal] == b.blocks[:equal]
    assert not set(a.blocks[equal:]) & set(b.blocks[equal:])
    assert a.block_tokens == 16


def test_the_same_tokens_after_others_are_another_block(tmp_path: Path) -> None:
    (row,) = Trace(write(tmp_path, _line([1] * 48)))
    assert len(set(row.blocks)) == 3


def test_fewer_token_numbers_than_tokens_cover_the_beginning_alone(tmp_path: Path) -> None:
    (row,) = Trace(write(tmp_path, _line([1] * 40, 100)))
    assert (row.inputs, len(row.blocks)) == (100, 2)


def test_mooncake_takes_sessions_and_prompts_without_hashes(tmp_path: Path) -> None:
    line = '{"timestamp": 0, "input_length": 600, "output_length": 1, "session_id": %s}\n'
    rows = list(Trace(write(tmp_path, line % "3" + line % '"a"' + line % "null" + line % '"a"')))
    assert rows[0].session == 3
    assert rows[1].session == rows[3].session == session_number("a") > 3
    assert rows[2].session == -1
    assert rows[0].blocks == ()


ROW = st.builds(
    TraceRow,
    line=st.just(0),
    arrival=st.floats(0.0, 1e12),
    inputs=st.integers(1, 10**9),
    outputs=st.integers(1, 10**9),
    priority=st.integers(-(10**9), 10**9),
    session=st.integers(-1, 10**15 - 1),
    blocks=st.just(()),
    block_tokens=st.just(0),
)


@given(rows=st.lists(ROW, min_size=1, max_size=20))
def test_what_is_written_is_read_again(tmp_path_factory: pytest.TempPathFactory, rows: list[TraceRow]) -> None:
    rows = [row._replace(line=at + 2) for at, row in enumerate(sorted(rows, key=lambda row: row.arrival or 0.0))]
    path = tmp_path_factory.mktemp("t") / "t.csv"
    assert write_trace(path, rows) == len(rows)
    assert list(Trace(path)) == rows
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("form", FILES)
def test_any_form_without_blocks_becomes_ours(tmp_path: Path, form: str) -> None:
    _, rows = FILES[form]
    plain = [row._replace(blocks=(), block_tokens=0) for row in rows]
    write_trace(tmp_path / "t.csv", plain)
    assert [row[1:] for row in Trace(tmp_path / "t.csv")] == [row[1:] for row in plain]


def test_what_cannot_be_written_leaves_the_old_file_as_it_was(tmp_path: Path) -> None:
    path = write(tmp_path, "old", "t.csv")
    good = TraceRow(0, 0.0, 1, 1)
    for bad, says in ((TraceRow(0, None, 1, 1), "no time"), (good._replace(blocks=(1,)), "blocks")):
        with pytest.raises(SpecError, match=f"request 2 has {says}"):
            write_trace(path, [good, bad])
    with pytest.raises(ScaleoutError, match="cannot be written"):
        write_trace(tmp_path / "none" / "t.csv", [good])
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_many_rows_leave_nothing_behind(tmp_path: Path) -> None:
    path = tmp_path / "big.csv"
    with path.open("w") as file:
        file.write("arrived_at,num_prefill_tokens,num_decode_tokens\n")
        for block in range(300):
            file.writelines(f"{block}.{at:03},{at + 1},{at % 7 + 1}\n" for at in range(1000))
    held, count = [], 0
    for count, _ in enumerate(Trace(path), start=1):
        if count % 75_000 == 1:
            held.append(sys.getallocatedblocks())
    assert count == 300_000
    # what is allocated does not grow with what was read
    assert max(held) - held[0] < 2000


@pytest.mark.parametrize("form", FILES)
def test_the_memory_of_reading_does_not_depend_on_the_length_of_the_file(tmp_path: Path, form: str) -> None:
    text, rows = FILES[form]
    lines = text.splitlines(keepends=True)
    head, last = ([], lines[-1]) if lines[0].startswith("{") else (lines[:1], lines[-1])
    path = write(tmp_path, "".join(head) + last * 20_000)
    stream = iter(requests(Requests(trace=str(path)), Trace(path)))
    assert next(stream).inputs == rows[-1].inputs
    tracemalloc.start()
    try:
        count = sum(1 for _ in islice(stream, 20_000))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert count == 19_999
    # the rows themselves are megabytes
    assert peak < 500_000


def test_one_enormous_line_is_refused_in_bounded_memory(tmp_path: Path) -> None:
    path = tmp_path / "line.csv"
    with path.open("wb") as file:
        file.truncate(3_000_000_000)
    tracemalloc.start()
    try:
        with pytest.raises(MeasurementError, match=r"line 1: longer than 16,000,000 characters"):
            list(Trace(path))
        assert tracemalloc.get_traced_memory()[1] < 40_000_000
    finally:
        tracemalloc.stop()

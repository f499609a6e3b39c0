"""MSCCL programs: written here by hand, in both ways that NCCL's are; exported ones; and broken ones."""

import re
from pathlib import Path

import numpy as np
import pytest
from chunk_recurrence import time

from scaleout.collectives.correctness import check
from scaleout.collectives.goal import Goal
from scaleout.collectives.registry import ALGORITHMS
from scaleout.collectives.sends import Sends
from scaleout.errors import SpecError, WorkloadError
from scaleout.io.msccl import msccl_algorithm, parse_msccl, read_msccl, to_msccl
from scaleout.network import ring

Row = tuple[str, str, int, str, int, int, int, int, int]
"""Type, source, offset, target, offset, count, depid, deps, hasdep."""


def program(n: int, chunks: int, gpus: list[list[tuple[int, int, int, list[Row]]]], **more: object) -> str:
    """XML of thread blocks (send, recv, channel, rows) of each GPU."""
    given = {"coll": "allreduce", "inplace": 1, "s": 0} | more
    out = [
        f'<algo name="sample" proto="LL" nchannels="2" nchunksperloop="{chunks}" ngpus="{n}" '
        f'coll="{given["coll"]}" inplace="{given["inplace"]}" outofplace="0" minBytes="0" maxBytes="0">'
    ]
    for gpu, blocks in enumerate(gpus):
        out.append(f'<gpu id="{gpu}" i_chunks="{chunks}" o_chunks="{chunks}" s_chunks="{given["s"]}">')
        for number, (send, recv, channel, rows) in enumerate(blocks):
            out.append(f'<tb id="{number}" send="{send}" recv="{recv}" chan="{channel}">')
            for step, (kind, a, x, b, y, count, depid, deps, hasdep) in enumerate(rows):
                out.append(
                    f'<step s="{step}" type="{kind}" srcbuf="{a}" srcoff="{x}" dstbuf="{b}" dstoff="{y}" '
                    f'cnt="{count}" depid="{depid}" deps="{deps}" hasdep="{hasdep}"/>'
                )
            out.append("</tb>")
        out.append("</gpu>")
    return "\n".join([*out, "</algo>"])


def row(
    kind: str, a: str, x: int, b: str, y: int, count: int = 1, after: tuple[int, int] = (-1, -1), has: int = 0
) -> Row:
    return kind, a, x, b, y, count, *after, has


def fused_ring(n: int, result: str = "i") -> list[list[tuple[int, int, int, list[Row]]]]:
    """NCCL's ring all-reduce: s, then rrs, one rrcs, then rcs, and an r at the end."""
    gpus = []
    for rank in range(n):
        rows = [row("s", "i", (rank - 1) % n, "i", 0)]
        rows += [row("rrs", "i", (rank - step) % n, "i", 0) for step in range(2, n)]
        rows.append(row("rrcs", "i", rank, result, rank))
        rows += [row("rcs", "i", 0, result, (rank - step) % n) for step in range(1, n - 1)]
        rows.append(row("r", "i", 0, result, (rank + 1) % n))
        gpus.append([((rank + 1) % n, (rank - 1) % n, 0, rows)])
    return gpus


def all_pairs(n: int) -> list[list[tuple[int, int, int, list[Row]]]]:
    """Everyone sends its part to everyone, into scratch; one thread block adds up; the sums go out."""
    gpus = []
    for rank in range(n):
        others = [(rank + hop) % n for hop in range(1, n)]
        adds: list[Row] = []
        for number, peer in enumerate(others):
            adds.append(("nop", "i", -1, "o", -1, 0, 1 + number, 1, 0))
            place = number
            adds.append(row("re", "s", place, "i", rank, has=int(peer == others[-1])))
        blocks = [(-1, -1, 0, adds)]
        for number, peer in enumerate(others):
            rows = [
                row("s", "i", peer, "s", 0),
                row("r", "i", 0, "s", number, has=1),
                row("s", "i", rank, "i", rank, after=(0, 2 * (n - 1) - 1)),
                row("r", "i", peer, "i", peer),
            ]
            blocks.append((peer, peer, 0, rows))
        gpus.append(blocks)
    return gpus


def moved(schedule, n: int) -> np.ndarray:  # type: ignore[no-untyped-def]
    far = (schedule.source != schedule.target)[schedule.lane]
    return np.bincount(schedule.source[schedule.lane][far], schedule.portion[far], n)


@pytest.mark.parametrize("result", ["i", "o"])
@pytest.mark.parametrize("n", [2, 3, 4, 7])
def test_a_ring_of_fused_steps_runs(n: int, result: str) -> None:
    for in_place in (0, 1) if result == "o" else (1,):
        schedule = parse_msccl(program(n, n, fused_ring(n, result), inplace=in_place))
        check(schedule)
        assert schedule.goal is not None and schedule.goal.operation == "all_reduce"
        assert moved(schedule, n) == pytest.approx(np.full(n, 2 * (n - 1) / n))
        plain = schedule.timed()
        assert plain.sends == n * 2 * (n - 1)
        # as long as the ring of our own, step after step
        expected = time(ALGORITHMS["ring"].schedule(n, "all_reduce"), 1e9, 1e-6, 50e9)
        assert time(schedule, 1e9, 1e-6, 50e9) == pytest.approx(expected)
        assert time(plain, 1e9, 1e-6, 50e9) == pytest.approx(expected)


@pytest.mark.parametrize("n", [2, 3, 5])
def test_all_pairs_with_scratch_and_dependencies_runs(n: int) -> None:
    schedule = parse_msccl(program(n, n, all_pairs(n), s=n))
    check(schedule)
    assert moved(schedule, n) == pytest.approx(np.full(n, 2 * (n - 1) / n))


EXPORTED = sorted(
    (name, operation)
    for name in ALGORITHMS
    for operation in ALGORITHMS[name].operations
    if operation not in ("send", "shift", "barrier") and name not in ("nvls", "sharp")
)


@pytest.mark.parametrize(("name", "operation"), EXPORTED)
@pytest.mark.parametrize("n", [2, 3, 6])
def test_what_is_written_is_read_back_and_takes_as_long(name: str, operation: str, n: int) -> None:
    schedule = ALGORITHMS[name].schedule(n, operation, chunks=2)
    back = parse_msccl(to_msccl(schedule), name)
    check(back)
    assert back.name == schedule.name
    assert moved(back, n) == pytest.approx(moved(schedule, n))
    # a receiver that is not ready makes nobody wait there, so it is never slower
    assert time(back, 1e9, 1e-6, 50e9) <= time(schedule, 1e9, 1e-6, 50e9) * (1 + 1e-9)
    if name in ("ring", "direct", "bruck") and n == 6:
        assert time(back.timed(), 1e9, 1e-6, 50e9) == pytest.approx(time(schedule, 1e9, 1e-6, 50e9))


def test_a_program_is_an_algorithm(tmp_path: Path) -> None:
    path = tmp_path / "ring.xml"
    path.write_text(program(4, 4, fused_ring(4)))
    mine = msccl_algorithm(read_msccl(str(path)))
    assert mine.operations == ("all_reduce",)
    assert mine.schedule(4, "all_reduce").sends > 0
    with pytest.raises(WorkloadError, match="written for 4 members, not 5"):
        mine.schedule(5, "all_reduce")
    fabric, groups = ring(4, bandwidth=50e9, latency=1e-6), np.arange(4)[None, :]
    assert mine.fits(fabric, groups, "all_reduce")
    alone = mine.pattern(fabric, groups, "all_reduce", "wires").alone(fabric, 1e9)
    assert alone == pytest.approx(6 * (1e-6 + 1e9 / 4 / 50e9))


# --- programs that do not work --------------------------------------------------------------------


def test_a_deadlock_is_named() -> None:
    each = [row("r", "i", 0, "i", 1), row("s", "i", 0, "i", 0)]
    gpus = [[(1 - rank, 1 - rank, 0, each)] for rank in range(2)]
    with pytest.raises(WorkloadError, match=r"deadlock, gpu \d tb 0 step \d \(.*line \d+\) waits for gpu \d tb 0"):
        parse_msccl(program(2, 2, gpus))


def test_a_wait_for_what_is_never_said_is_named() -> None:
    gpus = all_pairs(3)
    kind, *rest = gpus[1][1][3][1]
    gpus[1][1][3][1] = (kind, *rest[:-1], 0)
    with pytest.raises(WorkloadError, match=r"line \d+: gpu 1 tb 0 step 0 waits for tb 1 step 1: deadlock, .*hasdep=1"):
        parse_msccl(program(3, 3, gpus, s=3))


def test_wrong_chunks_are_named() -> None:
    gpus = fused_ring(3)
    gpus[2][0][3][-1] = row("r", "i", 0, "i", 1)
    with pytest.raises(WorkloadError, match=r"sample: rank 2 ends with piece \d with the data of rank"):
        parse_msccl(program(3, 3, gpus))
    gpus = all_pairs(3)
    gpus[0][0][3].pop()
    gpus[0][0][3][-1] = row("nop", "i", 0, "i", 0, count=0, has=1)
    for block in gpus[0][1:]:
        block[3][2] = (*block[3][2][:7], 2, 0)
    with pytest.raises(WorkloadError, match="rank 0 ends with piece 0 with the data of ranks 0, 1 in slot 0"):
        parse_msccl(program(3, 3, gpus, s=3))


def test_an_order_that_nothing_forces_is_named() -> None:
    gpus = all_pairs(2)
    # the sum is sent without waiting for it to be made
    block = gpus[0][1]
    block[3][2] = row("s", "i", 0, "i", 0)
    with pytest.raises(WorkloadError, match=r"ends with piece 0|depends on the order of sends: gpu 0 tb"):
        parse_msccl(program(2, 2, gpus, s=2))


def test_sends_that_nobody_takes_are_named() -> None:
    gpus = fused_ring(3)
    gpus[1][0][3].pop()
    with pytest.raises(WorkloadError, match=r"line \d+: gpu 0 sends 4 times to gpu 1 on channel 0, which receives 3"):
        parse_msccl(program(3, 3, gpus))
    gpus = fused_ring(3)
    gpus[1][0][3][-1] = row("r", "i", 0, "i", 0, count=2)
    with pytest.raises(WorkloadError, match=r"lines \d+ and \d+: gpu 0 sends 1 chunks to gpu 1 .* receives 2"):
        parse_msccl(program(3, 3, gpus))
    gpus = fused_ring(2)
    gpus[0].append(gpus[0][0])
    with pytest.raises(WorkloadError, match="thread blocks 0 and 1 of gpu 0 both use the connection"):
        parse_msccl(program(2, 2, gpus))


GOOD = program(2, 2, fused_ring(2))
BROKEN = [
    ("", "not readable as XML"),
    (GOOD[:-3], "line .*not readable as XML"),
    ("<!DOCTYPE algo>" + GOOD, "line 1: document types are not accepted"),
    ('<!DOCTYPE a [<!ENTITY x "y"><!ENTITY z "&x;&x;&x;">]>' + GOOD, "line 1: document types are not accepted"),
    ("<topology/>", "line 1: <topology> as the outermost element; expected <algo>"),
    (GOOD.replace('<gpu id="1"', '<gup id="1"').replace("</gpu>", "</gpu>", 1), "<gup> in <algo>; expected <gpu>"),
    (GOOD.replace('chan="0"', 'chan="0" chann="1"', 1), "<tb> has no attribute 'chann'; did you mean 'chan'"),
    (GOOD.replace(' cnt="1"', "", 1), "<step> lacks 'cnt'"),
    (GOOD.replace('type="rrcs"', 'type="rrsc"', 1), "type 'rrsc' of a step; did you mean"),
    (GOOD.replace('ngpus="2"', 'ngpus="3"'), "ngpus is 3, but gpu 2 is missing"),
    (GOOD.replace('ngpus="2"', 'ngpus="1e3"'), "ngpus='1e3': expected a whole number from 1 to 4096"),
    (GOOD.replace('ngpus="2"', 'ngpus="99999999999"'), "expected a whole number from 1 to 4096"),
    (GOOD.replace('nchunksperloop="2"', 'nchunksperloop="0"'), "expected a whole number from 1"),
    (GOOD.replace('<gpu id="1"', '<gpu id="0"'), "gpu 0 is there twice"),
    (GOOD.replace('<step s="1"', '<step s="2"', 1), "step s=2 where step 1 was expected"),
    (GOOD.replace('srcbuf="i"', 'srcbuf="x"', 1), "srcbuf='x': expected i, o or s"),
    (GOOD.replace('srcoff="1"', 'srcoff="7"', 1), "line 4: chunks 7 to 7 of buffer 'i' of gpu 0, which has 2"),
    (GOOD.replace('send="1"', 'send="-1"', 1), "a step of type s in a thread block that sends to nobody"),
    (GOOD.replace('recv="1"', 'recv="-1"', 1), "a step of type rrcs in a thread block that receives from nobody"),
    (GOOD.replace('depid="-1" deps="-1"', 'depid="5" deps="0"', 1), "waits for tb 5, which is not there"),
    (GOOD.replace('depid="-1" deps="-1"', 'depid="0" deps="9"', 1), "step 9, which has 3 steps"),
    (GOOD.replace('depid="-1" deps="-1"', 'depid="0" deps="-1"', 1), "give both, or -1 for both"),
    (GOOD.replace('coll="allreduce"', 'coll="alreduce"'), "coll='alreduce'; did you mean 'allreduce'"),
    (GOOD.replace('coll="allreduce"', 'coll="custom"'), "coll='custom'; known"),
    (GOOD.replace("</tb>", "words</tb>", 1), "text 'words' between elements"),
    (program(2, 3, fused_ring(2), coll="allgather"), "nchunksperloop=3 is no multiple of the 2 GPUs"),
    (GOOD + "<!--" + "x" * 16_000_000 + "-->", "larger than 16,000,000"),
]


@pytest.mark.parametrize(("text", "message"), BROKEN, ids=[str(i) for i in range(len(BROKEN))])
def test_a_file_that_is_no_program_is_refused(text: str, message: str) -> None:
    with pytest.raises(SpecError, match=f"^broken.*{message}" if "(" not in message else re.escape(message)):
        parse_msccl(text, "broken")


def test_what_has_no_words_is_not_written() -> None:
    with pytest.raises(WorkloadError, match="no words for switches"):
        to_msccl(ALGORITHMS["nvls"].schedule(4, "all_reduce"))
    with pytest.raises(WorkloadError, match="no words for pieces of unequal sizes"):
        to_msccl(ALGORITHMS["ring"].schedule(4, "all_gather", parts=np.arange(4.0)))
    with pytest.raises(WorkloadError, match="no words for the operation barrier"):
        to_msccl(ALGORITHMS["dissemination"].schedule(4, "barrier"))
    sends = Sends(Goal.of("broadcast", 4, blocks=1))
    first = sends.send(0, 1, 0)
    sends.send(0, 2, 0)
    sends.send(2, 3, 0, after=[first])
    with pytest.raises(WorkloadError, match="a send from 2 to 3 that waits for what happens at 1"):
        to_msccl(sends.schedule("far"))


@pytest.mark.parametrize("cut", range(0, len(GOOD), 97))
def test_no_cut_of_a_file_is_anything_but_refused(cut: int) -> None:
    with pytest.raises((SpecError, WorkloadError)):
        parse_msccl(GOOD[:cut])

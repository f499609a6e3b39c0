"""Schedules by themselves: complete, without deadlock, bubble and memory as in their papers' tables."""

from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st
from unit_time import most_kept, plans_of, routes_of, run

from scaleout.errors import PlanError, SpecError
from scaleout.models import LayerKind
from scaleout.specs import Layout
from scaleout.training import SCHEDULES, Pass, Schedule, deal, register_schedule, timetable
from scaleout.training.registry import schedule_of
from scaleout.training.schedules import Step
from scaleout.training.timetable import DOWN, UP

WHOLE = st.integers(1, 9)


@st.composite
def cases(draw: st.DrawFn) -> tuple[Schedule, int, int, int]:
    """A schedule with stages, chunks and micro-batches that it has an order for."""
    schedule = SCHEDULES[draw(st.sampled_from(sorted(set(SCHEDULES) - {"mine"})))]
    stages = draw(st.integers(1, 7))
    micro_batches = draw(st.integers(1, 24))
    if schedule.name == "dualpipe":
        stages, micro_batches = 2 * stages, 4 * stages + 2 * (micro_batches - 1)
    if schedule.name == "dualpipe-v":
        micro_batches += 2 * stages - 1
    return schedule, stages, schedule.chunks or draw(st.integers(1, 4)), micro_batches


@given(cases())
def test_every_schedule_is_complete_and_comes_to_its_end(case: tuple[Schedule, int, int, int]) -> None:
    schedule, stages, chunks, micro_batches = case
    table = timetable(*case)
    routes = routes_of(schedule.placement, stages, chunks)
    forward = [one for steps in table.steps for step in steps for one in step if one.kind == "F"]
    assert len(forward) == micro_batches * len(routes[0])
    # the oracle, which knows nothing of the checker, gets through as well, and no faster than the work
    end, work = run(*case, {"F": 1, "B": 2, "I": 1, "W": 1, "&": 3})
    assert work == [3 * micro_batches * len(routes[0]) // stages] * stages
    assert end >= max(work) + stages - 1 - (schedule.placement == "bidirectional") * stages // 2


@given(cases())
def test_messages_are_taken_as_they_are_sent(case: tuple[Schedule, int, int, int]) -> None:
    schedule, stages, chunks, micro_batches = case
    table, moved = timetable(*case), 0
    spots = {
        spot: (r, i)
        for r, route in enumerate(routes_of(schedule.placement, stages, chunks))
        for i, spot in enumerate(route)
    }
    for stage, boxes in enumerate(table.inbox):
        for way, passes in boxes.items():
            before = [
                (one.kind == "F", one.micro_batch, *spots[(stage - way) % stages, one.chunk])
                for s in table.steps[(stage - way) % stages]
                for one in s
                if one.kind != "W"
            ]
            sent = [
                before.index((one.kind == "F", one.micro_batch, r, i - 1 if one.kind == "F" else i + 1))
                for one in passes
                for r, i in [spots[stage, one.chunk]]
            ]
            assert sent == sorted(sent)
            moved += len(sent)
    # what stays on a stage, as at the bottom of a V, is no message
    routes = routes_of(schedule.placement, stages, chunks)
    hops = sum(
        a != b or (stages == 1 < chunks and schedule.placement == "looped")
        for (a, _), (b, _) in zip(routes[0], routes[0][1:], strict=False)
    )
    assert moved == 2 * hops * micro_batches


def bubble(name: str, stages: int, chunks: int, micro_batches: int, **times: int) -> int:
    """Step less work, of the stage that waits longest; not all overlap as many passes."""
    times = {"B": times.get("I", 0) + times.get("W", 0), **times}
    end, work = run(SCHEDULES[name], stages, chunks, micro_batches, {"&": times["F"] + times["B"], **times})
    return end - min(work)


@given(st.integers(1, 8), st.integers(0, 9), WHOLE, WHOLE)
def test_gpipe_and_1f1b_leave_p_minus_1_passes_each_way(stages: int, more: int, forth: int, back: int) -> None:
    # arXiv 2104.04473, section 2.2.1: (p - 1)(tf + tb)
    for name in ("gpipe", "1f1b"):
        assert bubble(name, stages, 1, stages + more, F=forth, B=back) == (stages - 1) * (forth + back)


@given(st.integers(1, 6), st.integers(1, 4), st.integers(0, 14), WHOLE, WHOLE)
def test_interleaving_divides_the_bubble_by_the_chunks(s: int, v: int, more: int, forth: int, back: int) -> None:
    # arXiv 2104.04473, section 2.2.2: (p - 1)(tf + tb) / v, here with tf and tb of a chunk; any m from p on
    assert bubble("interleaved", s, v, s + more, F=forth, B=back) == (s - 1) * (forth + back)


@given(st.integers(1, 8), st.integers(0, 9), WHOLE, WHOLE, WHOLE)
def test_zb_h1_takes_the_weight_gradients_out_of_the_bubble(s: int, more: int, f: int, i: int, w: int) -> None:
    # arXiv 2401.10241, table 2: (p - 1)(TF + TB - TW), TB without weights; it takes weights that are no longer than
    # what they fill
    w = min(f, i, w)
    assert bubble("zb-h1", s, 1, s + more, F=f, I=i, W=w) == (s - 1) * (f + i - w)


@given(st.integers(2, 8), st.integers(0, 9), WHOLE, WHOLE, WHOLE)
def test_zb_v_has_no_bubble_but_that_of_a_common_end(s: int, more: int, f: int, i: int, w: int) -> None:
    # arXiv 2401.10241, section 6: with TF = TB = TW every stage is busy from its first pass to its last, and stage p
    # begins p forward passes late; the second form is that of the same order for passes that are unlike
    micro_batches = 2 * s - 1 + more
    assert bubble("zb-v", s, 2, micro_batches, F=f, I=f, W=f) == (s - 1) * f
    f, w = min(f, i), min(w, i)
    assert bubble("zb-v", s, 2, micro_batches + 1, F=f, I=i, W=w) == (s - 1) * max(i, 2 * (i - w))


@given(st.integers(1, 5), st.integers(0, 6), WHOLE, WHOLE, st.integers(0, 8))
def test_dual_pipe_leaves_the_bubble_of_deepseek(half: int, more: int, f: int, w: int, hidden: int) -> None:
    # arXiv 2412.19437, table 2: (PP / 2 - 1)(F&B + B - 3W), where an input gradient takes as long as a forward pass
    w, both = min(f, w), 2 * f + min(f, w)
    times = {"F": f, "I": f, "W": w, "&": both - min(hidden, f - 1) // 2}
    expected = (half - 1) * (times["&"] + f + w - 3 * w)
    assert bubble("dualpipe", 2 * half, 1, 4 * half + 2 * more, **times) == expected
    assert bubble("dualpipe-v", half, 2, 2 * half + more, **times) == expected


@given(st.integers(2, 8), st.integers(0, 12), st.integers(1, 4))
def test_stages_keep_what_the_papers_say(stages: int, more: int, chunks: int) -> None:
    def kept(name: str, micro_batches: int, stages: int = stages, chunks: int = 1) -> list[int]:
        return [most_kept(plan) for plan in plans_of(SCHEDULES[name], stages, chunks, micro_batches)]

    m = stages + more
    assert kept("gpipe", m) == [m] * stages
    assert kept("1f1b", m) == list(range(stages, 0, -1))
    # arXiv 2401.10241, table 2: p M_B, as 1F1B; on every stage
    assert kept("zb-h1", m) == [stages] * stages
    # arXiv 2401.10241, section 6: that of 1F1B, p, in chunks of half the size
    assert kept("zb-v", stages + m, chunks=2) == [2 * stages] * stages
    # arXiv 2205.05198, section 4.2.3: L (1 + (p - 1) / (p v)), in chunks p v + p - 1; no more than there are
    assert kept("interleaved", 2 * stages, chunks=chunks)[0] == min(stages * chunks + stages - 1, 2 * stages * chunks)
    # arXiv 2412.19437, table 2: PP + 1, the one more while a forward pass is over a backward pass
    assert kept("dualpipe", 2 * (2 * stages + more), 2 * stages) == [2 * stages + 1] * 2 * stages
    assert kept("dualpipe-v", 2 * stages + more, chunks=2) == [2 * stages + 1] * stages


def test_interleaved_warm_up_is_that_of_megatron() -> None:
    # (p - s - 1) 2 + (v - 1) p forwards before the first backward, and one more in steady state
    for stage in range(4):
        plan = list(SCHEDULES["interleaved"].passes(stage, 4, 3, 8))
        first = next(i for i, step in enumerate(plan) if isinstance(step, Pass) and step.kind == "B")
        assert first == (4 - stage - 1) * 2 + 2 * 4 + 1


def of(*steps: Step) -> Schedule:
    """A schedule that does the same on each stage."""
    return Schedule(name="mine", passes=lambda *_: iter(steps))


F, B, I, W = (Pass(kind, 0) for kind in ("F", "B", "I", "W"))  # type: ignore[arg-type]  # noqa: E741
MISTAKES: dict[str, tuple[tuple[Step, ...], str]] = {
    "backward first": ((B, F), "stage 0 does backward of micro-batch 0, chunk 0 before its forward"),
    "weights first": ((F, W, I), "weight gradient of micro-batch 0, chunk 0 before its input gradient"),
    "forward missing": ((), "stage 0 leaves out forward of micro-batch 0"),
    "backward missing": ((F,), "stage 0 leaves out backward of micro-batch 0"),
    "weights missing": ((F, I), "stage 0 leaves out weight gradient of micro-batch 0"),
    "twice": ((F, F, B), "forward of micro-batch 0, chunk 0 twice"),
    "whole and split": ((F, B, I, W), "input gradient of micro-batch 0, chunk 0 twice"),
    "beyond": ((F, B, Pass("F", 1)), "stage 0 has no forward of micro-batch 1, chunk 0; its micro-batches: 0 to 0"),
    "no such chunk": ((F, B, Pass("F", 0, 1)), "stage 0 has no forward of micro-batch 0, chunk 1"),
    "kind": ((Pass("X", 0),), "kind 'X'; accepted: F \\(forward\\), B"),  # type: ignore[arg-type]
    "no pass": (("F0",), "yields 'F0'; accepted: a Pass, or two in a tuple"),  # type: ignore[dict-item]
    "overlaps itself": (((F, B),), "overlaps forward of micro-batch 0, chunk 0 with backward"),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_wrong_schedule_is_refused_in_words(name: str) -> None:
    steps, words = MISTAKES[name]
    with pytest.raises(SpecError, match=words):
        timetable(of(*steps), 2, 1, 1)


def test_stages_that_wait_for_each_other_are_named() -> None:
    def crossed(stage: int, stages: int, chunks: int, micro_batches: int) -> Iterator[Step]:
        # the second stage wants the second micro-batch first, the first sends it after a backward
        order = (0, 1) if stage == 0 else (1, 0)
        for m in order:
            yield Pass("F", m)
            yield Pass("B", m)

    with pytest.raises(SpecError, match="for ever") as caught:
        timetable(Schedule(name="crossed", passes=crossed), 2, 1, 2)
    assert "stage 0: backward of micro-batch 0, chunk 0 waits for stage 1: backward of micro-batch 0" in str(
        caught.value
    )
    assert "stage 1: forward of micro-batch 1, chunk 0 waits for stage 0: forward of micro-batch 1" in str(caught.value)


def test_copies_that_get_to_their_gradients_in_another_order_are_refused() -> None:
    def lopsided(stage: int, stages: int, chunks: int, micro_batches: int) -> Iterator[Step]:
        for kind in ("F", "B"):
            yield Pass(kind, 0, 0)  # type: ignore[arg-type]
            yield Pass(kind, 1, 1)  # type: ignore[arg-type]

    with pytest.raises(SpecError, match="stage 0 begins with the model's chunks"):
        timetable(Schedule(name="lopsided", passes=lopsided, placement="bidirectional"), 2, 1, 2)


def test_names_of_schedules() -> None:
    assert schedule_of(Layout(pp=4)).name == "1f1b"
    assert schedule_of(Layout(pp=4, vpp=2)).name == "interleaved"
    with pytest.raises(SpecError, match="did you mean 'zb-h1'"):
        schedule_of(Layout(pp=4, schedule="zbh1"))
    with pytest.raises(PlanError, match="zb-v is made for 2 a stage, not 1"):
        schedule_of(Layout(pp=4, schedule="zb-v"))
    with pytest.raises(SpecError, match="comes along"):
        register_schedule("gpipe", SCHEDULES["gpipe"].passes)
    with pytest.raises(SpecError, match="did you mean 'looped'"):
        register_schedule("mine", SCHEDULES["gpipe"].passes, placement="loop")  # type: ignore[arg-type]
    with pytest.raises(PlanError, match="3 is odd"):
        timetable(SCHEDULES["dualpipe"], 3, 1, 12)
    with pytest.raises(PlanError, match="an even number from 8 on"):
        timetable(SCHEDULES["dualpipe"], 4, 1, 7)


def test_ways_of_a_v_cross_at_its_bottom() -> None:
    seats = timetable(SCHEDULES["zb-v"], 2, 2, 3).seats
    assert [(seat.model_chunk, seat.came, seat.goes) for seat in seats[0]] == [(0, 0, DOWN), (3, UP, 0)]
    assert [(seat.model_chunk, seat.came, seat.goes) for seat in seats[1]] == [(1, DOWN, 0), (2, 0, UP)]


@given(st.integers(1, 200), st.integers(1, 130))
def test_layers_are_dealt_completely_and_evenly(layers: int, chunks: int) -> None:
    if chunks > layers + 2:
        return
    dealt = deal([LayerKind()] * layers, chunks)
    assert sum(chunk.layers for chunk in dealt) == layers
    assert [chunk.embedding for chunk in dealt] == [True] + [False] * (chunks - 1)
    assert [chunk.loss for chunk in dealt] == [False] * (chunks - 1) + [True]
    counts = [chunk.layers for chunk in dealt]
    assert max(counts) - min(counts) <= 1


def test_llama_405b_on_128_chunks_gives_embedding_and_loss_a_place_each() -> None:
    counts = [chunk.layers for chunk in deal([LayerKind()] * 126, 128)]
    assert counts == [0] + [1] * 126 + [0]

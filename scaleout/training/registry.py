"""Schedules by name."""

from collections.abc import Callable, Iterable

from scaleout.errors import PlanError, SpecError, near
from scaleout.specs import Layout
from scaleout.training.dual_pipe import dual_pipe, dual_pipe_v
from scaleout.training.schedules import Placement, Schedule, Step, gpipe, interleaved, one_f_one_b
from scaleout.training.zero_bubble import zb_h1, zb_v

__all__ = ["SCHEDULES", "register_schedule", "schedule_of"]

_SHIPPED = (
    Schedule(name="gpipe", passes=gpipe),
    Schedule(name="1f1b", passes=one_f_one_b, chunks=1),
    Schedule(name="interleaved", passes=interleaved),
    Schedule(name="zb-h1", passes=zb_h1, chunks=1),
    Schedule(name="zb-v", passes=zb_v, placement="v", chunks=2),
    Schedule(name="dualpipe", passes=dual_pipe, placement="bidirectional", chunks=1),
    Schedule(name="dualpipe-v", passes=dual_pipe_v, placement="v", chunks=2),
)
SCHEDULES = {schedule.name: schedule for schedule in _SHIPPED}
"""Those that come along, and those of users."""


def register_schedule(
    name: str,
    passes: Callable[[int, int, int, int], Iterable[Step]],
    *,
    placement: Placement = "looped",
    chunks: int | None = None,
) -> Schedule:
    """Make a schedule of one's own known under a name that `layout.schedule` may give.

    Parameters
    ----------
    name, passes, placement, chunks
        See `Schedule`. A name may be registered again, which replaces what it stood for.

    Raises
    ------
    SpecError
        The name is that of a schedule that comes along, or the placement is unknown.
    """
    if any(name == schedule.name for schedule in _SHIPPED):
        raise SpecError(f"schedule {name}: comes along with scaleout; take another name")
    known = ("looped", "v", "bidirectional")
    if placement not in known:
        raise SpecError(f"schedule {name}: placement {placement!r:.40} is unknown; {near(str(placement), known)}")
    SCHEDULES[name] = Schedule(name=name, passes=passes, placement=placement, chunks=chunks)
    return SCHEDULES[name]


def schedule_of(layout: Layout) -> Schedule:
    """The schedule of a layout: what it names, otherwise 1F1B, interleaved where a stage has several chunks.

    Raises
    ------
    SpecError
        The name is unknown.
    PlanError
        The schedule is made for another number of chunks a stage, or of stages.
    """
    name = layout.schedule or ("interleaved" if layout.vpp > 1 else "1f1b")
    if name not in SCHEDULES:
        raise SpecError(f"layout.schedule: {name!r:.40} is unknown; {near(name, SCHEDULES)}")
    schedule = SCHEDULES[name]
    if schedule.chunks is not None and layout.vpp != schedule.chunks:
        raise PlanError(f"layout.vpp: schedule {name} is made for {schedule.chunks} a stage, not {layout.vpp}")
    if layout.pp == 1 and schedule.placement != "looped":
        raise PlanError(f"layout.pp: schedule {name} needs a pipeline (pp above 1)")
    return schedule

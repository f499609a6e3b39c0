"""Every algorithm by name; `register` adds a user's own."""

from dataclasses import replace
from functools import partial

from scaleout.arrays import Ints
from scaleout.collectives.algorithm import Algorithm, Task
from scaleout.collectives.bruck import bruck
from scaleout.collectives.directs import (
    direct_form,
    direct_schedule,
    one_shot,
    one_shot_form,
    pairwise,
    send_form,
    send_schedule,
)
from scaleout.collectives.doubling import (
    dissemination,
    halving_doubling,
    halving_form,
    recursive_doubling,
    swing,
    swing_form,
)
from scaleout.collectives.flat import direct, nvls, ring
from scaleout.collectives.goal import OPERATIONS
from scaleout.collectives.groups import rail_size
from scaleout.collectives.hierarchical import LEVELS, hierarchical
from scaleout.collectives.levels import hierarchical_schedule, one_level, pxn
from scaleout.collectives.rings import chain_form, ring_schedule
from scaleout.collectives.switches import nvls_schedule, sharp, sharp_form
from scaleout.collectives.torus import bucket, bucket_form, multi_ring, multi_ring_form, no_grid
from scaleout.collectives.trees import binomial, tree_form, tree_schedule
from scaleout.errors import WorkloadError, near
from scaleout.network.fabric import Fabric
from scaleout.network.pattern import Pattern

__all__ = ["ALGORITHMS", "algorithm", "register"]

_ROUND = ("all_reduce", "all_gather", "reduce_scatter")


def _ring_form(fabric: Fabric, groups: Ints, operation: str, protocol: str) -> Pattern:
    make = chain_form if operation in ("broadcast", "reduce") else ring
    return make(fabric, groups, operation, protocol)


def _levels_form(fabric: Fabric, groups: Ints, operation: str, protocol: str, *, name: str) -> Pattern:
    """`hierarchical`, or, as the schedule does, a flat ring where there are no two levels."""
    if 1 < rail_size(fabric, groups) < groups.shape[1]:
        return hierarchical(fabric, groups, operation, protocol, name)
    flat = ring(fabric, groups, operation, protocol)
    return replace(flat, algorithm=f"{name} (ring)/{protocol}")


def _no_switch(task: Task) -> str:
    return "" if task.group.switched else "no switch of its nodes could add"


def _not_one_switch(task: Task) -> str:
    several = len(set(task.group.node.tolist())) > 1
    return "its members lie in several nodes" if several else _no_switch(task)


def _no_switched_levels(task: Task) -> str:
    return one_level(task) or _no_switch(task)


ALGORITHMS: dict[str, Algorithm] = {
    one.name: one
    for one in (
        Algorithm(name="ring", operations=(*_ROUND, "broadcast", "reduce"), make=ring_schedule, form=_ring_form),
        Algorithm(
            name="direct",
            operations=(*_ROUND, "broadcast", "reduce", "gather", "scatter"),
            make=direct_schedule,
            form=direct_form,
        ),
        Algorithm(name="one-shot", operations=("all_reduce",), make=one_shot, form=one_shot_form),
        Algorithm(name="tree", operations=("all_reduce", "broadcast", "reduce"), make=tree_schedule, form=tree_form),
        Algorithm(name="binomial", operations=("broadcast", "reduce", "gather", "scatter"), make=binomial),
        Algorithm(name="recursive-doubling", operations=("all_reduce",), make=recursive_doubling),
        Algorithm(name="halving-doubling", operations=_ROUND, make=halving_doubling, form=halving_form),
        Algorithm(name="swing", operations=_ROUND, make=swing, form=swing_form),
        Algorithm(name="bruck", operations=("all_gather", "all_to_all"), make=bruck),
        Algorithm(
            name="pairwise",
            operations=("all_to_all",),
            make=pairwise,
            form=partial(direct, name="pairwise"),
        ),
        Algorithm(name="pairwise-steps", operations=("all_to_all",), make=partial(pairwise, steps=True)),
        Algorithm(name="pxn", operations=("all_to_all",), make=pxn, lacks=one_level),
        Algorithm(name="bucket", operations=_ROUND, make=bucket, form=bucket_form, lacks=no_grid),
        Algorithm(name="multi-ring", operations=_ROUND, make=multi_ring, form=multi_ring_form, lacks=no_grid),
        Algorithm(name="nvls", operations=("all_reduce",), make=nvls_schedule, form=nvls, lacks=_not_one_switch),
        Algorithm(name="sharp", operations=("all_reduce",), make=sharp, form=sharp_form, lacks=_no_switch),
        Algorithm(name="dissemination", operations=("barrier",), make=dissemination),
        Algorithm(name="send", operations=("send", "shift"), make=send_schedule, form=send_form),
        *(
            Algorithm(
                name=name,
                operations=_ROUND if name == "hierarchical" else ("all_reduce",),
                make=partial(hierarchical_schedule, name=name),
                form=partial(_levels_form, name=name),
                lacks=_no_switched_levels if name == "nvls-tree" else one_level,
            )
            for name in LEVELS
        ),
    )
}
"""Algorithms by the name under which libraries' protocols list them."""


def algorithm(name: str) -> Algorithm:
    """An algorithm by name.

    Raises
    ------
    WorkloadError
        There is none of this name.
    """
    if name not in ALGORITHMS:
        raise WorkloadError(f"unknown algorithm {name!r}; {near(name, ALGORITHMS)}")
    return ALGORITHMS[name]


def register(one: Algorithm) -> Algorithm:
    """Add an algorithm of one's own, under a name that is free.

    Raises
    ------
    WorkloadError
        The name is taken, or an operation is unknown.
    """
    if not isinstance(one, Algorithm):
        raise WorkloadError(f"{one!r:.60} is no Algorithm(name=, operations=, make=)")
    for operation in one.operations:
        if operation not in OPERATIONS:
            raise WorkloadError(
                f"algorithm {one.name!r}: unknown operation {operation!r}; {near(operation, OPERATIONS)}"
            )
    if one.name in ALGORITHMS:
        raise WorkloadError(f"algorithm {one.name!r} is there already; give yours a name of its own")
    ALGORITHMS[one.name] = one
    return one

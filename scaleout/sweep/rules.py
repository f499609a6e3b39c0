"""Named rules: they derive keys from others, or leave combinations out; ``docs/sweeps.md`` lists them."""

from collections.abc import Callable

import numpy as np

from scaleout.arrays import Bools, Ints
from scaleout.errors import SweepError, near
from scaleout.sweep.columns import Columns

__all__ = ["RULES", "Rule", "known_rules", "register_rule", "rule_of"]

Rule = Callable[[Columns], Bools | None]
"""Derives keys of many combinations, and says which of them stay; None: all."""
_TRAINING = (
    "fill-dp",
    "fill-chips",
    "divides",
    "tp-in-node",
    "interleave-fits",
    "sequence-parallel-with-tp",
    "ep-in-dp",
)


def _fill_dp(columns: Columns) -> Bools:
    """layout.dp is what chips leave after tp, cp and pp; left out where that is no whole number."""
    chips, taken = columns.whole("chips"), _taken(columns, "tp", "cp", "pp")
    fits = chips % taken == 0
    columns.derive("layout.dp", np.where(fits, chips // taken, 1))
    return np.asarray(fits)


def _fill_chips(columns: Columns) -> None:
    """Chips are the product of tp, cp, pp and dp."""
    columns.derive("chips", _taken(columns, "tp", "cp", "pp", "dp"))


def _taken(columns: Columns, *names: str) -> Ints:
    """Product of degrees; beyond any machine where it is beyond 10^12."""
    found = np.ones(len(columns), dtype=np.int64)
    for name in names:
        degree = columns.whole(f"layout.{name}", 1)
        found = np.where(found.astype(np.float64) * degree > 1e12, 10**12, found * degree)
    return found


def _divides(columns: Columns) -> Bools:
    """Leaves out layouts that do not divide model, batch, sequence, node or machine."""
    stays: Bools = columns.refusals() == 0
    return stays


def _tp_in_node(columns: Columns) -> Bools:
    """Tensor parallelism stays inside a node, and divides it."""
    node = columns.on_grounds(lambda ground: ground.system.chips_per_node)
    stays: Bools = (node == 0) | (np.maximum(node, 1) % columns.whole("layout.tp", 1) == 0)
    return stays


def _interleave_fits(columns: Columns) -> Bools:
    """Chunks (vpp above 1) have a pipeline, as many layers each, and rounds of as many micro-batches as stages."""
    pp, vpp = columns.whole("layout.pp", 1), columns.whole("layout.vpp", 1)
    layers = columns.on_grounds(lambda ground: ground.model.layers)
    chunks = np.minimum(pp.astype(np.float64) * vpp, 1e12).astype(np.int64)
    each = np.minimum(columns.whole("layout.dp", 1).astype(np.float64) * columns.whole("batch.micro", 1), 1e12)
    rounds = columns.whole("batch.global") // each.astype(np.int64) % pp == 0
    stays: Bools = (vpp == 1) | ((pp > 1) & (layers % chunks == 0) & rounds)
    return stays


def _sequence_parallel_with_tp(columns: Columns) -> None:
    """layout.sequence_parallel is on where tp is above 1."""
    columns.derive("layout.sequence_parallel", columns.whole("layout.tp", 1) > 1)


def _ep_in_dp(columns: Columns) -> Bools:
    """Experts are dealt out over data-parallel ranks alone: ep divides cp x dp."""
    ep, ranks = columns.whole("layout.ep", 1), _taken(columns, "cp", "dp")
    stays: Bools = ranks % ep == 0
    return stays


def _fill_replicas(columns: Columns) -> Bools:
    """Replicas of the first pool fill the chips that the base gives it; left out where they do not divide them."""
    base = columns.base_pool_chips()
    each = np.ones(len(columns), dtype=np.int64)
    for name in ("tp", "pp", "dp"):
        each = each * np.minimum(columns.whole(f"pools.0.{name}", 1), 10**6)
    fits: Bools = base % each == 0
    columns.derive("pools.0.replicas", np.where(fits, base // each, 1))
    return fits


RULES: dict[str, Rule] = {
    "fill-dp": _fill_dp,
    "fill-chips": _fill_chips,
    "divides": _divides,
    "tp-in-node": _tp_in_node,
    "interleave-fits": _interleave_fits,
    "sequence-parallel-with-tp": _sequence_parallel_with_tp,
    "ep-in-dp": _ep_in_dp,
    "fill-replicas": _fill_replicas,
}
"""Those that come along."""
_OF = {**dict.fromkeys(_TRAINING, "training"), "fill-replicas": "serving"}
_own: dict[str, Rule] = {}


def known_rules() -> dict[str, str]:
    """Every rule by name, in a sentence each."""
    return {name: (rule.__doc__ or "").strip().splitlines()[0] if rule.__doc__ else "" for name, rule in _all().items()}


def register_rule(name: str, rule: Rule) -> None:
    """Make a rule of one's own known by name, in this process.

    Parameters
    ----------
    rule
        Takes `Columns` of some combinations, may derive keys of them, and returns an array of booleans that says
        which stay, or None for all. It is called with some combinations at a time, and has to give of each what it
        would give of it alone.

    Raises
    ------
    SweepError
        The name is that of a rule that came along, or no function is given.

    Examples
    --------
    >>> from scaleout.sweep.rules import register_rule
    >>> register_rule("few-stages", lambda columns: columns.whole("layout.pp", 1) <= 4)
    """
    if name in RULES:
        raise SweepError(f"rule {name!r}: came along; give yours another name")
    if not callable(rule):
        raise SweepError(f"rule {name!r}: {rule!r:.60} is no function of columns")
    _own[name] = rule


def _all() -> dict[str, Rule]:
    return {**RULES, **_own}


def rule_of(name: str, kind: str) -> Rule:
    """A rule by name.

    Raises
    ------
    SweepError
        There is none of this name, or it says nothing of this kind of experiment.
    """
    found = _all().get(name)
    if found is None:
        raise SweepError(f"rules: unknown rule {name!r:.60}; {near(name, _all())}")
    if _OF.get(name, kind) != kind:
        raise SweepError(f"rules: {name}: is about {_OF[name]}, and the base is of kind {kind}; leave it out")
    return found

"""The facade of nets: an experiment in, a frozen result out."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from scaleout.errors import PlanError, SpecError
from scaleout.evaluate.cost import cost_assumptions, cost_of
from scaleout.evaluate.net_energy import batches_energy
from scaleout.evaluate.nets import BatchTime, Exchanger, Room, all_to_all, best_batch, net_seconds, room
from scaleout.evaluate.plant import power_words
from scaleout.hardware.formats import format_of
from scaleout.inferred import NetResult
from scaleout.models.nets import net_parameters
from scaleout.parallel.inference_kernels import measured
from scaleout.parallel.operators import PRECISIONS, gather_share, stands_for
from scaleout.parallel.tables import Dealt, deal
from scaleout.specs import NetExperiment
from scaleout.specs.fields import plain
from scaleout.units import describe

__all__ = ["run_net"]


class _Plan(NamedTuple):
    """Where tables are, and what exchanges their sums."""

    dealt: Dealt | None
    exchange: Exchanger | None


def run_net(experiment: NetExperiment) -> NetResult:
    """Time of a net's batches on the chips of an experiment: throughput, latency, and where the time goes.

    Raises
    ------
    PlanError
        It does not fit in HBM: the message says what would.
    SpecError
        The chip has no rate or no constants for the precision or for attention.
    """
    if not isinstance(experiment, NetExperiment):
        raise SpecError(f"{experiment!r:.80} is no experiment with a net; make one with scaleout.net_experiment()")
    plan = _plan(experiment)
    batch = _batch(experiment, plan)
    took = _time(experiment, plan, batch)
    chip, device = experiment.system.chip, took.device
    flop = sum(row.flop for row in took.breakdown)
    rate = chip.flops(format_of(PRECISIONS[experiment.precision].product).rate)
    alone = experiment.scenario != "offline"
    bound: dict[str, float] = {}
    for row in took.breakdown:
        bound[row.bound] = bound.get(row.bound, 0.0) + row.seconds / device
    held = _room(experiment, plan, batch)
    span = took.latency if alone else took.period
    energy = batches_energy(experiment, took, batch, span)
    return NetResult(
        name=f"{experiment.net.name} on {experiment.chips:,} x {chip.name}, {experiment.scenario}",
        sample=experiment.net.sample,
        chips=experiment.chips,
        batch=batch,
        samples_per_second=experiment.chips * batch / span,
        latency=took.latency,
        first=took.once + took.host,
        token=took.each,
        device=device,
        breakdown=took.breakdown,
        bound=dict(sorted(bound.items())),
        flops_share=flop / device / rate,
        memory={**held.parts, "free": held.free - sum(held.parts.values())},
        experiment=_setting(experiment, plan),
        published=_published(experiment),
        assumptions=(
            *_assumptions(experiment, plan),
            *(row._asdict() for row in power_words(chip, experiment.system)),
            *map(plain, cost_assumptions(experiment, energy)),
        ),
        energy=energy,
        cost=cost_of(experiment, span, float(experiment.chips * batch), energy),
        warnings=_warnings(experiment),
    )


def _plan(experiment: NetExperiment) -> _Plan:
    """Copies of all tables where they fit on a chip, or what was asked for."""
    net, chips = experiment.net.dlrm, experiment.chips
    if net is None or experiment.placement == "copies" or (chips == 1 and experiment.placement == "auto"):
        return _Plan(None, None)
    if experiment.placement == "auto" and _room(experiment, _Plan(None, None), 1).fits:
        return _Plan(None, None)
    if chips == 1:
        raise PlanError("placement: tables are dealt out over chips, and there is one; take more chips")
    return _Plan(deal(net, chips), all_to_all(experiment.system, chips))


def _batch(experiment: NetExperiment, plan: _Plan) -> int:
    """Samples that a chip works on at a time."""
    one = _room(experiment, plan, 1)
    if not one.fits:
        raise PlanError(
            f"{experiment.net.name}: does not fit in HBM even with one sample: {one.words()}{_advice(plan)}"
        )
    if experiment.scenario == "single-stream":
        return 1
    wanted = experiment.streams if experiment.scenario == "multi-stream" else experiment.batch
    if wanted is None:
        return best_batch(
            lambda batch: _time(experiment, plan, batch), lambda batch: _room(experiment, plan, batch).fits
        )
    held = _room(experiment, plan, wanted)
    if not held.fits:
        raise PlanError(f"batch: {wanted} samples do not fit in HBM: {held.words()}")
    return wanted


def _advice(plan: _Plan) -> str:
    return "" if plan.dealt else "; with more chips, tables may be dealt out: placement=sharded"


def _time(experiment: NetExperiment, plan: _Plan, batch: int) -> BatchTime:
    return net_seconds(
        experiment.net, experiment.system.chip, experiment.engine, experiment.precision, batch,
        tables=experiment.tables, dealt=plan.dealt, exchange=plan.exchange,
    )  # fmt: skip


def _room(experiment: NetExperiment, plan: _Plan, batch: int) -> Room:
    return room(
        experiment.net, experiment.system.chip, experiment.engine, experiment.precision, batch,
        tables=experiment.tables, dealt=plan.dealt,
    )  # fmt: skip


def _setting(experiment: NetExperiment, plan: _Plan) -> dict[str, Any]:
    found = {
        "system": experiment.system.name, "chips": experiment.chips, "net": experiment.net.name,
        "family": experiment.net.family, "engine": f"{experiment.engine.name} {experiment.engine.version}",
        "precision": experiment.precision, "scenario": experiment.scenario,
        "settings": list(experiment.settings), "facility": experiment.facility.name if experiment.facility else None,
    }  # fmt: skip
    if experiment.net.dlrm is not None:
        found |= {"tables": experiment.tables, "placement": "sharded" if plan.dealt else "copies"}
    return found


def _published(experiment: NetExperiment) -> dict[str, Any]:
    told = experiment.published
    if told is None or any(not one.startswith("published") for one in experiment.settings):
        # of what was changed nobody measured anything
        return {}
    figure, unit = (told.latency, "s") if told.latency else (told.samples_per_second, "1/s")
    return {"figure": figure, "unit": unit, "source": told.source}


def _row(name: str, value: str, source: str, verified: bool) -> dict[str, Any]:
    return {"name": name, "value": value, "source": source, "verified": verified}


def _doubts(unverified: Sequence[str]) -> str:
    return f" (unverified: {', '.join(unverified)})" if unverified else ""


def _assumptions(experiment: NetExperiment, plan: _Plan) -> tuple[dict[str, Any], ...]:
    """Constants of net, chip and engine, and what the model leaves out."""
    net, chip, engine = experiment.net, experiment.system.chip, experiment.engine
    product = PRECISIONS[experiment.precision].product
    lent = stands_for(chip, product)
    rows = [
        _row("overridden", one, "--set, in place of what the file or its source says", False)
        for one in experiment.settings
    ]
    rows.append(
        _row(
            f"net {net.name}",
            f"{net_parameters(net):,.0f} parameters{_doubts(net.unverified)}",
            net.source,
            not net.unverified,
        )
    )
    constants = lent.gemm.get(product)
    if constants is not None:
        own = measured(chip, product)
        rows.append(
            _row(
                f"{chip.name}: products",
                f"{constants.compute_efficiency:.0%} of peak, {constants.hbm_efficiency:.0%} of HBM bandwidth"
                + ("" if own else f"; those of bf16, at the rate and bytes of {experiment.precision}"),
                constants.source,
                own and "gemm" not in chip.unverified,
            )
        )
    rows += [
        _row(
            f"engine {engine.name} {engine.version}",
            f"{describe(engine.kernel_gap, 's')} between kernels, {describe(engine.elementwise_launch, 's')} and "
            f"{engine.elementwise_efficiency:.0%} of HBM bandwidth of a pass, {describe(engine.step_overhead, 's')} "
            f"of the host a batch{_doubts(engine.unverified)}",
            engine.source,
            not engine.unverified,
        ),
        _row(
            "data sets", "samples are alike, of the mean size; reading and preparing them takes no time",
            "docs/nets.md", False,
        ),
    ]  # fmt: skip
    if net.dlrm is not None:
        rows.append(
            _row(
                "lookups",
                f"{gather_share(chip):.0%} of HBM bandwidth for rows at random places, none of them hot",
                "docs/nets.md",
                False,
            )
        )
    if plan.dealt is not None:
        rows.append(_row("tables", "whole, or cut by columns, the busiest first", "docs/nets.md", True))
    return tuple(rows)


def _warnings(experiment: NetExperiment) -> tuple[str, ...]:
    """What the reader should know first."""
    found = []
    chip, product = experiment.system.chip, PRECISIONS[experiment.precision].product
    if not measured(chip, product):
        found.append(
            f"no product in {experiment.precision} was measured on {chip.name}: constants of bf16, at the "
            "precision's own rate and bytes"
        )
    if experiment.net.resnet or experiment.net.detector or experiment.net.unet3d:
        found.append("shapes of convolutions are beyond those that products were measured on (docs/nets.md)")
    return tuple(found)

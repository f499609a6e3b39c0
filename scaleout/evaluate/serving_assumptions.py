"""What a result of serving rests on, with sources, and what it does not know."""

from collections.abc import Sequence
from typing import Any

from scaleout.evaluate.plant import power_words
from scaleout.hardware.formats import SAME_UNITS
from scaleout.hardware.table import told_tables
from scaleout.models import parameters
from scaleout.parallel.inference import stand_ins
from scaleout.parallel.inference_kernels import measured
from scaleout.serving.room import Room
from scaleout.specs import ServingExperiment
from scaleout.units import describe

__all__ = ["serving_assumptions"]


def _row(name: str, value: str, source: str, verified: bool = True) -> dict[str, Any]:
    return {"name": name, "value": value, "source": source, "verified": verified}


def serving_assumptions(spec: ServingExperiment, rooms: Sequence[Room]) -> tuple[dict[str, Any], ...]:
    """Constants of model, chips, engine and system, and what the model leaves out."""
    system, engine, model = spec.system, spec.engine, spec.model
    rows = [
        _row("overridden", one, "--set, in place of what the file or its source says", False) for one in spec.settings
    ]
    rows.append(_row(f"model {model.name}", f"{parameters(model):,} parameters", model.source))
    chips = {chip.name: chip for chip in (pool.chip or system.chip for pool in spec.pools)}
    for chip in chips.values():
        kin = SAME_UNITS.get(spec.precision, spec.precision)
        constants = chip.gemm.get(spec.precision) or chip.gemm.get(kin) or chip.gemm.get("bf16")
        if constants is not None:
            rows.append(
                _row(
                    f"{chip.name}: matrix multiplication",
                    f"{constants.compute_efficiency:.0%} of peak, {constants.hbm_efficiency:.0%} of HBM bandwidth",
                    constants.source,
                    _checked("gemm", chip.unverified) and measured(chip, spec.precision),
                )
            )
        rows += [
            _row(f"{chip.name}: {name}", words, f"a table of the user's own, SHA-256 {digest[:12]}")
            for name, words, digest in told_tables(chip)
        ]
        rows.append(
            _row(
                f"{chip.name}: HBM",
                f"{describe(chip.hbm_bytes, 'byte')} at {describe(chip.hbm_bandwidth, 'byte/s')}",
                chip.source,
                _checked("hbm_bandwidth", chip.unverified),
            )
        )
        rows += [
            _row(f"{chip.name}: not measured", words, "docs/steps.md", False)
            for words in stand_ins(model, chip, spec.precision, spec.cache.dtype)
        ]
        rows += [_row(*words) for words in power_words(chip, system)]
    members = max((str(pool.tp) for pool in spec.pools), key=int)
    own = max(engine.one_shot.get(members, 0.0), engine.two_shot.get(members, 0.0))
    rows += [
        _row(
            f"engine {engine.name} {engine.version}",
            f"{describe(engine.kernel_gap, 's')} between kernels; host: {describe(engine.step_overhead, 's')} a step "
            f"and {describe(engine.sequence_overhead, 's')} a sequence"
            + (", beside the step before" if engine.overlapped else "")
            + _doubts(engine.unverified),
            engine.source,
            not engine.unverified,
        ),
        _row(
            "KV cache",
            "; ".join(f"{room.blocks:,} blocks of {room.block_tokens} tokens a rank" for room in rooms)
            + f", {engine.memory_share:.0%} of HBM {'in all' if engine.memory_rule == 'total' else 'of what is free'}",
            engine.source,
        ),
        _row(f"{system.name}: links", _links(spec) + _doubts(system.unverified), system.source, not system.unverified),
        _row(
            f"{system.library.name} {system.library.version}",
            f"all-reduce below {describe(own, 'byte')} in a node by the engine itself"
            if own else "all messages",
            system.library.source,
            _checked("library", system.unverified),
        ),
        _row(
            "cached tokens",
            "the time of a step knows them to 1.6 %, rounded up",
            "docs/steps.md",
        ),
        _row(
            "replies",
            "as long as the trace or the draw says: no early end, no client who leaves, no tokeniser",
            "docs/serving.md: what is not modelled",
            False,
        ),
    ]  # fmt: skip
    if model.experts is not None:
        words = "each token's experts are drawn anew"
        rows.append(_row("routing", f"{words}; skew {spec.routing.skew:g}", "docs/steps.md", False))
    if spec.speculation is not None:
        words = f"{spec.speculation.acceptance:.0%} of drafted tokens are taken, each on its own"
        rows.append(_row("speculation", words, "the experiment", False))
    return tuple(rows)


def _links(spec: ServingExperiment) -> str:
    up, net = spec.system.scale_up, spec.system.network
    port = f"{describe(net.payload, 'byte/s')} a network port" if net.payload else "no network"
    return f"{describe(up.payload, 'byte/s')} in the node, {port}"


def _doubts(unverified: Sequence[str]) -> str:
    return f" (unverified: {', '.join(unverified)})" if unverified else ""


def _checked(name: str, unverified: Sequence[str]) -> bool:
    # all of it, a part of it, or what it is a part of
    return not any(f"{item}.".startswith(f"{name}.") or name.startswith(f"{item}.") for item in unverified)

"""What a training result rests on, with sources, for the reader of the result."""

from scaleout.evaluate.event import Recording
from scaleout.models import parameters
from scaleout.result import Assumption
from scaleout.training.stages import deal
from scaleout.units import describe

__all__ = ["assumptions"]


def assumptions(recording: Recording) -> tuple[Assumption, ...]:
    """Constants of chip, stack and system, chosen algorithms, and what the model leaves out."""
    spec = recording.experiment
    chip, stack, system = spec.system.chip, spec.stack, spec.system
    gemm = chip.gemm.get(spec.precision) or chip.gemm["bf16"]
    attention = chip.attention.get(stack.attention)
    prefill = attention.for_prefill("bf16") if attention else None

    def checked(name: str, unverified: tuple[str, ...]) -> bool:
        return not any(item == name or item.startswith(f"{name}.") for item in unverified)

    rows = [
        Assumption(f"model {spec.model.name}", f"{parameters(spec.model):,} parameters", spec.model.source),
        Assumption(
            f"{chip.name}: {spec.precision} peak",
            describe(chip.flops(spec.precision), "flop/s"),
            chip.source,
            checked("peak_flops", chip.unverified),
        ),
        Assumption(
            f"{chip.name}: matrix multiplication",
            f"{gemm.compute_efficiency:.0%} of peak in bursts, {gemm.hbm_efficiency:.0%} of HBM bandwidth",
            gemm.source,
            checked("gemm", chip.unverified),
        ),
        Assumption(
            f"{chip.name}: sustained clock",
            f"long runs hold {describe(chip.sustained[spec.precision], 'flop/s')}"
            if spec.precision in chip.sustained else "no limit below that of short bursts",
            chip.sustained_source or "not given",
            checked("sustained", chip.unverified),
        ),
        Assumption(
            f"{chip.name}: {stack.attention}",
            f"{prefill.efficiency:.0%} of peak, backward {prefill.backward:g}x that"
            if prefill
            else "products and passes over scores in HBM",
            attention.source if attention else gemm.source,
            checked("attention", chip.unverified),
        ),
        Assumption(
            f"stack {stack.name} {stack.version}",
            f"{describe(stack.kernel_gap, 's')} between kernels, elementwise passes at "
            f"{stack.elementwise_efficiency:.0%} of HBM bandwidth, tensor-parallel collectives "
            f"{'overlapped' if stack.overlap_tensor_parallel else 'not overlapped'} backward",
            stack.source,
            not stack.unverified,
        ),
        Assumption(
            f"{system.name}: links",
            f"{describe(system.scale_up.bandwidth * system.scale_up.efficiency, 'byte/s')} in the node, "
            f"{describe(system.network.bandwidth * system.network.efficiency, 'byte/s')} a network port",
            system.source,
            not system.unverified,
        ),
        Assumption(
            f"{system.library.name} {system.library.version}", _algorithms(recording), system.library.source,
            checked("library", system.unverified),
        ),
        Assumption(
            "layers",
            _dealt(recording),
            "layers are dealt evenly; embedding and loss take a layer's place where that evens it out",
        ),
        Assumption(
            "routing",
            f"adaptive, spread evenly over parallel switches; oversubscription {system.network.oversubscription:g}",
            "docs/network.md: hashing flows onto single paths may collide",
            verified=False,
        ),
        Assumption(
            "overlap",
            "a collective beside a kernel slows neither (no contention for cores, HBM or power)",
            "docs/training.md: 10 to 25 % of the overlapped time is left out",
            verified=False,
        ),
    ]  # fmt: skip
    overridden = [
        Assumption("overridden", setting, "--set, in place of what the file or its source says", verified=False)
        for setting in spec.settings
    ]
    return (*overridden, *rows)


def _algorithms(recording: Recording) -> str:
    """Which algorithm each kind of message took."""
    job = recording.job
    taken: dict[str, set[str]] = {}
    for transfer in recording.wiring.transfers.values():
        message = job.messages[transfer.message]
        if message.operation != "send":
            taken.setdefault(f"{message.family} {message.operation}", set()).add(transfer.algorithm)
    return "; ".join(f"{name} by {' or '.join(sorted(found))}" for name, found in sorted(taken.items())) or "none used"


def _dealt(recording: Recording) -> str:
    spec = recording.experiment
    chunks = deal(spec.model.layers, spec.layout.pp * spec.layout.vpp)
    counts = sorted({chunk.layers for chunk in chunks})
    ends = f"first {chunks[0].layers} with the embedding, last {chunks[-1].layers} with the loss"
    return f"{spec.model.layers} on {len(chunks)} chunks of {' or '.join(map(str, counts))} ({ends})"

"""What a training result rests on, with sources, for the reader of the result."""

from scaleout.engine.program import TICKS_PER_SECOND
from scaleout.evaluate.event import Recording
from scaleout.evaluate.plant import power_words
from scaleout.hardware.formats import format_of
from scaleout.hardware.gemm import gemm_constants
from scaleout.hardware.table import told_tables
from scaleout.models import parameters
from scaleout.parallel.routing import busiest
from scaleout.result import Assumption
from scaleout.specs import Chip, Stack, System, TrainingExperiment
from scaleout.training.stages import chunks_of
from scaleout.units import describe

__all__ = ["assumptions"]

_CONTENTION = {
    "none": "a transfer beside a kernel slows neither (no contention for cores, HBM or power)",
    "cores": "transfers hold cores, which slows kernels beside them",
    "hbm": "transfers take of HBM's rate, which slows kernels beside them",
    "all": "transfers hold cores and take of HBM's rate, which slows kernels beside them; no transfer is slowed",
}


def _tables(chip: Chip) -> list[Assumption]:
    """Measurements of the user's own."""
    return [
        Assumption(f"{chip.name}: {name}", words, f"a table of the user's own, SHA-256 {digest[:12]}")
        for name, words, digest in told_tables(chip)
    ]


def assumptions(spec: TrainingExperiment, recording: Recording | None = None) -> tuple[Assumption, ...]:
    """Constants of chip, stack and system, chosen algorithms, and what the model leaves out.

    Parameters
    ----------
    recording
        Of the event evaluator; the analytic one has none.
    """
    chip, stack, system = spec.system.chip, spec.stack, spec.system
    gemm, rate = gemm_constants(chip, spec.precision), format_of(spec.precision).rate
    attention = chip.attention.get(stack.attention)
    prefill = attention.for_prefill("bf16") if attention else None

    def checked(name: str, unverified: tuple[str, ...]) -> bool:
        # all of it, a part of it, or what it is a part of
        return not any(f"{item}.".startswith(f"{name}.") or name.startswith(f"{item}.") for item in unverified)

    rows = [
        Assumption(f"model {spec.model.name}", f"{parameters(spec.model):,} parameters", spec.model.source),
        Assumption(
            f"{chip.name}: {spec.precision} peak",
            describe(chip.flops(rate), "flop/s"),
            chip.source,
            checked("peak_flops", chip.unverified),
        ),
        Assumption(
            f"{chip.name}: matrix multiplication",
            f"{gemm.compute_efficiency:.0%} of peak in bursts, {gemm.hbm_efficiency:.0%} of HBM bandwidth",
            gemm.source,
            checked("gemm", chip.unverified),
        ),
        *_tables(chip),
        Assumption(
            f"{chip.name}: long runs",
            f"at most {describe(chip.sustained[rate], 'flop/s')} under the power cap"
            if rate in chip.sustained else "not slower than short bursts",
            chip.sustained_source or "not given",
            checked("sustained", chip.unverified),
        ),
        Assumption(
            f"{chip.name}: {stack.attention}",
            f"{prefill.efficiency:.0%} of peak, backward {prefill.backward:g}x that"
            if prefill
            else "products and passes over scores in HBM",
            attention.source if attention else gemm.source,
            checked(f"attention.{stack.attention}" if attention else "gemm", chip.unverified),
        ),
        Assumption(
            f"stack {stack.name} {stack.version}",
            _stack(stack),
            stack.source,
            not stack.unverified,
        ),
        Assumption(
            f"{system.name}: links",
            _links(system),
            system.source,
            not system.unverified,
        ),
        Assumption(
            f"{system.library.name} {system.library.version}", _algorithms(recording), system.library.source,
            checked("library", system.unverified),
        ),
        Assumption(
            "layers",
            _dealt(spec),
            "layers are dealt evenly; embedding and loss take a layer's place where that evens it out"
            if stack.stages == "balanced" else "every chunk takes as many as the fullest must, the last what is left",
        ),
        Assumption(
            "routing",
            _routing(system),
            "docs/network.md: hashing flows onto single paths may collide",
            verified=False,
        ),
        Assumption(
            "overlap",
            _CONTENTION[spec.contention],
            "docs/contention.md: 10 to 25 % of the time of kernels beside transfers, in published measurements",
            verified=False,
        ),
    ]  # fmt: skip
    rows += [Assumption(*words) for words in power_words(chip, system)]
    if spec.offload.any and system.host is not None:
        out = ("activations", "optimizer", "parameters")
        shares = ", ".join(
            f"{getattr(spec.offload, name):.0%} of {name}" for name in out if getattr(spec.offload, name)
        )
        rows.append(
            Assumption(
                f"{system.name}: host",
                f"{shares} in its memory, {describe(system.host.payload, 'byte/s')} a link to it"
                if system.host.payload
                else f"{shares} in its memory, over the links of the node",
                system.host.source,
                checked("host", system.unverified),
            )
        )
    for other in spec.others:
        words = f"ranks {other.first} to {other.first + other.count - 1}, on the links of {system.name}"
        rows.append(Assumption(f"other chips: {other.chip.name}", words, other.chip.source, not other.chip.unverified))
    if spec.model.experts is not None:
        rows.append(
            Assumption(
                "experts",
                f"every rank computes as long as the busiest, {busiest(spec):.3g} times the even share",
                "docs/layers.md: within a rank each of its experts gets as many tokens",
                verified=False,
            )
        )
    if spec.faults:
        rows.append(
            Assumption(
                "faults",
                _faults(spec, recording),
                "docs/faults.md: found at once, each message keeps its algorithm, nothing is sent twice",
                verified=False,
            )
        )
    overridden = [
        Assumption("overridden", setting, "--set, in place of what the file or its source says", verified=False)
        for setting in spec.settings
    ]
    return (*overridden, *rows)


def _faults(spec: TrainingExperiment, recording: Recording | None) -> str:
    """What is struck, and whether the step is over before."""
    end = recording.timeline.end / TICKS_PER_SECOND if recording else float("inf")
    return "; ".join(f"{fault}{' (the step is over before)' if fault.at >= end else ''}" for fault in spec.faults)


def _links(system: System) -> str:
    """Rates of links in the node and of ports."""
    up, net = system.scale_up, system.network
    inside = f"{describe(up.payload, 'byte/s')} in the node"
    port = f"{describe(net.payload, 'byte/s')} a network port" if net.payload else "no network"
    return f"{inside}, {port}"


def _routing(system: System) -> str:
    """How flows are spread, and where the network narrows."""
    net = system.network
    words = f"adaptive, spread evenly over parallel switches; oversubscription {net.oversubscription:g}"
    return words + (f", {net.pod_oversubscription:g} above pods" if net.kind == "clos" else "")


def _stack(stack: Stack) -> str:
    """What it costs, and what runs beside kernels and what blocks them."""
    kinds = {
        "tensor-parallel collectives backward": stack.overlap_tensor_parallel,
        "gathers of parameters": stack.overlap_parameter_gather,
        "reductions of gradients": stack.overlap_gradient_reduction,
        "sends": stack.overlap_sends,
    }
    overlapped, blocking = ([name for name, beside in kinds.items() if beside is on] for on in (True, False))
    words = [f"{describe(stack.kernel_gap, 's')} between kernels"]
    if stack.host_launch:
        words.append(f"{describe(stack.host_launch, 's')} of the host for each")
    if stack.host_launch_experts:
        words.append(f"{describe(stack.host_launch_experts, 's')} in layers of experts")
    words.append(f"elementwise passes at {stack.elementwise_efficiency:.0%} of HBM bandwidth")
    words += [
        f"{', '.join(names)}: {how}" for names, how in ((overlapped, "beside kernels"), (blocking, "blocking")) if names
    ]
    return "; ".join(words)


def _algorithms(recording: Recording | None) -> str:
    """Which algorithm each kind of message took."""
    if recording is None:
        return "of each message by the fastest, alone"
    job = recording.job
    taken: dict[str, set[str]] = {}
    for index, algorithm in recording.wiring.algorithms.items():
        message = job.messages[index]
        if message.operation != "send":
            taken.setdefault(f"{message.family} {message.operation}", set()).add(algorithm)
    return "; ".join(f"{name} by {' or '.join(sorted(found))}" for name, found in sorted(taken.items())) or "none used"


def _dealt(spec: TrainingExperiment) -> str:
    chunks = chunks_of(spec)
    counts = sorted({chunk.layers for chunk in chunks})
    ends = f"first {chunks[0].layers} with the embedding, last {chunks[-1].layers} with the loss"
    return f"{spec.model.layers} on {len(chunks)} chunks of {' or '.join(map(str, counts))} ({ends})"

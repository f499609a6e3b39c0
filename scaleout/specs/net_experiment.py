"""A net, run over and over on some chips."""

from dataclasses import dataclass
from typing import Literal

from scaleout.errors import SpecError
from scaleout.specs.facility import Facility
from scaleout.specs.fields import check_fields
from scaleout.specs.inference import InferenceEngine
from scaleout.specs.net import Net
from scaleout.specs.system import System
from scaleout.units import Count, Positive, Seconds

__all__ = ["Measured", "NetExperiment"]

NetPrecision = Literal["fp32", "bf16", "fp16", "fp8", "int8", "w8a16", "w4a16"]
TableDtype = Literal["fp32", "fp16", "bf16", "fp8", "int8"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """What somebody measured of the same run; exactly one figure.

    Parameters
    ----------
    samples_per_second
        Of all chips [1/s].
    latency
        Of a query [s].
    source
        Where it was published.
    """

    samples_per_second: Positive | None = None
    latency: Seconds | None = None
    source: str

    def __post_init__(self) -> None:
        check_fields(self)
        if (self.samples_per_second is None) == (self.latency is None) or self.latency == 0:
            raise SpecError("published: expected one of samples_per_second and latency, above 0")


@dataclass(frozen=True, slots=True, kw_only=True)
class NetExperiment:
    """A net, run over and over on some chips.

    Parameters
    ----------
    chips
        Every chip has a copy of the net; large tables may be dealt out over them (`placement`).
    precision
        Of the products; activations between kernels have 8 bits with fp8 and int8, else 16 (fp32: 32).
    scenario
        "offline": all samples are there, throughput counts. "single-stream": on every chip one sample after the
        other, latency counts. "multi-stream": queries of `streams` samples, one after the other.
    batch
        Samples that a chip works on at a time; None tries powers of two for the highest throughput. Of offline
        alone: the other scenarios say how many there are.
    tables
        Dtype of embedding tables.
    placement
        "copies": every chip holds all tables; "sharded": they are dealt out; "auto": copies where they fit.
    published
        What somebody measured of it.
    facility
        Where the machine stands: what power costs and what it is paid off over. None: no cost is worked out.
    settings
        Overrides ``key=value`` that were carried out, for the record.
    """

    kind: Literal["inference"] = "inference"
    system: System
    chips: Count = 1
    net: Net
    engine: InferenceEngine
    precision: NetPrecision = "fp16"
    scenario: Literal["offline", "single-stream", "multi-stream"] = "offline"
    batch: Count | None = None
    streams: Count = 8
    tables: TableDtype = "fp16"
    placement: Literal["auto", "copies", "sharded"] = "auto"
    published: Measured | None = None
    facility: Facility | None = None
    settings: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        check_fields(self)
        if self.scenario != "offline" and self.batch is not None:
            raise SpecError(
                f"scenario: {self.scenario} says itself how many samples there are at a time; leave out batch, or "
                "set it to null"
            )
        if self.net.dlrm is None and self.placement == "sharded":
            raise SpecError(f"placement: {self.net.name} has no tables that could be dealt out; leave it out")

"""Specs: what a chip, a system, a model, a layout, an experiment *is*. Frozen, in SI units."""

from scaleout.specs.attention import AttentionConstants, DecodeConstants, PrefillConstants
from scaleout.specs.chip import Chip
from scaleout.specs.design import Design, Memory, TensorUnit
from scaleout.specs.elementwise import ElementwiseConstants
from scaleout.specs.energy import EnergyConstants
from scaleout.specs.experiment import MODULES, Offload, Others, Routing, Slow, TrainingExperiment
from scaleout.specs.facility import Facility, NodeCosts
from scaleout.specs.faults import Fault
from scaleout.specs.fields import FrozenDict
from scaleout.specs.gemm import GemmConstants, GroupedConstants, QuantiseConstants, SparseConstants
from scaleout.specs.inference import POLICIES, InferenceEngine, Policy
from scaleout.specs.kernels import KernelTable
from scaleout.specs.layout import Batch, Layout
from scaleout.specs.model import Experts, Latent, LinearAttention, Model
from scaleout.specs.moe import MoeKernel, MoeLibrary
from scaleout.specs.net import Net
from scaleout.specs.net_experiment import NetExperiment
from scaleout.specs.published import Published
from scaleout.specs.requests import FORMS, Arrivals, Length, Requests, TraceRow
from scaleout.specs.serving import Cache, Failure, Pool, Router, Scheduler, ServingExperiment, Slo, Speculation
from scaleout.specs.silicon import Interface, KnownDie, MemoryKind, Process, Silicon
from scaleout.specs.stack import Stack
from scaleout.specs.stream import StreamExperiment, StreamSource, StreamStage
from scaleout.specs.system import ALGORITHMS, CollectiveLibrary, Host, Launch, Network, Protocol, ScaleUp, System
from scaleout.specs.systolic import SystolicConstants
from scaleout.specs.tuner import Tuner

__all__ = [
    "ALGORITHMS",
    "FORMS",
    "MODULES",
    "POLICIES",
    "Arrivals",
    "AttentionConstants",
    "Batch",
    "Cache",
    "Chip",
    "CollectiveLibrary",
    "DecodeConstants",
    "Design",
    "ElementwiseConstants",
    "EnergyConstants",
    "Experts",
    "Facility",
    "Failure",
    "Fault",
    "FrozenDict",
    "GemmConstants",
    "GroupedConstants",
    "Host",
    "InferenceEngine",
    "Interface",
    "KernelTable",
    "KnownDie",
    "Latent",
    "Launch",
    "Layout",
    "Length",
    "LinearAttention",
    "Memory",
    "MemoryKind",
    "Model",
    "MoeKernel",
    "MoeLibrary",
    "Net",
    "NetExperiment",
    "Network",
    "NodeCosts",
    "Offload",
    "Others",
    "Policy",
    "Pool",
    "PrefillConstants",
    "Process",
    "Protocol",
    "Published",
    "QuantiseConstants",
    "Requests",
    "Router",
    "Routing",
    "ScaleUp",
    "Scheduler",
    "ServingExperiment",
    "Silicon",
    "Slo",
    "Slow",
    "SparseConstants",
    "Speculation",
    "Stack",
    "StreamExperiment",
    "StreamSource",
    "StreamStage",
    "System",
    "SystolicConstants",
    "TensorUnit",
    "TraceRow",
    "TrainingExperiment",
    "Tuner",
]

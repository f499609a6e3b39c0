"""Simulate LLM training and serving on many accelerators: time, memory, and what bounds them.

    import scaleout

    spec = scaleout.experiment("llama-3.1-405b-16k", ("layout.vpp=4",))
    result = scaleout.simulate(spec)

    spec = scaleout.serving_experiment("llama3-70b-poisson", ("requests.arrivals.rate=4",))
    result = scaleout.serve(spec)

    spec = scaleout.net_experiment("resnet-50-h200", ("precision=fp16",))
    result = scaleout.run_net(spec)

    spec = scaleout.stream_experiment("driving-stack", ("duration=5 s",))
    result = scaleout.run_stream(spec)

    results = scaleout.load_sweep("layouts").run(store="results/layouts")
    plan = scaleout.plan_training("llama-3.1-8b", tokens=2e12, days=30)

Names are imported when they are first used, so that ``import scaleout`` is cheap.
"""

import sys
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from scaleout.architect.elasticity import Elasticities, elasticities
    from scaleout.architect.variants import Variants, variants
    from scaleout.capacity import Capacity, capacity
    from scaleout.chip_report import ChipReport, chip_report
    from scaleout.collective import CollectiveTable, collective_table
    from scaleout.comparison import Comparison, compare
    from scaleout.compression import compress
    from scaleout.errors import (
        MeasurementError,
        PlanError,
        ScaleoutError,
        SpecError,
        SweepError,
        TopologyError,
        WorkloadError,
    )
    from scaleout.evaluate.cost import run_of
    from scaleout.infer import run_net
    from scaleout.inferred import NetResult
    from scaleout.io.catalogue import list_names, load, schema
    from scaleout.io.experiments import experiment, net_experiment, serving_experiment, stream_experiment
    from scaleout.io.graphs import from_networkx, load_topology, read_topology, write_topology
    from scaleout.io.huggingface import read_huggingface
    from scaleout.io.serving import serve
    from scaleout.planning.plan import Plan
    from scaleout.planning.serve import plan_serving
    from scaleout.planning.train import plan_training
    from scaleout.report.html.page import report_page, write_report
    from scaleout.report.html.plan_page import plan_page
    from scaleout.result import Result
    from scaleout.scaling import Scaling, scaling_table
    from scaleout.served import Served
    from scaleout.simulate import record, simulate
    from scaleout.space import Outcomes, analyse_many, design_space
    from scaleout.specs import (
        Arrivals,
        Batch,
        Cache,
        Chip,
        Facility,
        Failure,
        Fault,
        InferenceEngine,
        Layout,
        Length,
        Model,
        Net,
        NetExperiment,
        Pool,
        Requests,
        Router,
        Routing,
        Scheduler,
        ServingExperiment,
        Slo,
        Slow,
        Speculation,
        Stack,
        StreamExperiment,
        StreamSource,
        StreamStage,
        System,
        TrainingExperiment,
    )
    from scaleout.stragglers import Stragglers, straggler_table
    from scaleout.stream import record_stream, run_stream
    from scaleout.streamed import StreamResult
    from scaleout.sweep.files import load_sweep
    from scaleout.sweep.results import SweepResults, results_of
    from scaleout.sweep.rules import register_rule
    from scaleout.sweep.spec import Stage, Sweep
    from scaleout.training.registry import register_schedule
    from scaleout.training.schedules import Pass
    from scaleout.validation.kinds import validate

_HOMES = {
    "scaleout.architect.elasticity": ("Elasticities", "elasticities"),
    "scaleout.architect.variants": ("Variants", "variants"),
    "scaleout.capacity": ("Capacity", "capacity"),
    "scaleout.chip_report": ("ChipReport", "chip_report"),
    "scaleout.collective": ("CollectiveTable", "collective_table"),
    "scaleout.comparison": ("Comparison", "compare"),
    "scaleout.compression": ("compress",),
    "scaleout.errors": (
        "MeasurementError",
        "PlanError",
        "ScaleoutError",
        "SpecError",
        "SweepError",
        "TopologyError",
        "WorkloadError",
    ),
    "scaleout.evaluate.cost": ("run_of",),
    "scaleout.infer": ("run_net",),
    "scaleout.inferred": ("NetResult",),
    "scaleout.io.catalogue": ("list_names", "load", "schema"),
    "scaleout.io.experiments": ("experiment", "net_experiment", "serving_experiment", "stream_experiment"),
    "scaleout.io.graphs": ("from_networkx", "load_topology", "read_topology", "write_topology"),
    "scaleout.io.huggingface": ("read_huggingface",),
    "scaleout.io.serving": ("serve",),
    "scaleout.planning.plan": ("Plan",),
    "scaleout.planning.serve": ("plan_serving",),
    "scaleout.planning.train": ("plan_training",),
    "scaleout.report.html.page": ("report_page", "write_report"),
    "scaleout.report.html.plan_page": ("plan_page",),
    "scaleout.result": ("Result",),
    "scaleout.scaling": ("Scaling", "scaling_table"),
    "scaleout.served": ("Served",),
    "scaleout.simulate": ("record", "simulate"),
    "scaleout.space": ("Outcomes", "analyse_many", "design_space"),
    "scaleout.specs": (
        "Arrivals",
        "Batch",
        "Cache",
        "Chip",
        "Facility",
        "Failure",
        "Fault",
        "InferenceEngine",
        "Layout",
        "Length",
        "Model",
        "Net",
        "NetExperiment",
        "Pool",
        "Requests",
        "Router",
        "Routing",
        "Scheduler",
        "ServingExperiment",
        "Slo",
        "Slow",
        "Speculation",
        "Stack",
        "StreamExperiment",
        "StreamSource",
        "StreamStage",
        "System",
        "TrainingExperiment",
    ),
    "scaleout.stragglers": ("Stragglers", "straggler_table"),
    "scaleout.stream": ("record_stream", "run_stream"),
    "scaleout.streamed": ("StreamResult",),
    "scaleout.sweep.files": ("load_sweep",),
    "scaleout.sweep.results": ("SweepResults", "results_of"),
    "scaleout.sweep.rules": ("register_rule",),
    "scaleout.sweep.spec": ("Stage", "Sweep"),
    "scaleout.training.registry": ("register_schedule",),
    "scaleout.training.schedules": ("Pass",),
    "scaleout.validation.kinds": ("validate",),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}

__version__ = "0.1.0"
__all__ = [
    "Arrivals",
    "Batch",
    "Cache",
    "Capacity",
    "Chip",
    "ChipReport",
    "CollectiveTable",
    "Comparison",
    "Elasticities",
    "Facility",
    "Failure",
    "Fault",
    "InferenceEngine",
    "Layout",
    "Length",
    "MeasurementError",
    "Model",
    "Net",
    "NetExperiment",
    "NetResult",
    "Outcomes",
    "Pass",
    "Plan",
    "PlanError",
    "Pool",
    "Requests",
    "Result",
    "Router",
    "Routing",
    "ScaleoutError",
    "Scaling",
    "Scheduler",
    "Served",
    "ServingExperiment",
    "Slo",
    "Slow",
    "SpecError",
    "Speculation",
    "Stack",
    "Stage",
    "Stragglers",
    "StreamExperiment",
    "StreamResult",
    "StreamSource",
    "StreamStage",
    "Sweep",
    "SweepError",
    "SweepResults",
    "System",
    "TopologyError",
    "TrainingExperiment",
    "Variants",
    "WorkloadError",
    "analyse_many",
    "capacity",
    "chip_report",
    "collective_table",
    "compare",
    "compress",
    "design_space",
    "elasticities",
    "experiment",
    "from_networkx",
    "list_names",
    "load",
    "load_sweep",
    "load_topology",
    "net_experiment",
    "plan_page",
    "plan_serving",
    "plan_training",
    "read_huggingface",
    "read_topology",
    "record",
    "record_stream",
    "register_rule",
    "register_schedule",
    "report_page",
    "results_of",
    "run_net",
    "run_of",
    "run_stream",
    "scaling_table",
    "schema",
    "serve",
    "serving_experiment",
    "simulate",
    "straggler_table",
    "stream_experiment",
    "validate",
    "variants",
    "write_report",
    "write_topology",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME_OF:
        raise AttributeError(f"module 'scaleout' has no attribute {name!r}")
    value = getattr(import_module(_HOME_OF[name]), name)
    globals()[name] = value
    return value


class _Package(ModuleType):
    """Keeps functions that are called as their modules: importing a module would put it in their place."""

    def __setattr__(self, name: str, value: object) -> None:
        if not (isinstance(value, ModuleType) and name in _HOME_OF):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})

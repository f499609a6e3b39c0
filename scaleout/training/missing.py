"""What a spec can say and no time model exists for yet: refused, never left out in silence."""

from scaleout.errors import PlanError
from scaleout.specs import Routing, TrainingExperiment

__all__ = ["refuse_missing", "refuse_uncounted"]


def refuse_missing(experiment: TrainingExperiment) -> None:
    """Refuse what is not simulated.

    Raises
    ------
    PlanError
        Naming every such field.
    """
    model, batch = experiment.model, experiment.batch
    found = {
        "model.window": model.window is not None and batch.sequence > model.window,
        "model.query_norm": model.query_norm,
        "model.post_norms": model.post_norms,
        "model.output_gate": model.output_gate,
        "model.causal": not model.causal,
        "model.experts": model.experts is not None,
        "model.latent": model.latent is not None,
        "model.linear": model.linear is not None,
        "model.predictions": model.predictions > 0,
        "model.encoder": model.encoder > 0,
        "precision": experiment.precision in ("fp8_current", "fp8_block", "mxfp8"),
        "optimizer": experiment.optimizer != "adam"
        and (model.experts is not None or model.latent is not None or model.linear is not None),
        "recompute_layers": experiment.recompute_layers is not None,
        "offload": any((experiment.offload.activations, experiment.offload.optimizer, experiment.offload.parameters)),
        "routing": experiment.routing != Routing(),
    }
    _refuse(found, "no time model exists for what is asked here")


def refuse_uncounted(experiment: TrainingExperiment) -> None:
    """Refuse what the recurrence over passes does not count, and the event evaluator does.

    Raises
    ------
    PlanError
        Naming every such field.
    """
    layout = experiment.layout
    found = {
        "layout.cp": layout.cp > 1,
        "layout.ep": layout.ep > 1 or layout.etp > 1,
        "layout.order": layout.order != ("tp", "cp", "dp", "pp"),
        "layout.zero": layout.zero > 1,
        "layout.shard": layout.shard is not None,
        "reduction": experiment.reduction not in (None, experiment.gradients),
        "compression": experiment.compression != 1.0,
        "optimizer": experiment.optimizer != "adam" or experiment.states != "fp32",
        "stack.master": experiment.stack.master != "copy",
        "stack.gather_dtype": experiment.stack.gather_dtype != "bf16",
    }
    _refuse(found, "the analytic evaluator does not count this; take evaluator 'event'")


def _refuse(found: dict[str, bool], why: str) -> None:
    refused = [name for name, used in found.items() if used]
    if refused:
        raise PlanError("\n".join(f"{name}: {why}" for name in refused))

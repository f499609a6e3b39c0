"""What a spec can say and no time model exists for yet: refused, never left out in silence."""

from scaleout.errors import PlanError
from scaleout.specs import Routing, TrainingExperiment

__all__ = ["refuse_missing"]


def refuse_missing(experiment: TrainingExperiment) -> None:
    """Refuse what is not simulated.

    Raises
    ------
    PlanError
        Naming every such field.
    """
    layout, model, batch = experiment.layout, experiment.model, experiment.batch
    found = {
        "layout.zero": layout.zero > 1,
        "layout.shard": layout.shard is not None,
        "layout.schedule": layout.schedule is not None,
        "layout.chunks": layout.chunks is not None,
        "model.window": model.window is not None and batch.sequence > model.window,
        "model.query_norm": model.query_norm,
        "model.experts": model.experts is not None,
        "model.latent": model.latent is not None,
        "model.linear": model.linear is not None,
        "model.predictions": model.predictions > 0,
        "model.encoder": model.encoder > 0,
        "precision": experiment.precision in ("fp8_current", "fp8_block", "mxfp8"),
        "reduction": experiment.reduction is not None,
        "compression": experiment.compression != 1.0,
        "optimizer": experiment.optimizer != "adam" or experiment.states != "fp32",
        "recompute_layers": experiment.recompute_layers is not None,
        "offload": any((experiment.offload.activations, experiment.offload.optimizer, experiment.offload.parameters)),
        "routing": experiment.routing != Routing(),
    }
    refused = [name for name, used in found.items() if used]
    if refused:
        raise PlanError("\n".join(f"{name}: no time model exists for what is asked here" for name in refused))

"""What a spec can say and no time model exists for yet: refused, never left out in silence."""

from scaleout.errors import PlanError
from scaleout.models import layer_kinds
from scaleout.specs import Model, TrainingExperiment

__all__ = ["refuse_missing", "refuse_uncounted"]


def refuse_missing(experiment: TrainingExperiment) -> None:
    """Refuse what is not simulated.

    Raises
    ------
    PlanError
        Naming every such field.
    """
    layout, model = experiment.layout, experiment.model
    found = {
        "layout.cp": layout.cp > 1,
        "layout.order": layout.order != ("tp", "cp", "dp", "pp"),
        "layout.pp of a model with an encoder": model.encoder > 0 and layout.pp > 1,
        "precision": experiment.precision in ("fp8_current", "fp8_block", "mxfp8"),
        "optimizer": experiment.optimizer != "adam"
        and (model.experts is not None or model.latent is not None or model.linear is not None),
        "offload": any((experiment.offload.activations, experiment.offload.optimizer, experiment.offload.parameters)),
    }
    _refuse(found, "no time model exists for what is asked here")


def refuse_uncounted(experiment: TrainingExperiment) -> None:
    """Refuse what the recurrence over passes does not count, and the event evaluator does.

    Raises
    ------
    PlanError
        Naming every such field.
    """
    found = {
        "layout.zero": experiment.layout.zero > 1,
        "layout.shard": experiment.layout.shard is not None,
        "reduction": experiment.reduction not in (None, experiment.gradients),
        "compression": experiment.compression != 1.0,
        "optimizer": experiment.optimizer != "adam" or experiment.states != "fp32",
        "model": _of_other_kinds(experiment.model),
        "recompute_layers": experiment.recompute_layers is not None,
        "stack.master": experiment.stack.master != "copy",
        "stack.gather_dtype": experiment.stack.gather_dtype != "bf16",
    }
    _refuse(found, "the analytic evaluator does not count this; take evaluator 'event'")


def _of_other_kinds(model: Model) -> bool:
    """Layers of several kinds, or of one with other operations than attention and a dense block."""
    kinds = set(layer_kinds(model))
    return len(kinds) > 1 or any(kind.experts for kind in kinds) or model.latent is not None


def _refuse(found: dict[str, bool], why: str) -> None:
    refused = [name for name, used in found.items() if used]
    if refused:
        raise PlanError("\n".join(f"{name}: {why}" for name in refused))

"""What a spec can say and no time model exists for yet: refused, never left out in silence."""

from scaleout.errors import PlanError
from scaleout.specs import TrainingExperiment

__all__ = ["refuse_missing", "uncovered"]


def refuse_missing(experiment: TrainingExperiment) -> None:
    """Refuse what is not simulated.

    Raises
    ------
    PlanError
        Naming every such field.
    """
    layout, model = experiment.layout, experiment.model
    found = {
        "contention with others": experiment.contention != "none" and len(experiment.others) > 0,
        "layout.pp of a model with an encoder": model.encoder > 0 and layout.pp > 1,
        "optimizer": experiment.optimizer != "adam"
        and (model.experts is not None or model.latent is not None or model.linear is not None),
    }
    _refuse(found, "no time model exists for what is asked here")


def uncovered(experiment: TrainingExperiment) -> list[str]:
    """What of an experiment the recurrence over passes does not know, by name; its Programs do.

    It holds for layers that are all alike, in 1F1B or interleaved, on ranks that form tp, pp and dp alone.
    """
    layout, model, stack, offload = experiment.layout, experiment.model, experiment.stack, experiment.offload
    found = {
        "layout.cp": layout.cp > 1,
        "layout.ep": layout.ep > 1 or layout.etp > 1,
        "layout.zero": layout.zero > 1,
        "layout.shard": layout.shard is not None,
        "layout.schedule": layout.schedule is not None,
        "layout.chunks": layout.chunks is not None,
        "layout.order": layout.order != _ORDER,
        "batch.global": layout.vpp > 1 and experiment.micro_batches % layout.pp > 0,
        "model.window": model.window is not None and experiment.batch.sequence > model.window,
        "model.causal": not model.causal,
        "model.experts": model.experts is not None,
        "model.latent": model.latent is not None,
        "model.linear": model.linear is not None,
        "model.predictions": model.predictions > 0,
        "model.encoder": model.encoder > 0,
        "reduction": experiment.reduction not in (None, experiment.gradients),
        "sent": experiment.sent is not None,
        "model.shared_layers": model.shared_layers > 1,
        "model.rank": model.rank > 0,
        "compression": experiment.compression != 1.0,
        "optimizer": experiment.optimizer != "adam" or experiment.states != "fp32",
        "recompute_layers": experiment.recompute_layers is not None,
        "others": len(experiment.others) > 0,
        "offload": offload.any,
        "stack.master": stack.master != "copy",
        "stack.gather_dtype": stack.gather_dtype != "bf16",
    }
    return [name for name, beyond in found.items() if beyond]


_ORDER = ("tp", "cp", "dp", "pp")


def _refuse(found: dict[str, bool], why: str) -> None:
    refused = [name for name, used in found.items() if used]
    if refused:
        raise PlanError("\n".join(f"{name}: {why}" for name in refused))

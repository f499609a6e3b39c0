"""Experiments drawn at random: all stacks, several systems, all modules of recomputation, small models."""

import random
from collections.abc import Iterator
from dataclasses import replace

from scaleout.collectives.places import railed
from scaleout.errors import ScaleoutError
from scaleout.io.catalogue import list_names, load
from scaleout.specs import Batch, Layout, TrainingExperiment
from scaleout.specs.experiment import MODULES

MODELS = ("gpt2", "gpt3-125m", "bloom-560m", "qwen2.5-0.5b", "llama-3.2-1b", "gemma-2b")


def random_experiments(seed: int, most_micro_batches: int = 8, *, rails: bool = True) -> Iterator[TrainingExperiment]:
    """Endless; groups lie inside nodes and across them, on ports of their own and shared ones.

    Without `rails` on every other kind of machine, with H100 for the chips of which no kernel was measured. Boards of
    one chip are left out.
    """
    draw = random.Random(seed)
    systems = [system for name in list_names("system") if railed(system := load("system", name)) == rails]
    systems = [system for system in systems if system.chips_per_node > 1]
    if not rails:
        chip = load("chip", "h100-sxm-80gb")
        systems = [
            system if system.chip.gemm and not system.chip.like else replace(system, chip=chip) for system in systems
        ]
    stacks = [load("stack", name) for name in list_names("stack")]
    models = [load("model", name) for name in MODELS]
    while True:
        system, vpp, pp = draw.choice(systems), draw.choice([1, 1, 2, 3]), draw.choice([1, 2, 2, 3, 4, 5])
        if draw.random() < 0.3:
            changes = {"oversubscription": draw.choice([2.0, 4.0]), "radix": draw.choice([8, 16, 64]), "tiers": None}
            system = replace(system, network=replace(system.network, **changes))
        layout = {"tp": draw.choice([1, 1, 2, 2, 4, 8, 16]), "pp": pp, "dp": draw.choice([1, 2, 3, 4, 8, 12, 16])}
        micro_batches = draw.randint(1, most_micro_batches) * (pp if vpp > 1 else 1)
        micro = draw.choice([1, 2])
        try:
            yield TrainingExperiment(
                system=system,
                chips=layout["tp"] * pp * layout["dp"],
                model=replace(draw.choice(models), layers=draw.randint(2, 13)),
                layout=Layout(
                    **layout, vpp=vpp, sequence_parallel=draw.random() < 0.5, zero=1 if draw.random() < 0.5 else 0
                ),
                batch=Batch(
                    global_=micro_batches * layout["dp"] * micro, micro=micro, sequence=draw.choice([256, 512, 1024])
                ),
                gradients=draw.choice(["fp32", "bf16"]),
                recompute=tuple(name for name in MODULES if draw.random() < 0.2),
                stack=draw.choice(stacks),
            )
        except ScaleoutError:
            continue

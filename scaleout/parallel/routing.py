"""Which experts tokens choose, as far as it decides how long a rank computes."""

import numpy as np

from scaleout.specs import TrainingExperiment

__all__ = ["busiest"]


def busiest(experiment: TrainingExperiment) -> float:
    """Tokens of the expert-parallel rank that most tokens choose, over its even share [1].

    The i-th most popular expert is chosen in proportion to i to the power of -skew, by every token
    at most once; which expert is how popular is dealt by `seed`. What is over the capacity of an
    expert is dropped.
    """
    experts, routing, ranks = experiment.model.experts, experiment.routing, experiment.layout.ep
    if experts is None or (routing.skew == 0.0 and routing.capacity is None):
        return 1.0
    popular = np.arange(1, experts.count + 1, dtype=np.float64) ** -routing.skew
    load = popular / popular.sum()
    # nobody is chosen twice by a token: what is over goes to the others
    most = 1.0 / experts.top_k
    while (load > most * (1.0 + 1e-12)).any():
        full = load >= most
        load = np.where(full, most, load * ((1.0 - most * full.sum()) / load[~full].sum()))
    if routing.capacity is not None:
        load = np.minimum(load, routing.capacity / experts.count)
    dealt = np.random.default_rng(routing.seed).permutation(load)
    return float(dealt.reshape(ranks, -1).sum(axis=1).max() * ranks)

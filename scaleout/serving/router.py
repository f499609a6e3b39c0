"""Routers: which replica a request goes to."""

from collections.abc import Sequence

import numpy as np

from scaleout.serving.replica import Replica
from scaleout.serving.request import Request
from scaleout.specs import Router as Rules

__all__ = ["Router"]


class Router:
    """Sends requests to replicas.

    Parameters
    ----------
    rules
        How.
    replicas
        To whom.
    """

    def __init__(self, rules: Rules, replicas: Sequence[Replica]) -> None:
        self._rules, self._replicas = rules, replicas
        self._turn = 0
        self._draws = np.random.default_rng(rules.seed)

    def pick(self, request: Request) -> Replica | None:
        """The replica for a request; None where all are too busy to take it."""
        open_ = self._replicas
        most = self._rules.max_waiting
        if most is not None:
            open_ = [replica for replica in open_ if replica.waiting < most]
        if not open_:
            return None
        match self._rules.policy:
            case "least_load":
                return min(open_, key=lambda replica: (replica.load, replica.number))
            case "power_of_two" if len(open_) > 1:
                two: list[Replica] = [open_[at] for at in self._draws.choice(len(open_), 2, replace=False).tolist()]
                return min(two, key=lambda replica: (replica.load, replica.number))
            case "sticky" if request.session >= 0:
                return open_[request.session % len(open_)]
        self._turn += 1
        return open_[(self._turn - 1) % len(open_)]

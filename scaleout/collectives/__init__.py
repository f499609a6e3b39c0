"""Collective operations as load on links and latency, one module a family of algorithms."""

from scaleout.collectives.select import candidates, choose, fastest, only, trials

__all__ = ["candidates", "choose", "fastest", "only", "trials"]

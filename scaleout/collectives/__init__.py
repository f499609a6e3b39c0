"""Collective operations as load on links and latency, one module a family of algorithms."""

from scaleout.collectives.select import Candidate, candidates, choose, explain, fastest, only, trials

__all__ = ["Candidate", "candidates", "choose", "explain", "fastest", "only", "trials"]

"""Times of a job's kernels while transfers hold cores and take of HBM's rate: from the costs of its layers."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from scaleout.hardware import Rates
from scaleout.hardware.contention import beside, left
from scaleout.models import LayerKind
from scaleout.parallel import Layers, Shard, Tables, layer_costs
from scaleout.parallel.rows import PARTS
from scaleout.specs import Chip

__all__ = ["Slower"]


@dataclass(frozen=True, slots=True)
class Slower:
    """The time of every label of a job with so many cores held and so much of HBM's rate taken.

    A layer's operations are costed anew; of any other the products and attention slow as cores go, and
    elementwise passes as HBM's rate goes. Nothing is faster than alone.
    """

    chip: Chip
    rates: Rates
    shards: Mapping[LayerKind, Shard]
    layers: Mapping[LayerKind, Layers]
    tables: Tables

    def __call__(self, cores: float, traffic: float) -> Sequence[float]:
        """Time of every label [s], `traffic` in [byte/s]."""
        share, hbm = left(self.chip, cores, traffic)
        seconds = []
        for label in self.tables.labels:
            slow = {"matmul": share, "attention": share, "elementwise": hbm}
            seconds.append(sum(value / slow.get(part, 1.0) for part, value in label.parts))
        rates = beside(self.rates, share, hbm)
        costed: dict[int, float] = {}
        for kind, shard in self.shards.items():
            rows = layer_costs(shard, rates)[:, : len(PARTS)].sum(axis=1).tolist()
            for label, slower in zip(self.layers[kind].labels, rows, strict=True):
                at = self.tables.labels.get(label, -1)
                costed[at] = max(costed.get(at, label.seconds), slower)
        costed.pop(-1, None)
        return [costed.get(at, value) for at, value in enumerate(seconds)]

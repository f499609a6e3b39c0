"""How much work a serving step is: what its kernels compute and move, and what leaves a chip.

`Layers` of chips whose seconds are counts (`scaleout.hardware.ideal`) are asked, so what is counted is
what is timed. Tokens that graphs are padded with, and what drafts tokens ahead, are not counted.
"""

from collections import Counter
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from scaleout.arrays import Floats
from scaleout.engine.program import Message
from scaleout.hardware.formats import format_of
from scaleout.hardware.ideal import ALL, BYTES, counting
from scaleout.parallel.inference import Layers
from scaleout.parallel.inference_kernels import Cost, Kernels
from scaleout.specs import Chip, InferenceEngine, Model, Pool, Routing, System

__all__ = ["Composition", "Counts", "Products"]


class Composition(NamedTuple):
    """What one attention rank does in a step, on the average; see `Work` of ``scaleout.serving``."""

    prompts: float = 0.0
    prompt_tokens: float = 0.0
    prompt_scores: float = 0.0
    decodes: float = 0.0
    decode_tokens: float = 0.0
    context: float = 0.0
    rows: float = 0.0


class Products(Kernels):
    """Products and attention alone."""

    def passes(self, nbytes: float, kernels: int = 1) -> Cost:
        """Nothing."""
        return Cost()


class Counts:
    """Work of the steps of a pool's replicas.

    Parameters
    ----------
    rates
        Dtypes at whose rates linear layers run, and everything else.
    """

    def __init__(
        self, model: Model, system: System, chip: Chip, engine: InferenceEngine, pool: Pool, precision: str, cache: str,
        routing: Routing,
    ) -> None:  # fmt: skip
        bare = replace(engine, product_rate=1.0, elementwise_launch=0.0, elementwise_efficiency=1.0)

        def twin(unit: str) -> Layers:
            counts = counting(chip, unit, casts=True)
            layers = Layers(model, system, counts, bare, pool, precision, cache, routing)
            layers.kernels.latent_share = 1.0
            return layers

        plain = "fp16" if precision.partition("/")[0] == "fp16" else "bf16"
        self.rates = format_of(precision).rate, plain
        self._pool = pool
        self._memory, self._all = twin(BYTES), twin(ALL)
        self._linear = self._all if self.rates[0] in ("bf16", "fp16") else twin(self.rates[0])
        self._products = twin(BYTES)
        self._products.kernels = Products(self._products.chip, bare, precision, cache)
        self._products.kernels.latent_share = 1.0
        self._counts = [sorted(Counter(kinds).items()) for kinds in self._memory.stages]

    def step(self, one: Composition) -> Floats:
        """Work of a step on a chip, summed over the stages: operations at either rate [flop], bytes of elementwise
        passes, and of products with attention [byte]. Shape (4,)."""
        nbytes, operands, flop = (self._of(twin, one) for twin in (self._memory, self._products, self._all))
        linear = flop if self._linear is self._all else self._of(self._linear, one)
        return np.array([linear, max(0.0, flop - linear), max(0.0, nbytes - operands), operands])

    def _of(self, layers: Layers, one: Composition) -> float:
        """Seconds of a chip that counts."""
        tokens = one.prompt_tokens + one.decode_tokens
        total = layers.embedding(tokens).seconds + layers.head(tokens, one.rows).seconds  # type: ignore[arg-type]
        for counts in self._counts:
            for kind, times in counts:
                # means of many steps are no whole numbers, and need not be
                each = layers.around(kind, tokens).plus(layers.feed(kind, tokens))  # type: ignore[arg-type]
                if kind.experts:
                    each = each.plus(layers.experts(kind, tokens * self._pool.dp))  # type: ignore[arg-type]
                if one.prompt_tokens:
                    new = one.prompts, one.prompt_tokens, one.prompt_scores
                    each = each.plus(layers.prefill(kind, *new))  # type: ignore[arg-type]
                if one.decodes:
                    seen = one.decodes, one.decode_tokens, one.context, 0
                    each = each.plus(layers.decode(kind, *seen))  # type: ignore[arg-type]
                total += times * each.seconds
        return total

    def sent(self, one: Composition) -> float:
        """Bytes that leave a chip for others in a step, summed over the stages [byte]."""
        layers, pool = self._memory, self._pool
        tokens = one.prompt_tokens + one.decode_tokens
        total = 0.0

        def add(message: Message | None, members: int, times: int = 1) -> None:
            nonlocal total
            if message is not None:
                total += times * message.leaving(members)

        add(layers.reduce(0, tokens), pool.tp)  # type: ignore[arg-type]
        for stage, counts in enumerate(self._counts):
            for kind, times in counts:
                apart = kind.experts and pool.dp > 1
                add(layers.reduce(stage, tokens), pool.tp, times if apart else 2 * times)  # type: ignore[arg-type]
                for back in (False, True) if apart else ():
                    exchange = layers.exchange(stage, tokens, tokens * pool.dp, back)  # type: ignore[arg-type]
                    add(exchange, pool.tp * pool.dp, times)
            add(layers.send(stage, tokens), 2)  # type: ignore[arg-type]
        add(layers.gather_logits(pool.pp - 1, one.rows), pool.tp)  # type: ignore[arg-type]
        return total

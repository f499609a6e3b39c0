"""What a network computes, operator by operator, before anybody knows on what chip or with how many bits.

Sizes are counts of elements; `Widths` makes bytes of them. A multiplication with its sum is two flops.
"""

from collections.abc import Iterable, Sequence
from typing import Literal, NamedTuple

__all__ = [
    "EACH",
    "ONCE",
    "Attention",
    "Exchange",
    "Gather",
    "Operator",
    "Pass",
    "Product",
    "Stage",
    "Widths",
    "flops",
    "macs",
]  # fmt: skip

Stage = Literal["once", "token"]
ONCE: Stage = "once"
EACH: Stage = "token"
"""Operators of a batch, and operators of each token that the samples of a batch put out."""


class Widths(NamedTuple):
    """Bytes of an element [byte].

    Parameters
    ----------
    activation, weight
        Of what goes in and comes out, and of what was trained.
    table
        Of embedding tables.
    """

    activation: float
    weight: float
    table: float = 2.0


class Product(NamedTuple):
    """C[m, n] = A[m, k] B[k, n], `groups` of them side by side: a linear layer, or a convolution that is carried out
    as one (implicit GEMM: A is never written down).

    Parameters
    ----------
    read
        Elements of A that come from memory: of a convolution its input, once [1].
    extra
        Elements that are read besides and added to what comes out, as a residual is [1].
    activation
        A function is applied to each element of C.
    repeat
        So many alike, one after another.
    parameters
        Biases and scales of the output beside B [1].
    """

    name: str
    m: float
    n: float
    k: float
    read: float
    groups: float = 1.0
    extra: float = 0.0
    activation: bool = False
    repeat: int = 1
    stage: Stage = ONCE
    parameters: float = 0.0

    @property
    def flop(self) -> float:
        """Of one of the repeats [flop]."""
        return 2.0 * self.groups * self.m * self.n * self.k

    @property
    def written(self) -> float:
        """Elements of C [1]."""
        return self.groups * self.m * self.n

    @property
    def weights(self) -> float:
        """Elements of B, biases included [1]."""
        return self.groups * self.n * self.k + self.parameters

    @property
    def live(self) -> float:
        """Elements that are there at a time beside what was trained [1]."""
        return self.read + self.extra + self.written

    def bytes(self, widths: Widths) -> float:
        """To and from memory by one of the repeats, where what follows is fused into it [byte]."""
        moved = self.read + self.extra + self.written
        return moved * widths.activation + self.groups * self.n * self.k * widths.weight


class Attention(NamedTuple):
    """`q_len` queries of each sequence attend to `kv_len` tokens.

    Parameters
    ----------
    cached
        Queries, keys and values are one token's and a cache's: a step of a decoder.
    """

    name: str
    sequences: float
    q_len: float
    kv_len: float
    heads: float
    kv_heads: float
    head_size: float
    causal: bool = False
    cached: bool = False
    repeat: int = 1
    stage: Stage = ONCE

    @property
    def flop(self) -> float:
        """Of one of the repeats; what a mask hides is not counted [flop]."""
        seen = self.kv_len - (self.q_len - 1.0) / 2.0 if self.causal else self.kv_len
        return 4.0 * self.sequences * self.q_len * seen * self.heads * self.head_size

    @property
    def weights(self) -> float:
        """None [1]."""
        return 0.0

    def bytes(self, widths: Widths) -> float:
        """Queries, keys, values and results, in 16 bits at least [byte]."""
        one = self.sequences * self.head_size * 2.0
        return one * max(2.0, widths.activation) * (self.q_len * self.heads + self.kv_len * self.kv_heads)


class Pass(NamedTuple):
    """An elementwise kernel, a norm, a pooling, a depthwise convolution: bytes bind it.

    Parameters
    ----------
    moved
        Elements that it reads and writes [1].
    parameters
        Elements that were trained and that it reads [1].
    kind
        Under which name an engine may fuse it with its neighbours (`InferenceEngine.fused`), in which case `fused`
        elements are moved.
    """

    name: str
    moved: float
    parameters: float = 0.0
    work: float = 0.0
    kind: Literal["", "add_norm", "activation"] = ""
    fused: float = 0.0
    repeat: int = 1
    stage: Stage = ONCE

    @property
    def flop(self) -> float:
        """Of one of the repeats, where products are among it [flop]."""
        return self.work

    @property
    def weights(self) -> float:
        """What was trained [1]."""
        return self.parameters

    def bytes(self, widths: Widths) -> float:
        """[byte]."""
        return self.moved * widths.activation + self.parameters * widths.weight


class Gather(NamedTuple):
    """Rows of tables, at random places, summed by table.

    Parameters
    ----------
    items
        That read rows.
    rows, lookups, sizes
        Rows of each table, rows of it that an item reads, and elements of a row.
    """

    name: str
    items: float
    rows: tuple[int, ...]
    lookups: tuple[float, ...]
    sizes: tuple[int, ...]
    repeat: int = 1
    stage: Stage = ONCE

    @property
    def read(self) -> float:
        """Elements of all rows that are read [1]."""
        return self.items * sum(count * size for count, size in zip(self.lookups, self.sizes, strict=True))

    @property
    def flop(self) -> float:
        """Sums of rows [flop]."""
        return self.read

    @property
    def weights(self) -> float:
        """Elements of all tables [1]."""
        return float(sum(rows * size for rows, size in zip(self.rows, self.sizes, strict=True)))

    @property
    def written(self) -> float:
        """Elements of the sums [1]."""
        return self.items * sum(self.sizes)

    def bytes(self, widths: Widths) -> float:
        """Rows and sums [byte]."""
        return self.read * widths.table + self.written * widths.activation


class Exchange(NamedTuple):
    """All-to-all between the chips that tables are dealt out over.

    Parameters
    ----------
    elements
        Of a chip's buffer, of which it keeps its own part [1].
    width
        Bytes of an element; 0: as activations [byte].
    """

    name: str
    elements: float
    width: float = 0.0
    repeat: int = 1
    stage: Stage = ONCE

    @property
    def flop(self) -> float:
        """None [flop]."""
        return 0.0

    @property
    def weights(self) -> float:
        """None [1]."""
        return 0.0

    def bytes(self, widths: Widths) -> float:
        """Of a chip's buffer [byte]."""
        return self.elements * (self.width or widths.activation)


Operator = Product | Attention | Pass | Gather | Exchange


def flops(operators: Iterable[Operator], stage: Stage = ONCE) -> float:
    """Of all operators of a stage [flop]."""
    return sum(one.flop * one.repeat for one in operators if one.stage == stage)


def macs(operators: Sequence[Operator], stage: Stage = ONCE) -> float:
    """Multiplications with their sums of all products and of attention [1]."""
    return sum(one.flop * one.repeat for one in operators if one.stage == stage and not isinstance(one, Gather)) / 2.0

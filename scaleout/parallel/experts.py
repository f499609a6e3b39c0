"""Times of a mixture of experts on one rank, by kernel.

A rank routes its own tokens, sends copies of them to the ranks of their experts, and computes with
what it gets. Products of all its experts are one kernel. ``docs/layers.md`` lists the bytes.
"""

from scaleout.compiled import compilable
from scaleout.parallel.rows import (
    B_COMBINE,
    B_EXPERTS_DATA,
    B_EXPERTS_WEIGHT,
    B_ROUTE,
    B_SHARED_DATA,
    B_SHARED_WEIGHT,
    F_COMBINE,
    F_EXPERTS,
    F_ROUTE,
    F_SHARED,
    grouped_gradient,
    grouped_linear,
    linear,
    passes,
    weight_gradient,
)  # fmt: skip

__all__ = ["experts_backward", "experts_forward"]


@compilable
def experts_forward(out, s, rates):  # type: ignore[no-untyped-def]
    """Route, shared experts, experts, combine."""
    local = s.local_tokens * s.hidden
    copies = s.routed * s.hidden
    scores = s.local_tokens * s.router
    linear(out, F_ROUTE, s.local_tokens, s.router, s.hidden, rates, 0.0)
    # fp32 scores: softmax or sigmoid read and written, top-k read, auxiliary loss read
    passes(out, F_ROUTE, 8.0 * scores, rates)
    passes(out, F_ROUTE, 4.0 * scores, rates)
    passes(out, F_ROUTE, 4.0 * scores, rates)
    # tokens are copied in the order of their experts
    passes(out, F_ROUTE, 4.0 * copies, rates)
    _through(out, F_EXPERTS, s, rates)
    grouped_linear(out, F_EXPERTS, s.experts, _each(s), s.hidden, s.expert_ffn, rates, s.received * s.expert_ffn)
    _sort(out, F_EXPERTS, s, rates)
    if s.shared_ffn > 0.0:
        _through_shared(out, F_SHARED, s, rates)
        linear(out, F_SHARED, s.tokens, s.hidden, s.shared_ffn, rates, s.tokens * s.shared_ffn)
        passes(out, F_COMBINE, 6.0 * local, rates)
    # a token's copies are summed; then the residual
    passes(out, F_COMBINE, 2.0 * copies + 2.0 * local, rates)
    passes(out, F_COMBINE, (6.0 + rates.dropout) * local, rates)


@compilable
def experts_backward(out, s, rates):  # type: ignore[no-untyped-def]
    """Gradients of what `experts_forward` does."""
    local = s.local_tokens * s.hidden
    copies = s.routed * s.hidden
    scores = s.local_tokens * s.router
    each, inner = _each(s), s.gates * s.expert_ffn
    if rates.dropout > 0.0:
        passes(out, B_COMBINE, 5.0 * local, rates)
    passes(out, B_COMBINE, 2.0 * local + 2.0 * copies, rates)

    _sort(out, B_EXPERTS_DATA, s, rates)
    if s.expert_act_again > 0.0:
        passes(out, B_EXPERTS_DATA, 2.0 * s.received * s.expert_ffn * (s.gates + 1.0), rates)
    grouped_linear(out, B_EXPERTS_DATA, s.experts, each, s.expert_ffn, s.hidden, rates, s.received * s.hidden)
    passes(out, B_EXPERTS_DATA, 2.0 * s.received * s.expert_ffn * (2.0 * s.gates + 1.0), rates)
    if s.bias > 0.0:
        passes(out, B_EXPERTS_DATA, 2.0 * s.received * (inner + s.hidden), rates)
    grouped_linear(out, B_EXPERTS_DATA, s.experts, each, s.hidden, inner, rates, s.received * inner)
    _sort(out, B_EXPERTS_DATA, s, rates)
    grouped_gradient(out, B_EXPERTS_WEIGHT, s.experts, s.expert_ffn, s.hidden, each, s.gradient_width, rates)
    grouped_gradient(out, B_EXPERTS_WEIGHT, s.experts, s.hidden, inner, each, s.gradient_width, rates)
    weight_gradient(out, B_EXPERTS_WEIGHT, s.hidden, s.router, s.local_tokens, s.gradient_width, rates)
    if s.shared_ffn > 0.0:
        _shared_backward(out, s, rates)
        passes(out, B_ROUTE, 6.0 * local, rates)

    # gradients of a token's copies are summed, with those through its scores
    passes(out, B_ROUTE, 2.0 * copies + 2.0 * local, rates)
    passes(out, B_ROUTE, 12.0 * scores, rates)
    linear(out, B_ROUTE, s.local_tokens, s.hidden, s.router, rates, 0.0)
    passes(out, B_ROUTE, 6.0 * local, rates)
    if s.norm_2_again > 0.0:
        passes(out, B_ROUTE, 4.0 * local, rates)
    # the norm, and the residual's gradient
    passes(out, B_ROUTE, 6.0 * local, rates)
    passes(out, B_ROUTE, 6.0 * local, rates)


@compilable
def _each(s):  # type: ignore[no-untyped-def]
    """Rows that one expert gets."""
    return max(1.0, s.received / s.experts)


@compilable
def _sort(out, row, s, rates):  # type: ignore[no-untyped-def]
    """What came from other ranks lies by rank; it is brought into the order of the experts, or back."""
    if s.exchanged > 0.0 and s.experts > 1.0:
        passes(out, row, 4.0 * s.received * s.hidden, rates)


@compilable
def _through(out, row, s, rates):  # type: ignore[no-untyped-def]
    """Sort, the first product, and the activation with the weights of the router."""
    _sort(out, row, s, rates)
    inner = s.gates * s.expert_ffn
    grouped_linear(out, row, s.experts, _each(s), inner, s.hidden, rates, s.received * s.hidden)
    passes(out, row, 2.0 * s.received * s.expert_ffn * (s.gates + 1.0), rates)


@compilable
def _through_shared(out, row, s, rates):  # type: ignore[no-untyped-def]
    linear(out, row, s.tokens, s.gates * s.shared_ffn, s.hidden, rates, s.tokens * s.hidden)
    passes(out, row, 2.0 * s.tokens * s.shared_ffn * (s.gates + 1.0), rates)


@compilable
def _shared_backward(out, s, rates):  # type: ignore[no-untyped-def]
    inner = s.gates * s.shared_ffn
    if s.shared_again > 0.0:
        _through_shared(out, B_SHARED_DATA, s, rates)
    linear(out, B_SHARED_DATA, s.tokens, s.shared_ffn, s.hidden, rates, s.tokens * s.hidden)
    passes(out, B_SHARED_DATA, 2.0 * s.tokens * s.shared_ffn * (2.0 * s.gates + 1.0), rates)
    linear(out, B_SHARED_DATA, s.tokens, s.hidden, inner, rates, s.tokens * inner)
    weight_gradient(out, B_SHARED_WEIGHT, s.shared_ffn, s.hidden, s.tokens, s.gradient_width, rates)
    weight_gradient(out, B_SHARED_WEIGHT, s.hidden, inner, s.tokens, s.gradient_width, rates)

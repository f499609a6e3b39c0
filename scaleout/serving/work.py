"""What a step does, as far as its time depends on it."""

from typing import NamedTuple, Protocol

__all__ = ["GRID", "IDLE", "StepTimer", "Work", "upto"]

GRID = 64
"""Steps between a number and its double that cached tokens are rounded up to: 1.6 % at most."""


class Work(NamedTuple):
    """One attention rank's part of a step.

    Parameters
    ----------
    prompt_tokens
        New tokens of prompts.
    prompt_scores
        Pairs of those with the tokens that each of them sees: c (p + (c + 1) / 2) for c new tokens after p.
    prompt_context
        Tokens that the last new token of each prompt sees, of all prompts.
    prompts
        Sequences that they belong to.
    decodes
        Sequences that decode.
    decode_tokens
        Their new tokens: one each, or more with speculation.
    context
        Tokens that they see, the new ones included, altogether; rounded up by `upto`.
    longest
        Tokens that one of them sees at most; rounded up by `upto`.
    rows
        Tokens whose logits are asked for.
    """

    prompt_tokens: int = 0
    prompt_scores: int = 0
    prompt_context: int = 0
    prompts: int = 0
    decodes: int = 0
    decode_tokens: int = 0
    context: int = 0
    longest: int = 0
    rows: int = 0


IDLE = Work()


def upto(tokens: int) -> int:
    """Cached tokens as the time of a step knows them: rounded up to one of `GRID` steps between powers of two.

    >>> upto(127), upto(129), upto(1_000_001)
    (127, 130, 1007616)
    """
    coarse = tokens.bit_length() - GRID.bit_length()
    return tokens if coarse <= 0 else -(-tokens >> coarse) << coarse


class StepTimer(Protocol):
    """Times of the steps of replicas that are alike; whoever simulates asks this alone."""

    def stages(self, works: tuple[Work, ...]) -> tuple[int, ...]:
        """Time of each pipeline stage for a step [tick]; one `Work` for each attention rank.

        The first has the host's share of the step in it, and each the message to the next.
        """

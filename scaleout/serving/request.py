"""A request on its way through the cluster."""

from typing import Literal

__all__ = ["STATES", "Request", "State"]

State = Literal["waiting", "running", "served", "rejected", "failed"]
STATES: tuple[State, ...] = ("waiting", "running", "served", "rejected", "failed")
"""A request ends in one of the last three."""


class Request:
    """One prompt and its reply; times in ticks, -1 for what has not happened.

    Parameters
    ----------
    number
        In the order of arrival.
    arrival
        When it comes [tick].
    inputs, outputs
        Tokens of the prompt, and of the reply.
    priority
        Who has more goes first.
    session
        Requests of one session have the same number; -1 for none.
    blocks
        Hashes of the prompt's blocks that others may share, in their order; () for none. A hash
        stands for all tokens up to the end of its block.
    block_tokens
        Tokens of such a block.
    """

    __slots__ = (
        "arrival", "block_tokens", "blocks", "born", "cached", "client", "finish", "first", "hosted", "inputs",
        "joined", "number", "outputs", "preempted", "prefilled", "priority", "replica", "reply", "scheduled", "session",
        "state", "steps", "target",
    )  # fmt: skip

    def __init__(
        self,
        number: int,
        arrival: int,
        inputs: int,
        outputs: int,
        priority: int = 0,
        session: int = -1,
        blocks: tuple[int, ...] = (),
        block_tokens: int = 0,
        client: int = -1,
    ) -> None:
        self.number, self.arrival, self.inputs, self.outputs = number, arrival, inputs, outputs
        self.priority, self.session, self.blocks, self.block_tokens = priority, session, blocks, block_tokens
        self.client = client
        """Who sent it, in a closed loop."""
        self.state: State = "waiting"
        self.scheduled = self.first = self.finish = -1
        self.target, self.prefilled = inputs, 0
        """Tokens to be brought into the KV cache before it decodes, and how many are there."""
        self.reply = 0
        """Tokens of the reply so far, when it last joined those that decode."""
        self.joined = -1
        """When it did; on leaving them, when it had its last token."""
        self.born = 0
        """Count of decode steps of its lane when it did."""
        self.steps = 0
        """Decode steps that it takes from there on; 0 while it does not decode."""
        self.cached = 0
        """Tokens that were found in the prefix cache when it first got a seat."""
        self.hosted = 0
        """Those of them that came from the host's memory."""
        self.preempted = 0
        self.replica = -1

    def restart(self) -> None:
        """All that was computed is lost: prompt and reply so far will be computed again."""
        self.state, self.steps = "waiting", 0
        self.prefilled, self.target = 0, self.inputs + self.reply

    def __repr__(self) -> str:
        return f"request {self.number} ({self.inputs} in, {self.outputs} out, {self.state})"

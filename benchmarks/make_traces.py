"""Makes the traces of workloads/traces/: drawn by us, from no recording; the same bytes every time.

python benchmarks/make_traces.py
"""

import json
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from scaleout.io.requests import write_trace
from scaleout.io.requests.mooncake import BLOCK
from scaleout.serving.lengths import draw
from scaleout.specs import Length, TraceRow

FOLDER = Path(__file__).parents[1] / "workloads" / "traces"
CHAT_INPUT = Length(kind="lognormal", mean=1000, cv=1.0, low=16, high=8192)
CHAT_OUTPUT = Length(kind="lognormal", mean=220, cv=0.8, low=4, high=2048)
SYSTEM = 2 * BLOCK
"""Tokens of a system prompt."""
SYSTEMS = 4
QUESTION = Length(kind="lognormal", mean=300, cv=1.0, low=8, high=4096)
ANSWER = Length(kind="lognormal", mean=250, cv=0.8, low=4, high=1024)
TURNS = Length(kind="geometric", mean=4, high=12)
SESSIONS = 100
SESSIONS_PER_SECOND, THINK, PER_TOKEN = 0.5, 15.0, 0.02
"""New sessions a second, mean pause between two turns [s], time in which a token of an answer is read [s]."""


def chat() -> bytes:
    """1,000 requests at 2 a second, Poisson; prompts of 1,000 and replies of 220 tokens in the mean of the sample."""
    generator = np.random.default_rng(20)
    inputs, outputs = (_exactly(draw(length, generator, 1000), length) for length in (CHAT_INPUT, CHAT_OUTPUT))
    gaps = generator.standard_exponential(999)
    times = np.concatenate([[0.0], np.cumsum(gaps / gaps.mean() / 2.0)])
    rows = zip(times.tolist(), inputs.tolist(), outputs.tolist(), strict=True)
    with TemporaryDirectory() as folder:
        path = Path(folder) / "chat.csv"
        write_trace(path, (TraceRow(0, round(time, 6), *tokens) for time, *tokens in rows))
        return path.read_bytes()


def _exactly(drawn: np.ndarray, length: Length) -> np.ndarray:
    """Lengths stretched until their sum is that of the mean, inside of the bounds."""
    wanted = round(length.mean * len(drawn))
    lengths = np.clip(np.rint(drawn * (wanted / drawn.sum())), length.low, length.high).astype(np.int64)
    while missing := wanted - int(lengths.sum()):
        free = np.flatnonzero((lengths > length.low) & (lengths < length.high))[: abs(missing)]
        lengths[free] += np.sign(missing)
    return lengths


def multi_turn() -> bytes:
    """100 conversations: each prompt is the system's, all that was said, and the next question."""
    generator = np.random.default_rng(21)
    starts = np.cumsum(generator.standard_exponential(SESSIONS) / SESSIONS_PER_SECOND)
    rows = []
    for session, start in enumerate(starts.tolist()):
        system = int(generator.integers(SYSTEMS))
        full = [("system", system, at) for at in range(SYSTEM // BLOCK)]
        time, tokens = start, SYSTEM
        for turn in range(int(draw(TURNS, generator, 1)[0])):
            tokens += int(draw(QUESTION, generator, 1)[0])
            reply = int(draw(ANSWER, generator, 1)[0])
            full += [("session", session, at) for at in range(len(full), tokens // BLOCK)]
            part = [("part", session, turn)] if tokens % BLOCK else []
            rows.append((round(time * 1e3), session, turn, tokens, reply, full + part))
            time += reply * PER_TOKEN + THINK * float(generator.standard_exponential())
            tokens += reply
    # blocks are numbered as they are met, as in Mooncake's files
    names: dict[tuple[str, int, int], int] = {}
    lines = []
    for milliseconds, session, _, tokens, reply, blocks in sorted(rows):
        row = {
            "timestamp": milliseconds,
            "input_length": tokens,
            "output_length": reply,
            "hash_ids": [names.setdefault(block, len(names)) for block in blocks],
            "session_id": session,
        }
        lines.append(json.dumps(row) + "\n")
    return "".join(lines).encode()


TRACES = {"chat-1000.csv": chat, "chat-multi-turn.jsonl": multi_turn}

if __name__ == "__main__":
    for name, make in TRACES.items():
        (FOLDER / name).write_bytes(make())

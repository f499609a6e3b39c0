"""Programs in time: folding, flows, accelerators, and the record of what happened."""

from scaleout.engine.accelerator import Lineup, run
from scaleout.engine.contention import Contention
from scaleout.engine.epochs import Epoch
from scaleout.engine.hbm import Ledger, ledger, peak
from scaleout.engine.partition import Partition, discrete, equitable
from scaleout.engine.program import Family, Job, Label, Mark, Message, Program
from scaleout.engine.quotient import Quotient, frame, quotient, sized
from scaleout.engine.repeated import Repeated
from scaleout.engine.shared import Claim, SharedNetwork
from scaleout.engine.timeline import ClassTimeline, Moved, Timeline
from scaleout.engine.unfolded import COMPILED_FROM, Unfolded, run_unfolded, unfold

__all__ = [
    "COMPILED_FROM",
    "Claim",
    "ClassTimeline",
    "Contention",
    "Epoch",
    "Family",
    "Job",
    "Label",
    "Ledger",
    "Lineup",
    "Mark",
    "Message",
    "Moved",
    "Partition",
    "Program",
    "Quotient",
    "Repeated",
    "SharedNetwork",
    "Timeline",
    "Unfolded",
    "discrete",
    "equitable",
    "frame",
    "ledger",
    "peak",
    "quotient",
    "run",
    "run_unfolded",
    "sized",
    "unfold",
]

"""Programs in time: folding, flows, accelerators, and the record of what happened."""

from scaleout.engine.accelerator import run
from scaleout.engine.epochs import Epoch
from scaleout.engine.hbm import Ledger, ledger, peak
from scaleout.engine.partition import Partition, discrete, equitable
from scaleout.engine.program import Family, Job, Label, Mark, Message, Program
from scaleout.engine.quotient import Quotient, quotient
from scaleout.engine.timeline import ClassTimeline, Moved, Timeline

__all__ = [
    "ClassTimeline",
    "Epoch",
    "Family",
    "Job",
    "Label",
    "Ledger",
    "Mark",
    "Message",
    "Moved",
    "Partition",
    "Program",
    "Quotient",
    "Timeline",
    "discrete",
    "equitable",
    "ledger",
    "peak",
    "quotient",
    "run",
]

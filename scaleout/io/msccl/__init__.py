"""Programs of MSCCL's XML format: in, run, checked; and out."""

from scaleout.io.msccl.export import to_msccl
from scaleout.io.msccl.program import Program, Step, ThreadBlock, parse_program
from scaleout.io.msccl.schedule import msccl_algorithm, parse_msccl, read_msccl, schedule_of

__all__ = [
    "Program",
    "Step",
    "ThreadBlock",
    "msccl_algorithm",
    "parse_msccl",
    "parse_program",
    "read_msccl",
    "schedule_of",
    "to_msccl",
]

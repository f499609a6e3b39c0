"""A plan that nobody made."""

from typing import Any

from scaleout.planning.plan import Candidate, Input, Plan
from scaleout.result import Assumption


def candidate(name: str, days: float, cost: float) -> Candidate:
    seconds = 86400.0 * days
    return Candidate(
        name=name,
        settings=("layout.tp=8", "layout.pp=4"),
        layout={"tp": 8, "pp": 4, "dp": 32, "recompute": ["core"]},
        system="dgx-h100",
        chips=1024,
        value=seconds,
        error=0.07,
        bound=0.9 * seconds,
        figures={"step_time": 4.1, "time": seconds, "mfu": 0.41, "memory": 6.6e10, "power": 7e6, "cost": cost},
        parts={"compute": 3.0, "exposed_tp": 0.5, "bubble": 0.5},
    )


def made_up_plan(**changes: Any) -> Plan:
    best = candidate("dgx-h100, tp 8, pp 4, dp 32", 47.5, 1.56e6)
    near = candidate("dgx-h100, tp 4, pp 8, <dp> 32", 49.0, 1.4e6)
    whole: dict[str, Any] = {
        "kind": "training",
        "name": "Llama-3.1 70B on 15T tokens",
        "question": {"tokens": 15e12, "systems": ["dgx-h100", "hgx-h200"], "max_power": "25 MW", "days": None},
        "experiment": {"kind": "training", "system": "dgx-h100", "model": "llama-3.1-70b"},
        "objective": "time",
        "unit": "s",
        "best": best,
        "gap": 0.0,
        "covered": {"does not divide": 12_345, "does not fit in HBM": 300, "bounded": 999, "simulated": 2},
        "runners": (near,),
        "ties": (near.name,),
        "pareto": (best, near),
        "why": ("Fewer bubbles than with a pipeline of eight.",),
        "inputs": (Input(name="gemm", words="rate of matrix multiplications", change=-0.062, moves=True),),
        "launch": {"torchrun": "torchrun --nnodes 128 pretrain_gpt.py \\\n  --tensor-model-parallel-size 8"},
        "assumptions": (Assumption("stack", "<script>alert(1)</script>", "from memory", False),),
        "warnings": ("m = 16,384 is outside of what was measured",),
    }
    return Plan(**{**whole, **changes})

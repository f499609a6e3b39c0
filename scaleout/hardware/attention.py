"""Attention"""
import math
import numpy as np
from itertools import pairwise
from scaleout.compiled import compilable
def efficiency_at(table, size: int) -> float:
    """Efficiency at a head size, linear between the listed sizes and level outside."""
    points = sorted(table.items())
    if size <= points[0][0]:
        return float(points[0][1])
    for (low, a), (high, b) in pairwise(points):
        if size <= high:
            return float(a + (b - a) * (size - low) / (high - low))
    return float(points[-1][1])


def attention_vector(chip, kernel):
    c = chip.attention[kernel]
    return np.array([chip.flops("bf16"), chip.cores, chip.hbm_bandwidth*c.hbm_efficiency, efficiency_at(c.efficiency,64), efficiency_at(c.efficiency,128), c.backward, c.launch, c.wave_overhead])

@compilable
def prefill_seconds(batch, q_len, kv_len, heads, kv_heads, head_size, backward, c):
    e = c[3]+(c[4]-c[3])*min(1.0,max(0.0,(head_size-64)/64))
    rate = c[0]*e*(c[5] if backward else 1.0)
    rows = math.ceil(q_len/128)
    work = 2.5 if backward else 1.0
    tile = 4.0*128*128*head_size*work
    compute = batch*heads*rows*(rows+1)/2*tile/rate
    longest = rows*tile/(rate/c[1])
    passes = 3.0 if backward else 1.0
    hbm = 2.0*batch*q_len*head_size*(2*heads+2*kv_heads)*passes/c[2]
    waves = math.ceil(batch*heads*rows/c[1])
    return c[6]+c[7]*waves+(max(compute,longest)**3+hbm**3)**(1/3)

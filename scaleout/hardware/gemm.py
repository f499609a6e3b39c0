"""Time of one matrix multiplication on one chip: tiles, waves, HBM and L2."""

import math
import numpy as np
from scaleout.compiled import compilable
from scaleout.specs import Chip
from scaleout.errors import SpecError, near


def gemm_vector(chip, dtype, sustained=1.0):
    for name in (dtype, {"fp16": "bf16", "bf16": "fp16"}.get(dtype, dtype)):
        if name in chip.gemm:
            c = chip.gemm[name]
            return np.array(
                [
                    chip.flops(dtype) * c.compute_efficiency / chip.cores,
                    chip.cores,
                    chip.hbm_bandwidth * c.hbm_efficiency,
                    0.0 if c.l2_ratio is None else chip.hbm_bandwidth * c.l2_ratio,
                    c.launch,
                    c.tile_overhead,
                    c.split_overhead,
                    c.halo,
                    c.wave_tail,
                    c.norm,
                    c.idle_cores,
                    sustained,
                ]
            )
    raise SpecError(f"chip {chip.name!r} has no gemm constants for {dtype!r}; {near(dtype, chip.gemm)}")


@compilable
def gemm_seconds(m, n, k, out_bytes, c):
    rate, cores, bw, l2, launch, tile_o, split_o, halo, tail, p, idle, sus = (
        c[0],
        c[1],
        c[2],
        c[3],
        c[4],
        c[5],
        c[6],
        c[7],
        c[8],
        c[9],
        c[10],
        c[11],
    )
    traffic = (m * k + k * n) * 2.0 + m * n * out_bytes
    best = 1e30
    for tm in (64.0, 128.0, 256.0):
        for tn in (64.0, 128.0, 256.0):
            for sp in (1.0, 2.0, 4.0, 8.0, 16.0):
                depth = math.ceil(k / sp)
                tiles = math.ceil(m / tm) * math.ceil(n / tn) * sp
                full = math.floor(tiles / cores)
                rest = tiles - full * cores
                waves = full
                if rest > 0:
                    waves += tail + (1 - tail) * rest / cores
                waves = max(1.0, waves)
                comp = sus * waves * 2 * tm * tn * depth / rate * (1 + halo * 64 * (1 / tm + 1 / tn))
                over = split_o if sp > 1.0 else 0.0
                hbm = traffic / bw * (1 + idle * max(0.0, cores / tiles - 1))
                l2t = tiles * (tm + tn) * depth * 2.0 / l2 if l2 > 0 else 0.0
                longest = max(comp, hbm, l2t)
                if longest + over >= best:
                    continue
                t = longest * ((comp / longest) ** p + (hbm / longest) ** p + (l2t / longest) ** p) ** (1 / p) + over
                if t < best:
                    best = t
    return launch + tile_o + best


def quantise_vector(chip, dtype):
    return np.array([chip.hbm_bandwidth * 0.4, 2e-6])


@compilable
def quantise_seconds(elements, c):
    return elements * 3.0 / c[0] + c[1]

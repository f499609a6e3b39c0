"""Time an architect's loop: a thousand chips under a training and a serving job, in CPU seconds of one core.

The least of three runs after one to warm up; cost grows with the number of chips alone.
"""

import time
from dataclasses import replace

from scaleout.architect import variants
from scaleout.evaluate.steady import Typical
from scaleout.io.experiments import experiment, serving_experiment
from scaleout.specs import Chip

CHIPS = 1000
TRAINING = ("llama-3.1-70b-64", ("layout.cp=1", "layout.dp=4", "recompute=[norm, mlp_product]"))
SERVING = "llama3-70b-poisson"
TYPICAL = Typical(rate=2.0, prompt=1000.0, reply=220.0)


def chips(base: Chip, count: int) -> list[Chip]:
    """Chips of other rates, each another."""
    made = []
    for number in range(count):
        memory, units = 0.5 + number / count, 0.7 + (7 * number % count) / count
        made.append(
            replace(
                base,
                name=f"{base.name} {number}",
                hbm_bandwidth=base.hbm_bandwidth * memory,
                hbm_bytes=base.hbm_bytes * (0.9 + (3 * number % count) / count),
                peak_flops={dtype: rate * units for dtype, rate in base.peak_flops.items()},
            )
        )
    return made


def main() -> None:
    """The rows."""
    training, serving = experiment(*TRAINING), serving_experiment(SERVING)
    times = []
    for _ in range(4):
        begun = time.process_time()
        made = chips(training.system.chip, CHIPS)
        table = variants(made, training=training, serving=serving, typical=TYPICAL)
        times.append(time.process_time() - begun)
    solved = sum(not problem for problem in table.problem)
    print(f"{CHIPS:,} chips, made and analysed: {min(times[1:]):.2f} s of 2 s; {solved:,} of them run both jobs")


if __name__ == "__main__":
    main()

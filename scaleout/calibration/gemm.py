"""Constants of matrix multiplication from a table of measured kernels.

Run as ``python -m scaleout.calibration.gemm TABLE [--chip NAME ...] [--write]``. Three in ten of
the (n, k) pairs, at every m, are held out of the fit; the error on them is the residual that is
written beside the constants.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from scaleout.arrays import Bools, Floats
from scaleout.calibration.chipfile import dated, lines_of
from scaleout.calibration.command import carry_out, chosen_chips, parser
from scaleout.calibration.files import write_section
from scaleout.calibration.fit import held_out, solver
from scaleout.calibration.gemm_form import MENUS, Menu, constants, free, guess
from scaleout.compiled import compilable
from scaleout.errors import SpecError
from scaleout.hardware.formats import FORMATS, SPELLINGS, format_of
from scaleout.hardware.gemm import gemm_seconds, gemm_vector, quantise_seconds, quantise_vector
from scaleout.io.catalogue import find, known_chips
from scaleout.io.table import Row, take_rows
from scaleout.specs import Chip, FrozenDict, GemmConstants

__all__ = ["COLUMNS", "Measured", "fit", "kernel_times", "main", "named", "read"]

COLUMNS = ("chip", "dtype", "m", "n", "k", "time_us")

_KNEE = 0.1
"""Log error beyond which a row counts linearly: tables hold rows where the library chose badly."""
_PRIOR, _FIRM = 0.004, 0.06
"""Pull of the first guess, which decides what the table does not, relative to a row's: of any constant, and of
an efficiency of compute or HBM."""
_GAIN = 0.97
"""A richer menu is taken where it brings the misfit below this share."""
_BEYOND_L2 = 4.0
"""Operands of so many times the L2's capacity leave nothing of note there for the next turn of a loop [1]."""
_REGIMES = ((1, 64), (65, 1024), (1025, 10**9))


@dataclass(frozen=True, slots=True)
class Measured:
    """Rows of one chip and dtype: m, n, k of each [rows, 3], and times [s]; and what the table calls their source."""

    shapes: Floats
    seconds: Floats
    source: str = ""

    def __getitem__(self, rows: Bools) -> "Measured":
        return Measured(self.shapes[rows], self.seconds[rows], self.source)


@compilable
def kernel_times(shapes: Floats, out_bytes: float, gemm: Floats, quantise: Floats) -> Floats:
    """Cast and product of each shape [s]."""
    times = np.empty(len(shapes))
    for row in range(len(shapes)):
        m, n, k = float(shapes[row, 0]), float(shapes[row, 1]), float(shapes[row, 2])
        times[row] = gemm_seconds(m, n, k, out_bytes, gemm) + quantise_seconds(m * k, quantise)
    return times


def read(path: Path, chips: Mapping[str, Chip]) -> dict[tuple[str, str], Measured]:
    """The rows of a table by chip and dtype, both as the catalogue names them."""
    rows: dict[tuple[str, str], list[list[float]]] = {}
    sources: dict[tuple[str, str], str] = {}

    def take(row: Row) -> None:
        name, dtype = row.text("chip"), row.text("dtype")
        key = chips[name].name if name in chips else name, SPELLINGS.get(dtype, dtype)
        sources[key] = row.optional("source")
        rows.setdefault(key, []).append([*(float(row.whole(axis)) for axis in "mnk"), row.number("time_us")])

    take_rows(path, COLUMNS, take)
    arrays = {key: np.array(values, dtype=np.float64) for key, values in rows.items()}
    return {key: Measured(array[:, :3].copy(), array[:, 3] * 1e-6, sources[key]) for key, array in arrays.items()}


def simulate(chip: Chip, dtype: str, shapes: Floats) -> Floats:
    """Times as the table measured them: in bursts, the cast included, operands warm in L2 [s]."""
    vector, cast = gemm_vector(chip, dtype, warm=True), quantise_vector(chip, dtype)
    return kernel_times.compiled(shapes, 2.0, vector, cast)


def fit(chip: Chip, dtype: str, measured: Measured, menus: Sequence[Menu] = MENUS) -> GemmConstants:
    """Constants of the menu that agrees best with all the rows given."""
    best: tuple[float, GemmConstants] | None = None
    for menu in menus:
        cost, found = _fit_menu(chip, dtype, measured, menu)
        if best is None or cost < _GAIN * best[0]:
            best = cost, found
    if best is None:
        raise SpecError(f"no menu of tiles for {dtype!r}")
    return best[1]


def _fit_menu(chip: Chip, dtype: str, measured: Measured, menu: Menu) -> tuple[float, GemmConstants]:
    least_squares = solver()
    shape = format_of(dtype)
    launch = chip.gemm["bf16"].launch if shape.cast and "bf16" in chip.gemm else None
    m, n, k = measured.shapes.T
    least = (m * k * shape.left + k * n * shape.right + 2.0 * m * n) / chip.hbm_bandwidth
    names = free(shape, menu, warm=bool(np.mean(least > measured.seconds) > 0.01), launch=launch)
    beyond = least * chip.hbm_bandwidth > _BEYOND_L2 * (chip.l2_bytes or math.inf)
    first, low, high = guess(names, float((least / measured.seconds)[beyond].max(initial=0.0)))
    logs = np.log(measured.seconds)
    firm = ("compute_efficiency", "hbm_efficiency")
    prior = np.sqrt(len(logs)) * np.array([_FIRM if name in firm else _PRIOR for name in names])

    def tried(point: Floats) -> GemmConstants:
        return constants(names, point, menu, launch=launch)

    def misfit(point: Floats) -> Floats:
        trial = replace(chip, gemm={dtype: tried(point)})
        errors = np.log(simulate(trial, dtype, measured.shapes)) - logs
        # the soft l1 of each row, as a residual of its own
        soft = _KNEE * np.sqrt(2.0 * (np.sqrt(1.0 + (errors / _KNEE) ** 2) - 1.0))
        return np.append(np.copysign(soft, errors), prior * (point - first))

    found = least_squares(misfit, first, bounds=(low, high), diff_step=3e-3, max_nfev=80)
    return float(found.cost), _rounded(tried(found.x))


def _rounded(found: GemmConstants) -> GemmConstants:
    """To the digits that a file gives."""

    def digits(value: float) -> float:
        return float(f"{value:.4g}")

    changes = {name: digits(value) for name in found.__slots__ if isinstance(value := getattr(found, name), float)}
    if found.quantise is not None:
        cast = found.quantise
        shorter = replace(cast, hbm_efficiency=digits(cast.hbm_efficiency), launch=digits(cast.launch))
        return replace(found, **changes, quantise=shorter)  # type: ignore[arg-type]
    return replace(found, **changes)  # type: ignore[arg-type]


def calibrate(
    chip: Chip, dtype: str, measured: Measured, menus: Sequence[Menu] = MENUS
) -> tuple[GemmConstants, list[str]]:
    """Constants from the rows that are not held out, and lines on how well they do on both parts."""
    held = held_out((n, k) for _, n, k in measured.shapes.tolist())
    found = fit(chip, dtype, measured[~held], menus)
    times = simulate(replace(chip, gemm={dtype: found}), dtype, measured.shapes)
    errors = np.abs(times / measured.seconds - 1.0)
    bounds = {
        axis: (int(column.min()), int(column.max())) for axis, column in zip("mnk", measured.shapes.T, strict=True)
    }
    library, source = named(measured.source)
    found = replace(
        found,
        residual=round(float(errors[held].mean()), 4),
        range=FrozenDict(bounds),
        library=library,
        source=f"{source}, {len(held):,} {dtype} kernels in short bursts",
    )
    return found, list(_lines(f"{chip.name} {dtype}", measured.shapes[:, 0], errors, held))


def named(source: str) -> tuple[str, str]:
    """Library and origin of a table's source.

    >>> named("ai-dynamo/aiconfigurator@095f58a (Apache-2.0), TensorRT-LLM collectors")
    ('TensorRT-LLM collectors of aiconfigurator@095f58a', 'ai-dynamo/aiconfigurator 095f58a (Apache-2.0)')
    """
    origin, comma, words = source.partition(", ")
    if not comma:
        return source, source or "a table of measurements"
    repository = origin.partition(" ")[0].rpartition("/")[2]
    return f"{words} of {repository}", origin.replace("@", " ", 1)


def _lines(name: str, m: Floats, errors: Floats, held: Bools) -> Iterator[str]:
    for low, high in ((1, 10**9), *_REGIMES):
        there = (m >= low) & (m <= high)
        parts = []
        for words, part in (("fitted", errors[there & ~held]), ("held out", errors[there & held])):
            if len(part):
                mean, median, p90 = part.mean(), np.median(part), np.quantile(part, 0.9)
                parts.append(f"{words} {mean:6.1%} {median:6.1%} {p90:6.1%}")
        where = "all" if (low, high) == (1, 10**9) else f"m {low}.." if high == 10**9 else f"m {low}..{high}"
        yield f"{name:28} {where:12} {'   '.join(parts)}"


def main(arguments: Sequence[str] | None = None) -> int:
    """The command: fit, print, and with --write put into the chip files."""
    made = parser("gemm", __doc__, "CSV with the columns " + ", ".join(COLUMNS))
    made.add_argument("--dtype", action="append", help="all dtypes of the table otherwise")
    made.add_argument("--splits", type=int, nargs="+", help="parts into which the library splits k, rising from 1")
    made.add_argument("--tiles", nargs="+", help="the only tiles that the chip has, such as 256x256, whole along k")
    options = made.parse_args(arguments)
    menus: Sequence[Menu] = (Menu(tuple(options.tiles), (1,)),) if options.tiles else MENUS
    if options.splits:
        menus = tuple(menu._replace(splits=tuple(options.splits)) for menu in MENUS if len(menu.splits) > 1)
    return carry_out(lambda: _calibrate(options.table, options.chip, options.dtype, menus, options.write))


def _calibrate(
    table: Path, names: list[str] | None, dtypes: list[str] | None, menus: Sequence[Menu], write: bool
) -> None:
    chips, wanted = known_chips(), {chip.name for chip in chosen_chips(names)}
    print(f"{'chip and dtype':28} {'rows':12} mean, median and 90th percentile of |simulated / measured - 1|")
    # 16-bit constants first: the launch time of the others is theirs
    tables = sorted(read(table, chips).items(), key=lambda item: (item[0][0], item[0][1] != "bf16", item[0][1]))
    for (name, dtype), measured in tables:
        if name not in chips or dtype not in FORMATS:
            print(f"{name} {dtype}: left out, {'the dtype' if name in chips else 'the chip'} is not known")
            continue
        if name not in wanted or (dtypes and dtype not in dtypes):
            continue
        chip = chips[name]
        found, lines = calibrate(chip, dtype, measured, menus)
        before = chip.gemm.get(dtype)
        # fused experts are fitted on their own
        found = replace(found, grouped=before.grouped if before else None)
        found = dated(found, before if isinstance(before, GemmConstants) else None)
        print(*lines, *(f"    {line}" for line in lines_of(found)), sep="\n", flush=True)
        chips[name] = replace(chip, gemm={**chip.gemm, dtype: found})
        if write:
            write_section(find("chip", name), ("gemm", dtype), "\n".join(lines_of(found)))


if __name__ == "__main__":
    raise SystemExit(main())

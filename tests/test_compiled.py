"""A compilable function runs plain and compiled with the same numbers."""

import math
import pickle
import subprocess
import sys
from typing import NamedTuple

import numpy as np
import pytest

from scaleout.compiled import compilable

EXPONENT = 1.5


@compilable
def power(x):
    return x**EXPONENT + 1


@compilable
def total(values):
    result = 0.0
    for i in range(len(values)):
        result += power(values[i])
    return result


def test_plain_and_compiled_agree_to_the_bit():
    values = np.linspace(0.1, 1e6, 1000)
    assert total(values) == total.compiled(values)
    assert total(values) == pytest.approx(math.fsum(values**1.5 + 1), rel=1e-12)


def test_a_function_may_stand_in_for_a_callee_without_a_trace():
    values = np.array([1.0, 2.0])
    assert total.replacing({"power": lambda x: 10 * x})(values) == 30.0
    assert total(values) == power(1.0) + power(2.0)


def test_a_change_in_a_callee_changes_the_digest(monkeypatch):
    before = total.digest
    monkeypatch.setitem(total.plain.__globals__, "power", compilable(lambda x: x * 2))
    for kept in ("digest", "_callees"):
        total.__dict__.pop(kept)
    assert total.digest != before


class Named(NamedTuple):
    power: float


@compilable
def attribute_of_the_same_name_as_a_function(named):
    return named.power + 1.0


def test_names_of_attributes_are_no_callees():
    assert attribute_of_the_same_name_as_a_function.compiled(Named(2.0)) == 3.0


def test_it_pickles_by_name():
    assert pickle.loads(pickle.dumps(power)) is power


def test_only_functions_can_be_marked():
    with pytest.raises(TypeError, match="not a plain function"):
        compilable(len)


def test_plain_runs_do_not_import_numba():
    code = "import sys, scaleout.compiled as c; c.compilable(lambda x: x)(1); print('numba' in sys.modules)"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert out.strip() == "False"

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scaleout.errors import SpecError
from scaleout.units import Number, describe, parse


@pytest.mark.parametrize(
    ("text", "dimension", "value"),
    [
        ("400 Gb/s", "byte/s", 50e9),
        ("450GB/s", "byte/s", 450e9),
        ("80 GiB", "byte", 80 * 2**30),
        ("80 GB", "byte", 80e9),
        ("1.5 us", "s", 1.5e-6),
        ("1.5 µs", "s", 1.5e-6),
        ("989.4 TFLOP/s", "flop/s", 989.4e12),
        ("2_000 TFLOPS", "flop/s", 2e15),
        ("1e3 W", "W", 1000.0),
    ],
)
def test_parse_reads_units_of_the_field(text: str, dimension: str, value: float) -> None:
    assert parse(text, dimension) == pytest.approx(value, rel=1e-15)


@pytest.mark.parametrize(
    ("text", "dimension", "says"),
    [
        ("400", "byte/s", "no unit"),
        ("fast", "byte/s", "not a number"),
        ("400 Gbps", "byte/s", "unknown unit 'Gbps'"),
        ("400 GB", "byte/s", "is in byte, not in byte/s"),
        ("1.5.2 us", "s", "unknown unit"),
        ("nan s", "s", "not a number"),
        ("", "s", "not a number"),
    ],
)
def test_parse_refuses_with_the_reason(text: str, dimension: str, says: str) -> None:
    with pytest.raises(SpecError, match=says):
        parse(text, dimension)


def test_a_bit_is_an_eighth_of_a_byte_and_binary_prefixes_differ() -> None:
    assert parse("8 Gb/s", "byte/s") == parse("1 GB/s", "byte/s")
    assert parse("1 GiB", "byte") / parse("1 GB", "byte") == pytest.approx(1.073741824)


@given(st.floats(1e-12, 1e18))
def test_what_is_described_reads_back(value: float) -> None:
    assert parse(describe(value, "byte/s"), "byte/s") == pytest.approx(value, rel=1e-3) or value < 1


@pytest.mark.parametrize("value", [0, -1, math.nan, math.inf, True, "many", None])
def test_number_refuses_what_is_not_above_zero(value: object) -> None:
    with pytest.raises(SpecError):
        Number().check(value)


def test_whole_numbers_stay_whole() -> None:
    rule = Number(low=1, above=False, integer=True)
    assert rule.check(8.0) == 8
    assert isinstance(rule.check(8.0), int)
    with pytest.raises(SpecError, match="whole number"):
        rule.check(8.5)

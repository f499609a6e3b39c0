"""Faults as files and the command line give them."""

import pytest

import scaleout
from scaleout.errors import SpecError
from scaleout.specs import Fault


def given(faults: str) -> tuple[Fault, ...]:
    return scaleout.experiment("llama-3.1-8b-1k", (f"faults={faults}",)).faults


def test_a_list_on_the_command_line() -> None:
    assert given(
        "[{at: 1.5 s, port: 5, share: 0}, {at: 0 s, until: 20 ms, vertex: leaf 3, share: 0.5, then: stall}]"
    ) == (
        Fault(at=1.5, port=5, share=0),
        Fault(at=0.0, until=0.02, vertex="leaf 3", share=0.5, then="stall"),
    )
    assert given("[]") == ()


def test_a_fault_in_words() -> None:
    assert str(Fault(at=1.5, port=5, share=0)) == "port 5 dead from 1.5 s"
    assert (
        str(Fault(at=0.0, until=0.02, vertex="leaf 3", share=0.5))
        == "vertex leaf 3 at 0.5 of its rate from 0 s to 0.02 s"
    )


@pytest.mark.parametrize(
    ("faults", "says"),
    [
        ("[{at: 1 s, port: 5, shar: 0}]", "faults.0.shar: unknown key; did you mean 'share'"),
        ("[{at: 1, port: 5, share: 0}]", "faults.0.at: 1 has no unit"),
        ("[{at: -1 s, port: 5, share: 0}]", "'-1 s' is not a value such as"),
        ("[{at: 1 s, port: 5, share: 2}]", "faults.0.share: 2 is not a number at least 0, at most 1"),
        ("[{at: 1 s, port: 5, share: .nan}]", "faults.0.share: nan is not a number"),
        ("[{at: 1 s, share: 0}]", "nothing named; expected one of port, scale_up, vertex, link"),
        ("[{at: 1 s, port: 5, scale_up: 5, share: 0}]", "port and scale_up named; expected one of"),
        ("[{at: 1 s, until: 1 s, port: 5, share: 0}]", "fault.until: 1 s is not after its beginning at 1 s"),
        (
            "[{at: 1 s, port: 1024, share: 0}]",
            r"faults\[0\].port: rank 1024 is not one of the 1024 chips \(0 to 1023\)",
        ),
        ("[{at: 1 s, port: 1.5, share: 0}]", "faults.0.port: 1.5 is not a whole number"),
        ("[{at: 1 s, port: 5, share: 0, then: wait}]", "expected 'reroute' or 'stall'"),
        ("[{at: 1 s, vertex: 3, share: 0}]", "faults.0.vertex: 3 is not accepted; expected text"),
        ("{at: 1 s}", "expected a list"),
        ("[" + ", ".join(["{at: 1 s, port: 5, share: 0.9}"] * 65) + "]", "65 are more than the 64"),
    ],
)
def test_what_is_no_fault_is_refused(faults: str, says: str) -> None:
    with pytest.raises(SpecError, match=says):
        given(faults)

"""The scripts in ``topologies/examples`` run on their own, and what they print is right."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
EXAMPLES = sorted((ROOT / "topologies" / "examples").glob("*.py"))


@pytest.fixture(scope="module")
def printed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What every script prints, run by a Python of its own from elsewhere, all warnings errors."""
    folder, found = tmp_path_factory.mktemp("elsewhere"), {}
    for path in EXAMPLES:
        found[path.stem] = subprocess.run(
            [sys.executable, "-W", "error", str(path)],
            capture_output=True, text=True, check=True, cwd=folder, env={"PYTHONPATH": str(ROOT)}, timeout=120,
        ).stdout  # fmt: skip
    assert not list(folder.iterdir())
    return found


def test_there_are_six(printed: dict[str, str]) -> None:
    assert sorted(printed) == [
        "custom_graph", "cut_link", "inside_a_node", "own_routing", "own_schedule", "unequal_islands",
    ]  # fmt: skip
    assert all(len(text.splitlines()) >= 2 for text in printed.values())


def test_chords_halve_the_diameter_and_double_the_bisection(printed: dict[str, str]) -> None:
    assert "ring: 32 links, diameter 8, bisection 100 GB/s" in printed["custom_graph"]
    # each of eight chords crosses the middle once, or cuts across the ring
    assert "ring with chords: 48 links, diameter 4, bisection" in printed["custom_graph"]


def test_the_slow_links_between_islands_are_what_both_wait_for(printed: dict[str, str]) -> None:
    text = printed["unequal_islands"]
    old, new, both = (float(time) for time in re.findall(r"in ([\d.]+) ms", text))
    assert old == pytest.approx(2e3 * 7 / 8 * 1e9 / 240e9, rel=0.01)
    # 2 (n - 1) / n of 1 GB over a ring's link, or half of it each way round
    ring = 2e3 * 3 / 4 * 1e9 / 450e9
    assert 0.99 * ring / 2 <= new <= 1.01 * ring
    # the sum has to come over the cut, and a ring through it does no worse
    assert 1e3 * 1e9 / 50e9 <= both <= 1.01 * 2e3 * 11 / 12 * 1e9 / 50e9
    assert "router" in text.splitlines()[2].partition("waits for")[2]


def test_a_cut_cable_is_gone_around(printed: dict[str, str]) -> None:
    whole, cut = printed["cut_link"].splitlines()[1:]
    assert whole.startswith("whole: 1 hops")
    assert cut.startswith("cut: 3 hops")
    assert float(re.findall(r"in ([\d.]+) ms", cut)[0]) > float(re.findall(r"in ([\d.]+) ms", whole)[0])


def test_a_routing_of_ones_own_is_followed(printed: dict[str, str]) -> None:
    first, second = printed["own_routing"].splitlines()
    assert {first.split(", ")[1].split()[0], second.split(", ")[1].split()[0]} == {"1", "3"}
    assert "16.7 to" in second + first
    assert "50.0 to 50.0" in second + first


def test_gpus_share_what_their_nics_and_sockets_carry(printed: dict[str, str]) -> None:
    _, near, first, images = printed["inside_a_node"].splitlines()
    assert "24.0 to 24.0 GB/s each, 192 GB/s in all" in near
    assert "48 GB/s in all" in first
    assert "5.5 to 5.5 GB/s each, 44 GB/s in all" in images


def test_a_schedule_of_ones_own_fills_a_part_of_the_bubble(printed: dict[str, str]) -> None:
    whole, split = (
        float(re.findall(r"([\d.]+) s of it bubble", line)[0]) for line in printed["own_schedule"].splitlines()
    )
    assert 0 < split < 0.8 * whole

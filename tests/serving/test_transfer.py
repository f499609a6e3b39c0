"""Caches on their way over the network: times in closed form, overlap with the prefill, what shares links."""

import pytest

from scaleout.collectives import candidates
from scaleout.engine import SharedNetwork
from scaleout.engine.clock import Alarm, Clock
from scaleout.errors import TopologyError
from scaleout.evaluate.beside import shared_machine
from scaleout.io.catalogue import load
from scaleout.serving.live import Segment, alone, carry_out
from scaleout.serving.places import Place, inner_links
from scaleout.serving.transfer import Carrier

SECOND = 1_000_000_000_000
MODEL = load("model", "llama-3.1-8b")
SYSTEM = load("system", "dgx-h100")
PORT = 46.0e9


class Bench:
    def __init__(self, places: list[Place], chips: int, *, hosts: bool = False) -> None:
        self.env = Clock()
        self.network = SharedNetwork(self.env, shared_machine(SYSTEM, chips, hosts=hosts))
        self.rows: list[tuple[int, int, int, float]] = []
        self.carrier = Carrier(self.network, MODEL, "bf16", places, lambda *row: self.rows.append(row))
        self.done: dict[int, int] = {}

    def carry(self, number: int, source: int, target: int, tokens: int, **rest: int) -> None:
        note = lambda: self.done.__setitem__(number, self.env.now)  # noqa: E731
        self.carrier.carry(number, (source, 0), (target, 0), tokens, note, **rest)

    def port(self) -> float:
        """Payload rate of a port [byte/s]."""
        topology = self.network.fabric.topology
        links = topology.kind != 0
        return float(topology.bandwidth[links & (topology.source < topology.chips)].min())

    def latency(self, a: int, b: int) -> float:
        import numpy as np

        return float(self.network.fabric.route(np.array([a]), np.array([b])).latency[0])


def test_a_cache_goes_over_the_ports_of_its_chips() -> None:
    bench = Bench([Place(0, 8), Place(8, 8)], 16)
    bench.carry(1, 0, 1, 4096)
    bench.env.run_down()
    # an eighth over each of eight ports
    expected = 4096 * 131_072 / 8 / bench.port() + bench.latency(0, 8)
    assert bench.done[1] / SECOND == pytest.approx(expected, rel=1e-9)
    assert bench.rows == [(0, bench.done[1], 1, 4096 * 131_072)]
    assert bench.carrier.nbytes((0, 0), (1, 0), 4096) == 4096 * 131_072


def test_two_caches_over_the_same_ports_share_them() -> None:
    bench = Bench([Place(0, 8), Place(8, 8)], 16)
    bench.carry(1, 0, 1, 4096)
    bench.carry(2, 0, 1, 8192)
    bench.env.run_down()
    part = 4096 * 131_072 / 8 / bench.port()
    assert bench.done[1] / SECOND == pytest.approx(2 * part, rel=1e-3)
    assert bench.done[2] / SECOND == pytest.approx(3 * part, rel=1e-3)


def test_inside_a_node_a_cache_takes_its_links() -> None:
    bench = Bench([Place(0, 4), Place(4, 4)], 8)
    bench.carry(1, 0, 1, 4096)
    bench.env.run_down()
    inside = bench.network.fabric.topology.bandwidth.min()
    expected = 4096 * 131_072 / 4 / inside + bench.latency(0, 4)
    assert bench.done[1] / SECOND == pytest.approx(expected, rel=1e-9)
    assert bench.carrier.busy(0) is False


def test_what_stays_on_its_chips_takes_no_time() -> None:
    bench = Bench([Place(0, 2), Place(0, 2)], 8)
    bench.carry(1, 0, 1, 4096)
    bench.env.run_down()
    assert bench.done == {1: 0}
    assert bench.rows == [(0, 0, 1, 0.0)]


@pytest.mark.parametrize(("slower", "pieces"), [(0.5, 1), (0.5, 4), (0.5, 32), (2.0, 4), (2.0, 32), (1.0, 32)])
def test_what_is_left_after_the_prefill(slower: float, pieces: int) -> None:
    # a prefill that takes `slower` times as long as the transfer
    bench = Bench([Place(0, 8), Place(8, 8)], 16)
    transfer = 4096 * 131_072 / 8 / bench.port()
    over = slower * transfer
    bench.carry(1, 0, 1, 4096, over=round(over * SECOND), pieces=pieces)
    bench.env.run_down()
    # pieces are sent when made, one after another
    end = 0.0
    for number in range(pieces):
        end = max(end, over * (number + 1) / pieces) + transfer / pieces + bench.latency(0, 8)
    # a piece's time is rounded to a tick
    assert bench.done[1] / SECOND == pytest.approx(end, rel=1e-9, abs=1e-12 * pieces)
    assert end >= max(over, transfer)
    # with many pieces little but the longer of the two is left
    if pieces == 32:
        assert end < max(over, transfer) * (1 + 1.5 / pieces) + min(over, transfer) / pieces


def test_stages_of_the_sender_compute_one_after_the_other() -> None:
    bench = Bench([Place(0, 4, 2), Place(8, 8)], 16)
    transfer = 4096 * 131_072 / 8 / bench.port()
    over = 10 * transfer
    bench.carry(1, 0, 1, 4096, over=round(over * SECOND))
    bench.env.run_down()
    # the layers of the second stage are there at the end; four ports send half of the cache
    expected = over + transfer
    assert bench.done[1] / SECOND == pytest.approx(expected, rel=1e-3)


def test_layouts_that_differ() -> None:
    bench = Bench([Place(0, 2), Place(8, 8)], 16)
    bench.carry(1, 0, 1, 4096)
    bench.env.run_down()
    # two ports send what eight take
    assert bench.done[1] / SECOND == pytest.approx(4096 * 131_072 / 2 / bench.port(), rel=1e-3)


def test_swap_goes_over_the_host_links_and_back() -> None:
    bench = Bench([Place(0, 4)], 8, hosts=True)
    done: list[int] = []
    bench.carrier.swap(3, (0, 0), 1024, lambda: done.append(bench.env.now), out=True)
    bench.env.run_down()
    host = SYSTEM.host
    assert host is not None
    expected = 1024 * 131_072 / 4 * min(host.chips_per_link, 4) / host.payload + host.latency
    assert done[0] / SECOND == pytest.approx(expected, rel=1e-9)
    bench.carrier.swap(3, (0, 0), 1024, lambda: done.append(bench.env.now), out=False)
    bench.env.run_down()
    assert done[1] == 2 * done[0]
    assert [row[3] for row in bench.rows] == [1024 * 131_072] * 2


def test_swap_without_a_host_is_refused() -> None:
    bench = Bench([Place(0, 4)], 8)
    with pytest.raises(TopologyError, match="no path from chip 0 to a host"):
        bench.carrier.swap(3, (0, 0), 1024, lambda: None, out=True)


def segments(network: SharedNetwork, place: Place, messages: int, nbytes: float) -> list[Segment]:
    groups = place.chips.reshape(-1, place.tp)
    make = candidates(network.fabric, groups, "all_reduce")["ring/Simple"]
    made = network.add(make(groups))
    return [Segment(10**8, tuple((one, nbytes) for one in made)) for _ in range(messages)]


def test_a_step_that_is_alone_takes_its_time_alone() -> None:
    bench = Bench([Place(0, 8)], 16)
    step = segments(bench.network, Place(0, 8), 6, 1e7)
    done: list[int] = []
    carry_out(bench.network, step, lambda: done.append(bench.env.now), bench.carrier.claims[0])
    Alarm(bench.env, 1000, [lambda _: done.append(int(bench.carrier.busy(0)))])
    bench.env.run_down()
    assert done == [0, alone(step)]


def test_a_transfer_on_a_replicas_links_makes_it_busy_and_slows_its_step() -> None:
    # a replica over two nodes; another's cache comes in through the ports of its second node
    places = [Place(0, 16), Place(16, 8), Place(8, 8)]
    told: list[int] = []
    bench = Bench(places, 24)
    bench.carrier.watch(0, lambda: told.append(bench.env.now))
    step = segments(bench.network, places[0], 4, 1e8)
    done: list[int] = []
    Alarm(bench.env, 5, [lambda _: bench.carry(1, 1, 2, 100_000)])
    carry_out(bench.network, step, lambda: done.append(bench.env.now), bench.carrier.claims[0])
    bench.env.run_down()
    assert told == [5]
    assert done[0] > alone(step)
    assert not bench.carrier.busy(0)
    free = Bench(places, 24)
    free.carry(1, 1, 2, 100_000)
    free.env.run_down()
    assert bench.done[1] > free.done[1]


def test_links_between_the_chips_of_a_replica() -> None:
    fabric = shared_machine(SYSTEM, 16)
    assert inner_links(fabric, Place(3)) == frozenset()
    # up to the switches of the node and down
    assert len(inner_links(fabric, Place(0, 4))) == 8
    across = inner_links(fabric, Place(0, 8, 2))
    assert any(fabric.topology.kind[link] for link in across)
    # data-parallel ranks talk to each other only where experts are dealt out
    assert inner_links(fabric, Place(0, 1, 1, 8)) == frozenset()
    assert len(inner_links(fabric, Place(0, 1, 1, 8, 8))) == 16

"""A KV cache of explicit blocks, each looked at every time: what the prefix cache is compared with."""

from dataclasses import dataclass, field

from scaleout.serving.host import HostMemory
from scaleout.serving.prefix import PrefixBlocks, names
from scaleout.serving.request import Request


@dataclass(eq=False)
class Slot:
    """One block of HBM: the prompt's block that is in it, who uses it, and when the last of them let go."""

    name: tuple[int, int] | None = None
    users: set[int] = field(default_factory=set)
    since: int = 0


class Slow:
    """All blocks of an attention rank, and names in the host's memory from the oldest to the latest."""

    def __init__(self, total: int, size: int, host: HostMemory | None = None) -> None:
        self.slots, self.size, self.host = [Slot() for _ in range(total)], size, host
        self.outside: list[tuple[int, int]] = []
        self.held: dict[int, list[Slot]] = {}
        self.seen: dict[int, set[int]] = {}
        self.grown: list[Slot] = []
        self.clock = self.evictions = 0

    def names(self, request: Request) -> list[tuple[int, int]]:
        """Of a block: the hash of the piece that its last token is in, and its place."""
        found = []
        for place in range(request.inputs // self.size):
            piece = ((place + 1) * self.size - 1) // request.block_tokens if request.block_tokens else len(found)
            if piece >= len(request.blocks):
                break
            found.append((request.blocks[piece], place))
        return found

    def at(self, name: tuple[int, int]) -> Slot | None:
        return next((slot for slot in self.slots if slot.name == name), None)

    def trim(self) -> None:
        if self.host is not None:
            room = self.host.blocks - sum(self.host.swapped.values())
            del self.outside[: max(0, len(self.outside) - room)]

    def longest(self, request: Request) -> list[tuple[int, int]]:
        swapped = self.host is not None and request.number in self.host.swapped
        handed = request.prefilled == request.target and not swapped
        most = (request.target if handed else request.target - 1) // self.size
        found = []
        for name in self.names(request)[:most]:
            if self.at(name) is None and (handed or swapped or name not in self.outside):
                break
            found.append(name)
        return found

    def take(self) -> Slot:
        """A free block: an empty one, or the one that nobody has used for the longest time."""
        free = [slot for slot in self.slots if not slot.users]
        slot = min(free, key=lambda one: (one.name is not None, one.since))
        if slot.name is not None:
            self.evictions += 1
            if self.host is not None:
                self.outside = [name for name in self.outside if name != slot.name] + [slot.name]
                self.trim()
        slot.name = None
        return slot

    def admit(self, request: Request, left: int) -> bool:
        self.trim()
        names = self.longest(request)
        there = {name: slot for name in names if (slot := self.at(name))}
        wanted = -(-request.target // self.size)
        free = sum(not slot.users for slot in self.slots if slot not in list(there.values()))
        if wanted - len(there) > free - left:
            return False
        for slot in there.values():
            slot.users.add(request.number)
        missing = [name for name in names if name not in there]
        self.outside = [name for name in self.outside if name not in missing] + missing
        held = []
        for place in range(wanted):
            slot = there.get(names[place]) if place < len(names) else None
            if slot is None:
                slot = self.take()
                slot.users.add(request.number)
            held.append(slot)
        self.held[request.number] = held
        self.seen[request.number] = {place for place, name in enumerate(names) if name in there}
        return True

    def fill(self, request: Request, tokens: int) -> None:
        held, seen = self.held[request.number], self.seen[request.number]
        for place, name in enumerate(self.names(request)[: tokens // self.size]):
            if place not in seen and self.at(name) is None:
                held[place].name = name
            seen.add(place)

    def grow(self, blocks: int) -> None:
        self.trim()
        for _ in range(blocks):
            slot = self.take()
            slot.users.add(-1)
            self.grown.append(slot)

    def release(self, request: Request, tokens: int) -> None:
        held = self.held.pop(request.number)
        for slot in reversed(held):
            slot.users.remove(request.number)
            self.clock += 1
            slot.since = self.clock
        for _ in range(-(-tokens // self.size) - len(held)):
            self.grown.pop().users.clear()


class Twin(PrefixBlocks):
    """The prefix cache, compared after every call with the slow one."""

    def __init__(self, total: int, size: int, host: HostMemory | None = None) -> None:
        super().__init__(total, size, host)
        self.slow = Slow(total, size, host)
        self.named: dict[int, tuple[int, int]] = {}

    def check(self) -> None:
        slow, named = self.slow, self.named
        assert self.free == sum(not slot.users for slot in slow.slots)
        idle = sorted((slot for slot in slow.slots if slot.name and not slot.users), key=lambda one: one.since)
        assert [named[name] for name in self._idle] == [slot.name for slot in idle]
        users = {slot.name: len(slot.users) for slot in slow.slots if slot.name}
        assert {named[name]: count for name, count in self._users.items()} == users
        # empty + idle + referred to + the rest of what sequences hold
        rest = sum(1 for slot in slow.slots if slot.users and slot.name is None)
        referred = sum(count > 0 for count in self._users.values())
        empty = self.free - len(self._idle)
        assert empty >= 0
        assert empty + len(self._idle) + referred + rest == self.total
        if self.host is not None:
            slow.trim()
            assert [named[name] for name in self.host.names] == slow.outside

    def found(self, request: Request) -> int:
        tokens = super().found(request)
        if request.prefilled < request.target:
            self.slow.trim()
            assert tokens == max(request.prefilled, len(self.slow.longest(request)) * self.size)
        return tokens

    def admit(self, request: Request, left: int = 0) -> int | None:
        self.named |= zip(names(request, self.size), self.slow.names(request), strict=True)
        fits = self.fits(request, left)
        there = self.slow.admit(request, left)
        found = super().admit(request, left)
        assert (found is not None) == there == fits
        self.check()
        return found

    def fill(self, request: Request, tokens: int) -> None:
        super().fill(request, tokens)
        self.slow.fill(request, tokens)
        self.check()

    def grow(self, blocks: int) -> None:
        super().grow(blocks)
        self.slow.grow(blocks)
        self.check()

    def release(self, request: Request, tokens: int) -> None:
        super().release(request, tokens)
        self.slow.release(request, tokens)
        self.check()

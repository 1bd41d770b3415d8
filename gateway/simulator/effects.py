"""What the faults of one device do: to its hearing, and to its reply on the way back. Pure but for the dice.

First comes what the device does with a request, then what happens to its reply; each in the order of its faults.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from random import Random
from typing import NamedTuple

from gateway.simulator.faults import Fault, span
from gateway.simulator.wire import Framing, Request

SILENT = 0
"""In the place of an exception code: nothing is answered."""

_READS = frozenset({1, 2, 3, 4, 23})
_BITS = frozenset({1, 2})
_FUNCTIONS = (1, 2, 3, 4, 5, 6, 15, 16)
_UNITS = 247
_MOST_SHIFT = 4  # characters that the second device of a conflict begins later


class Live(NamedTuple):
    """A fault at work: its own dice, and since when (monotonic seconds)."""

    fault: Fault
    dice: Random
    begin: float

    def strikes(self) -> bool:
        """Throw the dice for this request, where the fault has a rate."""
        rate = self.fault.numbers.get("rate", 1.0)
        return rate >= 1 or self.dice.random() < rate

    def lasts(self, at: float) -> bool:
        """Whether one of its spans goes on at this moment, where the fault has spans."""
        found = span(self.fault, at - self.begin)
        return found is not None and found.lasts


class Reply(NamedTuple):
    """What a device sends, and after how many seconds; `piece` and `gap` cut it as `wire.deliveries` says."""

    data: bytes
    delay: float
    piece: int = 0
    gap: float = 0.0


class Case(NamedTuple):
    """What a reply answers, and the device's true answer."""

    request: Request
    pdu: bytes
    framing: Framing


def alive(faults: Iterable[Fault], begin: float, seed: int, name: str) -> tuple[Live, ...]:
    """Put faults to work. The same seed, name and place in the order throw the same dice."""
    return tuple(Live(fault, Random(f"{seed}/{name}/{k}/{fault.name}"), begin) for k, fault in enumerate(faults))


def verdict(faults: Sequence[Live], at: float) -> int | None:
    """SILENT or the exception code that a request meets at this moment; None when the device obeys."""
    for live in faults:
        name = live.fault.name
        if name == "silence" and live.strikes():
            return SILENT
        if name == "exception" and live.strikes():
            return int(live.fault["code"])
        if name in ("storm", "reboot") and live.lasts(at):
            return int(live.fault["code"]) if name == "storm" else SILENT
    return None


def harmed(faults: Sequence[Live], reply: Reply, case: Case) -> Reply:
    """The reply as it arrives."""
    for live in faults:
        effect = _EFFECTS.get(live.fault.name)
        if effect is not None and reply.data and live.strikes():
            reply = effect(reply, case, live)
    return reply


def _later(reply: Reply, _case: Case, live: Live) -> Reply:
    return reply._replace(delay=reply.delay + live.fault["seconds"])


def _strange(pdu: bytes, dice: Random) -> bytes:
    """The same reply with other values: what is taken for the truth shows itself."""
    return pdu[:2] + dice.randbytes(len(pdu) - 2) if pdu[0] in _READS else pdu


def _wrong_unit(reply: Reply, case: Case, live: Live) -> Reply:
    other = (case.request.unit + live.dice.randrange(_UNITS - 1)) % _UNITS + 1
    pdu = _strange(case.pdu, live.dice)
    return reply._replace(data=case.framing.wrap(case.request._replace(unit=other), pdu))


def _wrong_function(reply: Reply, case: Case, live: Live) -> Reply:
    asked, dice = case.request.pdu[0], live.dice
    function = dice.choice([each for each in _FUNCTIONS if each != asked])
    if function in _READS:
        size = case.pdu[1] if case.pdu[0] in _READS else 2
        size += size % 2 if function not in _BITS else 0
        pdu = bytes((function, size)) + dice.randbytes(size)
    else:
        pdu = bytes((function,)) + dice.randbytes(2) + (b"\xff\0" if function == 5 else dice.randbytes(2))
    return reply._replace(data=case.framing.wrap(case.request, pdu))


def _wrong_length(reply: Reply, case: Case, live: Live) -> Reply:
    function, dice = case.pdu[0], live.dice
    if function in _READS:
        step, size = 1 if function in _BITS else 2, len(case.pdu) - 2
        size = dice.choice([each for each in (size - step, size + step, size + 2 * step) if step <= each <= 250])
        pdu = bytes((function, size)) + dice.randbytes(size)
    else:
        pdu = case.pdu + dice.randbytes(2)
    return reply._replace(data=case.framing.wrap(case.request, pdu))


def _crc(reply: Reply, case: Case, live: Live) -> Reply:
    number, size = int.from_bytes(reply.data, "big"), len(reply.data)
    while True:
        flips = live.dice.sample(range(8 * size), live.dice.randint(1, int(live.fault["bits"])))
        data = (number ^ sum(1 << bit for bit in flips)).to_bytes(size, "big")
        # An error that the checksum cannot see is nobody's fault: no master could tell it from the truth.
        if not case.framing.sound(data):
            return reply._replace(data=data)


def _noise(reply: Reply, _case: Case, live: Live) -> Reply:
    before, after = (live.dice.randbytes(int(live.fault[key])) for key in ("before", "after"))
    return reply._replace(data=before + reply.data + after)


def _clipped(reply: Reply, _case: Case, live: Live) -> Reply:
    return reply._replace(data=reply.data[live.dice.randint(1, int(live.fault["bytes"])) :])


def _lost(reply: Reply, _case: Case, live: Live) -> Reply:
    count = min(int(live.fault["bytes"]), max(0, len(reply.data) - 2))
    at = live.dice.randint(1, max(1, len(reply.data) - count - 1))
    return reply._replace(data=reply.data[:at] + reply.data[at + count :])


def _fragmented(reply: Reply, _case: Case, live: Live) -> Reply:
    return reply._replace(piece=int(live.fault["piece"]), gap=live.fault["gap"])


def _conflict(reply: Reply, case: Case, live: Live) -> Reply:
    if live.dice.random() < live.fault["clean"]:
        return reply
    while True:
        second = _wrong_length(reply, case, live).data
        second = live.dice.choice((second, case.framing.wrap(case.request, _strange(case.pdu, live.dice))))
        data = _collided(reply.data, second, live.dice.randint(0, _MOST_SHIFT))
        if not _readable(data, {len(reply.data), len(second)}, case.framing):
            return reply._replace(data=data)


def _collided(first: bytes, second: bytes, shift: int) -> bytes:
    """Two senders at once: a 0 of either pulls the line down; idle is all ones."""
    size = max(len(first), shift + len(second))
    one, two = first.ljust(size, b"\xff"), (b"\xff" * shift + second).ljust(size, b"\xff")
    return bytes(a & b for a, b in zip(one, two, strict=True))


def _readable(data: bytes, sizes: set[int], framing: Framing) -> bool:
    """Whether a good frame of one of these sizes stands anywhere in the data."""
    return any(framing.sound(data[at : at + size]) for size in sizes for at in range(len(data) - size + 1))


_EFFECTS: dict[str, Callable[[Reply, Case, Live], Reply]] = {
    "slow": _later,
    "late": _later,
    "wrong-unit": _wrong_unit,
    "wrong-function": _wrong_function,
    "wrong-length": _wrong_length,
    "crc": _crc,
    "noise": _noise,
    "clipped": _clipped,
    "lost": _lost,
    "fragmented": _fragmented,
    "conflict": _conflict,
}

"""A bus: its devices, its faults, and everything that its line carries because a request was put on it."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence

from gateway.errors import GatewayError
from gateway.model import Bus, SerialPort
from gateway.simulator.device import FakeDevice
from gateway.simulator.effects import Case, Live, Reply, alive, harmed
from gateway.simulator.faults import KINDS, Fault
from gateway.simulator.pdu import NO_TARGET, refusal
from gateway.simulator.wire import FRAMINGS, Delivery, Request, deliveries, requests

TURNAROUND = 0.003
"""Seconds that a device thinks before it answers on a serial line."""

_WAITING = 4  # requests that a device remembers while it prepares a late reply
_FLOOD = 32  # bytes of babble that arrive together
_FLOOD_CHARACTER = 10 / 9600  # seconds a character of it takes where there is no line


class FakeBus:
    """All devices behind one port. Time is given: `at` is monotonic seconds and never runs backwards.

    `answer` is the one place between request and reply; `babble` and `unplugged` are what the line does unasked.
    """

    def __init__(self, bus: Bus, devices: Sequence[FakeDevice], turnaround: Mapping[str, float], seed: int) -> None:
        if bus.framing not in FRAMINGS:
            raise GatewayError(
                f"{bus.name}: the simulator does not know the framing {bus.framing!r}: {', '.join(FRAMINGS)}."
            )
        self.bus, self.framing = bus, FRAMINGS[bus.framing]
        self._devices = {device.unit: device for device in devices}
        self._turnaround, self._seed = turnaround, seed
        self._usual = TURNAROUND if isinstance(bus.port, SerialPort) else 0.0
        self._faults: dict[str, Live] = {}
        self._busy: dict[str, deque[float]] = {device.name: deque() for device in devices}
        self._messages = 0

    @property
    def character(self) -> float:
        """Seconds that one character takes on the line; 0 where there is none."""
        port = self.bus.port
        return port.bits / port.baud if isinstance(port, SerialPort) else 0.0

    @property
    def restless(self) -> bool:
        """Whether the line may do something unasked: it must be looked at without a request, too."""
        return "babble" in self._faults or "unplug" in self._faults

    def afflict(self, name: str, faults: Sequence[Fault], at: float) -> None:
        """Give the bus or one of its devices these faults, in the place of those it had; `faults.check` them before."""
        line = [fault for fault in faults if KINDS[fault.name].line]
        rest = [fault for fault in faults if not KINDS[fault.name].line]
        if name == self.bus.name:
            self._faults = {live.fault.name: live for live in alive(line, at, self._seed, name)}
        named = [device for device in self._devices.values() if device.name == name]
        everyone = self._devices.values() if name == self.bus.name else ()
        for device in named or everyone:
            device.afflict(name, alive(rest, at, self._seed, f"{name}/{device.name}"))

    def answer(self, frame: bytes, at: float) -> list[Delivery]:
        """All bytes that the line carries because of this request, whose last bit stood on it at `at`."""
        return [each for request in requests(self.framing, bytearray(frame)) for each in self.reply(request, at)]

    def reply(self, request: Request, at: float) -> list[Delivery]:
        """`answer` for a request that was found already: echo, then the reply; nothing for silence."""
        self._messages += 1
        if self.unplugged(at) or self._lasts("babble", at):
            return []
        echo = [Delivery(at, request.frame)] if "echo" in self._faults else []
        return echo + self._reply(request, at)

    def _reply(self, request: Request, at: float) -> list[Delivery]:
        tcp = self.bus.framing == "tcp"
        if request.unit == 0 and not tcp:
            for everyone in self._devices.values():
                everyone.obey(request.pdu, at, self._messages, broadcast=True)
            return []
        device = self._devices.get(request.unit)
        if device is not None:
            return self._one(device, request, at)
        return [Delivery(at, self.framing.wrap(request, refusal(request.pdu[0], NO_TARGET).pdu))] if tcp else []

    def _one(self, device: FakeDevice, request: Request, at: float) -> list[Delivery]:
        """The reply of one device. It has one UART: what comes while it is busy waits, and a little of it only."""
        busy = self._busy[device.name]
        while busy and busy[0] <= at:
            busy.popleft()
        pdu = device.obey(request.pdu, at, self._messages) if len(busy) <= _WAITING else None
        if pdu is None:
            return []
        reply = Reply(self.framing.wrap(request, pdu), self._turnaround.get(device.name, self._usual))
        if device.faults:
            reply = harmed(device.faults, reply, Case(request, pdu, self.framing))
        begin = max(at, busy[-1]) if busy else at
        plan = deliveries(begin + reply.delay, reply.data, self.character, reply.piece, reply.gap)
        if plan:
            busy.append(plan[-1].due)
        return plan

    def babble(self, since: float, until: float) -> list[Delivery]:
        """What the line carries by itself after `since` and up to `until`, at the pace of the line."""
        if "babble" not in self._faults:
            return []
        live, pace = self._faults["babble"], _FLOOD * (self.character or _FLOOD_CHARACTER)
        first, last = (int((moment - live.begin) // pace) for moment in (max(since, live.begin), until))
        dues = (live.begin + k * pace for k in range(first + 1, last + 1))
        return [Delivery(due, live.dice.randbytes(_FLOOD)) for due in dues if self._lasts("babble", due)]

    def unplugged(self, at: float) -> bool:
        """Whether the port is gone at this moment."""
        return self._lasts("unplug", at)

    def _lasts(self, name: str, at: float) -> bool:
        live = self._faults.get(name)
        return live is not None and live.lasts(at)

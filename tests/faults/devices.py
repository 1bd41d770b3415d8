"""Field devices that remember every answer they gave. Modbus TCP in forty lines: no code of the product."""

from __future__ import annotations

import asyncio
import struct
import time
import zlib
from dataclasses import dataclass, field
from typing import Any

POINTS = {"count": 0, "ms": 2, "mark": 4}
"""Holding registers, u32 each: the answer's count, its time in ms of the monotonic clock, and what `mark` says."""
REGISTERS = 6


def now() -> float:
    """Ms of the monotonic clock, which is the same in every process of this machine."""
    return time.monotonic_ns() / 1e6


def mark(unit: int, count: int) -> int:
    """A number that fits to one answer only, and that nothing can compress."""
    return zlib.crc32(b"%d/%d" % (unit, count))


@dataclass(slots=True)
class Answer:
    """One answer of a device. `taken`: the agent has asked on over the same connection, so it has received this one."""

    unit: int
    count: int
    ms: float
    taken: bool = False


@dataclass
class Field:
    """So many devices behind one address, units 1..n. Their answers are remembered outside of the agent."""

    devices: int = 3
    host: str = "127.0.0.1"
    port: int = 0
    answers: dict[int, list[Answer]] = field(default_factory=dict)
    silent: bool = False
    """No answers while set."""
    _server: asyncio.Server | None = None
    _writers: set[asyncio.StreamWriter] = field(default_factory=set)

    async def start(self) -> None:
        self.answers = {unit: [] for unit in range(1, self.devices + 1)}
        self._server = await asyncio.start_server(self._serve, self.host, self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        assert self._server
        self._server.close()
        for writer in list(self._writers):
            writer.transport.abort()
        await asyncio.sleep(0)
        await self._server.wait_closed()

    @property
    def given(self) -> int:
        """How many answers there were."""
        return sum(map(len, self.answers.values()))

    def site(self, every: str) -> dict[str, Any]:
        """The bus of these devices, as it stands in a site file."""
        points = [{"name": name, "table": "holding", "at": at, "type": "u32"} for name, at in POINTS.items()]
        devices = [
            {"name": f"device-{unit}", "driver": "modbus", "address": unit, "every": every, "point": points}
            for unit in self.answers
        ]
        return {"name": "field", "tcp": {"host": self.host, "port": self.port}, "timeout": "5s", "device": devices}

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        last: Answer | None = None
        try:
            while True:
                transaction, _, size = struct.unpack("!HHH", await reader.readexactly(6))
                unit, function, *rest = struct.unpack("!BBHH", await reader.readexactly(size))
                if last:
                    last.taken = True
                if self.silent:
                    continue
                if unit in self.answers and (function, *rest) == (3, 0, REGISTERS):
                    last = self._answer(unit)
                    numbers = (last.count, int(last.ms) & 0xFFFFFFFF, mark(unit, last.count))
                    said = struct.pack("!BBIII", 3, 2 * REGISTERS, *numbers)
                else:
                    said = bytes([function | 0x80, 2])
                writer.write(struct.pack("!HHHB", transaction, 0, 1 + len(said), unit) + said)
        except (asyncio.IncompleteReadError, ConnectionError, struct.error):
            pass
        finally:
            self._writers.discard(writer)
            writer.close()

    def _answer(self, unit: int) -> Answer:
        answer = Answer(unit, len(self.answers[unit]) + 1, now())
        self.answers[unit].append(answer)
        return answer

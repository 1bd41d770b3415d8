"""Serial lines under measurement: builds and starts line.c, reads its journal, and knows what a line can do at most."""

from __future__ import annotations

import struct
import subprocess
from collections.abc import Sequence
from enum import IntEnum
from pathlib import Path
from typing import NamedTuple

from field import REGISTERS, compiled

RECORD = struct.Struct("<qqqHHBBBB")
TOLERANCE = 0.02
"""A silence that is shorter by no more than this counts as kept: noise of timers and clocks."""
COUNTER = 2
"""Register that every sweep reads exactly once: the high word of `n`."""


class Outcome(IntEnum):
    """What became of a request, as in line.c."""

    ANSWERED = 0
    CORRUPTED = 1
    SILENT = 2
    GARBAGE = 3
    COLLIDED = 4


class Request(NamedTuple):
    """A request as the wire saw it: first byte, end, and the silence before it, in ms of CLOCK_MONOTONIC."""

    begin: float
    end: float
    gap: float
    first: int
    size: int
    line: int
    unit: int
    function: int
    outcome: Outcome

    @property
    def sweeps(self) -> bool:
        """Whether a device answered the register that a sweep reads once."""
        return self.outcome is Outcome.ANSWERED and self.first <= COUNTER < self.first + self.size


def character(baud: int) -> float:
    """Seconds of one character on the wire, 8N1."""
    return 10 / baud


def silence(baud: int) -> float:
    """The silence of 3.5 characters between two frames, s; above 19200 baud a fixed 1.75 ms, as specified."""
    return 0.00175 if baud > 19200 else 3.5 * character(baud)


def shortest(baud: int, registers: int = REGISTERS) -> float:
    """Shortest time of one read, s: request, the silence that ends it, reply, the silence before the next request."""
    return (8 + 5 + 2 * registers) * character(baud) + 2 * silence(baud)


class Lines:
    """Running lines with devices on them; `paths` are their ports."""

    def __init__(self, build: Path, memory: Path, baud: int, units: Sequence[int], count: int) -> None:
        binary = compiled("line", build)
        if binary is None:
            raise OSError("no C compiler: the wire time of a serial line is emulated in C only")
        self._journal = memory / "journal"
        self.paths = [str(memory / f"tty{n}") for n in range(count)]
        command = [binary, str(baud), str(units[0]), str(units[-1]), str(self._journal), *self.paths]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, process_group=0
        )
        assert self._process.stdout
        if self._process.stdout.readline() != "ready\n":
            raise OSError(f"the line simulator did not start: {' '.join(command)}")

    def stop(self) -> None:
        self._process.kill()
        self._process.wait()

    def tell(self, *commands: str) -> None:
        """Gives commands of line.c, which take effect at once."""
        assert self._process.stdin
        self._process.stdin.write("".join(f"{c}\n" for c in commands))
        self._process.stdin.flush()

    def requests(self) -> list[Request]:
        """All requests so far, in the order in which they ended."""
        data = self._journal.read_bytes()
        whole = memoryview(data)[: len(data) // RECORD.size * RECORD.size]
        return [
            Request(begin / 1e6, end / 1e6, gap / 1e6, *numbers, Outcome(outcome))
            for begin, end, gap, *numbers, outcome in RECORD.iter_unpack(whole)
        ]

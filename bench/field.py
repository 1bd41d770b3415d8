"""The field simulator: builds and starts field.c (field_server.py where there is no C compiler), and knows its layout.

The register layout is stated once, in registers.h; `expected` and `TAGS` here are its second, independent writing.
"""

from __future__ import annotations

import shutil
import socket
import struct
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import NamedTuple

HERE = Path(__file__).parent
ENDPOINTS = 4
DEVICES = 20
REGISTERS = 20


class Tag(NamedTuple):
    name: str
    at: int
    type: str


TAGS = (
    Tag("ms", 0, "u32"),
    Tag("n", 2, "u32"),
    *(Tag(f"f{k}", 4 + 2 * k, "f32") for k in range(4)),
    *(Tag(f"s{j}", 12 + j, "s16") for j in range(8)),
)
_BUILDING = threading.Lock()
READ_ALL = struct.pack(">HHHBBHH", 1, 0, 6, 1, 3, 0, REGISTERS)
REPLY_SIZE = 9 + 2 * REGISTERS


class Capability(NamedTuple):
    """What the simulator can do, in reads of 20 registers per second."""

    pipelined: float
    one_at_a_time: float
    kind: str


def devices() -> list[tuple[str, int, int]]:
    """(name, unit, endpoint number) of the twenty devices: five on each endpoint."""
    return [(f"dev-{u:02}", u, (u - 1) * ENDPOINTS // DEVICES) for u in range(1, DEVICES + 1)]


def _noise(unit: int, n: int, column: int) -> int:
    x = (n * 0x9E3779B1 + unit * 0x85EBCA77 + column * 0xC2B2AE3D) & 0xFFFFFFFF
    x = ((x ^ x >> 16) * 0x7FEB352D) & 0xFFFFFFFF
    x = ((x ^ x >> 15) * 0x846CA68B) & 0xFFFFFFFF
    return x ^ x >> 16


def expected(unit: int, n: int) -> dict[str, float]:
    """What a unit holds at its n-th answer: f in tenths, s as they are."""
    held: dict[str, float] = {f"f{k}": (2280 + _noise(unit, n, k) % 41) / 10 for k in range(4)}
    for j in range(8):
        phase = (n // 2 + _noise(unit, 0, j)) % 200
        held[f"s{j}"] = 100 * (j + 1) + min(phase, 200 - phase) + _noise(unit, n, 4 + j) % 3
    return held


def compiled(name: str, build: Path, *libraries: str) -> str | None:
    """The program of bench/NAME.c, built when it is older than any of the sources; None: no C compiler."""
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if compiler is None:
        return None
    binary = build / name
    newest = max(source.stat().st_mtime for source in HERE.glob("*.[ch]"))
    with _BUILDING:
        if not binary.exists() or binary.stat().st_mtime < newest:
            subprocess.run([compiler, "-O2", "-o", str(binary), str(HERE / f"{name}.c"), *libraries], check=True)
    return str(binary)


class Field:
    """A running simulator. `ports`: its endpoints on loopback."""

    def __init__(self, build: Path) -> None:
        if binary := compiled("field", build):
            command, self.kind = [binary, str(ENDPOINTS)], "C, epoll"
        else:
            command, self.kind = [sys.executable, str(HERE / "field_server.py"), str(ENDPOINTS)], "Python, epoll"
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, process_group=0
        )
        assert self._process.stdout
        words = self._process.stdout.readline().split()
        if words[:1] != ["ports"]:
            raise RuntimeError(f"the field simulator did not start: {' '.join(command)}")
        self.ports = [int(w) for w in words[1:]]

    def stop(self) -> None:
        self._process.kill()
        self._process.wait()

    def stats(self) -> tuple[int, int]:
        """Answers so far, and CLOCK_MONOTONIC ms of the first (0: none yet)."""
        with socket.create_connection(("127.0.0.1", self.ports[0]), 5) as s:
            s.sendall(struct.pack(">HHHBBHH", 1, 0, 6, 1, 4, 0, 8))
            reply = _receive(s, 9 + 16)
        return struct.unpack(">QQ", reply[9:])


def _receive(s: socket.socket, size: int) -> bytes:
    got = b""
    while len(got) < size:
        part = s.recv(size - len(got))
        if not part:
            raise ConnectionError("the field simulator closed the connection")
        got += part
    return got


def capability(build: Path, seconds: float) -> Capability:
    """Reads per second that this simulator answers on one connection: 500 requests at once, and one after the other."""
    field = Field(build)
    try:
        rates = [_reads_per_second(field.ports[0], pipelined, seconds) for pipelined in (500, 1)]
        return Capability(*rates, field.kind)
    finally:
        field.stop()


def _reads_per_second(port: int, pipelined: int, seconds: float) -> float:
    request, size, done = READ_ALL * pipelined, REPLY_SIZE * pipelined, 0
    buffer = bytearray(size)
    with socket.create_connection(("127.0.0.1", port), 5) as s:
        s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        start = time.monotonic()
        while (spent := time.monotonic() - start) < seconds:
            s.sendall(request)
            got = 0
            while got < size:
                part = s.recv_into(memoryview(buffer)[got:])
                if not part:
                    raise ConnectionError("the field simulator closed the connection")
                got += part
            done += pipelined
        return done / spent

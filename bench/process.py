"""Figures of a running process and its children, from /proc and ss (Linux)."""

from __future__ import annotations

import contextlib
import re
import shutil
import subprocess
import time
from pathlib import Path
from typing import NamedTuple


class Snapshot(NamedTuple):
    """One moment of a process tree. `at` in ms of CLOCK_MONOTONIC; cpu in s; written and wire in bytes since start."""

    at: float
    cpu: float
    written: int
    wire: int | None


def tree(pid: int) -> list[int]:
    """A process and all its descendants."""
    found = [pid]
    for p in found:
        with contextlib.suppress(OSError):
            for task in Path(f"/proc/{p}/task").iterdir():
                found += map(int, (task / "children").read_text().split())
    return found


def snapshot(pid: int, broker_port: int) -> Snapshot:
    pids = tree(pid)
    at = time.monotonic_ns() / 1e6
    return Snapshot(at, sum(map(cpu_seconds, pids)), sum(map(written_bytes, pids)), wire_bytes(pids, broker_port))


def cpu_seconds(pid: int) -> float:
    """User and system time of all threads, ended ones too: what utime + stime count, in ns instead of ticks."""
    return time.clock_gettime(~pid << 3 | 2)  # clock_getcpuclockid(3): CPUCLOCK_SCHED of another process


def written_bytes(pid: int) -> int:
    """Bytes this process caused to be written to a disk: pages of 4096 as they become dirty; tmpfs does not count."""
    return int(field(pid, "io", "write_bytes"))


def pss_mib(pid: int) -> float:
    """Proportional set size of the tree, MiB."""
    return sum(int(field(p, "smaps_rollup", "Pss").split()[0]) for p in tree(pid)) / 1024


def threads(pid: int) -> int:
    return sum(int(field(p, "status", "Threads")) for p in tree(pid))


def wire_bytes(pids: list[int], port: int) -> int | None:
    """TCP payload both ways + 52 bytes of TCP/IP per segment, on the tree's connections to the broker. None: no ss."""
    ss = shutil.which("ss", path="/usr/bin:/bin:/usr/sbin:/sbin")
    if ss is None:
        return None
    listed = subprocess.run(
        [ss, "-tinpOH", "dport", "=", f":{port}"], capture_output=True, text=True, check=True
    ).stdout.splitlines()
    total = 0
    for line in listed:
        if any(f"pid={p}," in line for p in pids):
            got = {k: int(v) for k, v in re.findall(r"(bytes_sent|bytes_received|segs_out|segs_in):(\d+)", line)}
            payload = got.get("bytes_sent", 0) + got.get("bytes_received", 0)
            total += payload + 52 * (got.get("segs_out", 0) + got.get("segs_in", 0))
    return total


def field(pid: int, file: str, name: str) -> str:
    for line in Path(f"/proc/{pid}/{file}").read_text().splitlines():
        key, _, value = line.partition(":")
        if key == name:
            return value.strip()
    raise LookupError(f"/proc/{pid}/{file} has no {name}")

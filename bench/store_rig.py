"""The rig around one gateway whose store is under measurement: backlog made beforehand, a core of its own, restarts."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import struct
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import decode
import ledger
import msgpack
import process
from field import ENDPOINTS, TAGS, Tag
from rig import Failed, Rig, Sleep, end
from systems import BUILD, HERE, ROOT, SYSTEMS, Job, gateway

PAGE = 4096
_LOG_HEAD, _FRAME_HEAD = 32, 24  # bytes in SQLite's write-ahead log


class Backlog(NamedTuple):
    """Readings that wait in a store; `clean`: its agent was stopped, not killed."""

    readings: int
    per_batch: int
    clean: bool = True

    @property
    def batches(self) -> int:
        return self.readings // self.per_batch


class Work(NamedTuple):
    """What a gateway is told. `store`: lines of its [store]; `backlog`: what waits in it at the start."""

    devices: int = 5
    tags: Sequence[Tag] = TAGS[:4]
    linger: str = "1s"
    store: str = ""
    period: float = 1.0
    backlog: Backlog | None = None

    @property
    def rate(self) -> float:
        """Readings per second."""
        return self.devices * len(self.tags) / self.period


class Arrived(NamedTuple):
    """A telemetry batch at the ledger. `again`: the broker had sent it to the ledger before."""

    arrival: float
    epoch: str
    seq: int
    historical: bool
    again: bool


class StoreRig(Rig):
    """`with StoreRig(work, sleep) as rig:` as Rig. With `alone` the gateway has a core of its own, and all the rest
    runs on the others; with `lasting` the ledger's session outlives a restart of the broker; with `cold` the store is
    on the disk only when the gateway starts.
    """

    def __init__(
        self,
        work: Work,
        sleep: Sleep,
        *,
        broker: bool = True,
        alone: bool = False,
        lasting: bool = False,
        cold: bool = False,
    ) -> None:
        self.work = work
        self.ledger_session, self.broker_persists = ("ledger", True) if lasting else ("", False)
        self._cold = cold
        self._read, self._arrived = 0, list[Arrived]()
        self._core = max(os.sched_getaffinity(0)) if alone and len(os.sched_getaffinity(0)) > 1 else None
        system = replace(SYSTEMS["ours"], command=self._told, linger=work.linger)
        with _without(self._core):
            super().__init__(system, work.period, sleep, broker=broker)

    def start_system(self) -> None:
        super().start_system()
        if self._core is not None:  # the interpreter is still starting: its threads will be born there
            os.sched_setaffinity(self.process.pid, {self._core})

    def _job(self) -> Job:
        return Job(self.disk, self.broker_port, self.field.ports, self.period, self.work.linger, self.work.store)

    def _told(self, job: Job) -> list[str]:
        """The site file, and the store with its backlog."""
        work = self.work
        if work.backlog:
            copy(stock(work.backlog, self.sleep), job.directory / "store")
            if self._cold:
                forget(job.directory / "store")
        units = [
            (f"dev-{unit:03}", unit, (unit - 1) * ENDPOINTS // work.devices) for unit in range(1, work.devices + 1)
        ]
        buses = {
            f'name = "plc-{endpoint + 1}"\ntcp = {{ host = "127.0.0.1", port = {port} }}': [
                (name, unit) for name, unit, at in units if at == endpoint
            ]
            for endpoint, port in enumerate(job.ports)
        }
        return gateway(job, work.tags, buses, counters=["n"])

    def snapshot(self) -> process.Snapshot:
        return process.snapshot(self.process.pid, self.broker_port)

    def wear(self) -> int:
        """Bytes that have been written to the disk, and what SQLite's log will make of them."""
        return process.written_bytes(self.process.pid) + owed(self.disk / "store")

    def first_poll(self, timeout: float) -> float:
        """Waits for the first answer of a device. Seconds from the start of the process."""
        self.until("its first poll", lambda: self.field.stats()[1] > 0, timeout, look=0.01)
        return (self.field.stats()[1] - self.started) / 1000

    def arrived(self) -> list[Arrived]:
        """All telemetry batches that have arrived so far."""
        for record in ledger.records(self.memory / "ledger", self._read):
            self._read += ledger.length(record)
            if record.topic.endswith("/up/telemetry"):
                head = msgpack.unpackb(record.payload)
                historical = head.get("hist", False)
                self._arrived.append(Arrived(record.arrival, head["epoch"], head["seq"], historical, record.again))
        return self._arrived

    def backlog(self) -> list[Arrived]:
        """What has arrived of an earlier run."""
        return [a for a in self.arrived() if a.epoch.startswith("1-") and a.historical]

    def delays(self, start: float, end: float) -> list[float]:
        """From a device's answer to the ledger, ms ascending: live polls that arrived in [start, end)."""
        moments = {a.arrival for a in self.arrived() if not a.historical and start <= a.arrival < end}
        rows = (row for record in self.records() if record.arrival in moments for row in _live_rows(record))
        return sorted(row.arrival - answered for row in rows if (answered := decode.answered_ms(row)) is not None)

    def until_drained(self, timeout: float) -> None:
        """Waits until the whole backlog has arrived."""
        assert self.work.backlog
        batches = self.work.backlog.batches
        self.until("drained", lambda: len({a.seq for a in self.backlog()}) >= batches, timeout, look=0.5)

    def until_calm(self, back: float, timeout: float) -> None:
        """Waits until nothing old has arrived for 3 s, and something has since the broker came back."""

        def calm() -> bool:
            late = [a.arrival for a in self.arrived()[-1000:] if a.arrival > back]
            old = [a.arrival for a in self.arrived()[-1000:] if a.arrival > back and a.historical]
            return bool(old) and max(late) > max(old) + 3000

        self.until("drained", calm, timeout, look=0.2)


def stock(backlog: Backlog, sleep: Sleep) -> Path:
    """The folder of a store with this backlog: made once for each version of the store's code, and kept."""
    made = place(backlog)
    if not made.exists():
        for old in BUILD.glob(f"{made.name.rpartition('-')[0]}-*"):
            shutil.rmtree(old)
        part = made.with_name(f"{made.name}.part")
        told = [str(part), str(backlog.readings), str(backlog.per_batch), "clean" if backlog.clean else "cut"]
        filling = subprocess.Popen(
            [sys.executable, str(HERE / "store_fill.py"), *told],
            env=os.environ | {"PYTHONPATH": str(ROOT)},
            stdin=subprocess.DEVNULL,
            process_group=0,
        )
        try:
            while filling.poll() is None:
                sleep(0.1)
        finally:
            end(filling)
        if filling.returncode:
            raise Failed(f"the backlog was not made: store_fill.py ended with code {filling.returncode}")
        part.rename(made)
    return made


def place(backlog: Backlog) -> Path:
    """Where the store with this backlog is, or will be."""
    code = hashlib.sha256()
    for source in (*sorted((ROOT / "gateway" / "store").glob("*.py")), HERE / "store_fill.py"):
        code.update(source.read_bytes())
    kind = "clean" if backlog.clean else "cut"
    return BUILD / f"stock-{backlog.readings}-{backlog.per_batch}-{kind}-{code.hexdigest()[:8]}"


def copy(folder: Path, to: Path) -> None:
    """Page by page: the kernel counts a write into a large piece of its cache as all of the piece."""
    to.mkdir()
    for source in folder.iterdir():
        with source.open("rb", buffering=0) as read, (to / source.name).open("wb", buffering=0) as written:
            while page := read.read(PAGE):
                written.write(page)
            os.fsync(written.fileno())


def forget(folder: Path) -> None:
    """Take the folder's files out of the kernel's cache."""
    for file in folder.iterdir():
        if file.is_file():
            with file.open("rb") as opened:
                os.posix_fadvise(opened.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


@contextlib.contextmanager
def _without(core: int | None) -> Iterator[None]:
    """What is started meanwhile stays off that core."""
    before = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, before - {core})
        yield
    finally:
        os.sched_setaffinity(0, before)


def _live_rows(record: ledger.Record) -> list[decode.Row]:
    if not record.topic.endswith("/up/telemetry") or msgpack.unpackb(record.payload).get("hist"):
        return []
    return list(decode.native(record))


def owed(folder: Path) -> int:
    """Bytes that SQLite's log still has to write to the database: whole pages of the kernel."""
    log = (folder / "gateway.db-wal").read_bytes()
    index = (folder / "gateway.db-shm").read_bytes()
    if len(log) < _LOG_HEAD:
        return 0
    page, last, moved = *struct.unpack_from(">8xI", log), *struct.unpack_from("<16xI76xI", index)
    frames = range(_LOG_HEAD + moved * (page + _FRAME_HEAD), len(log), page + _FRAME_HEAD)[: last - moved]
    numbers = {int.from_bytes(log[at : at + 4]) for at in frames}
    return PAGE * len({(number - 1) * page // PAGE for number in numbers})


def memory(pid: int) -> dict[str, float]:
    """RSS, its peak since `forget_peak`, and PSS of a process, MiB."""
    held = {"rss": "VmRSS", "peak": "VmHWM"}
    found = {name: int(process.field(pid, "status", key).split()[0]) / 1024 for name, key in held.items()}
    return found | {"pss": process.pss_mib(pid)}


def forget_peak(pid: int) -> None:
    Path(f"/proc/{pid}/clear_refs").write_text("5")

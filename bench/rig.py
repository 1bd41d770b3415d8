"""The rig around one system under test: field simulator, broker, ledger, and the system, started and ended together."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple, Self

import decode
import ledger
import process
from decode import Row
from field import Field
from systems import BUILD, HERE, ROOT, Job, LineJob, System, environment

MEMORY = "/dev/shm" if Path("/dev/shm").is_dir() else None
Sleep = Callable[[float], None]


class Failed(Exception):
    """A system did not do what its scenario needs. The text says what happened and what it last wrote."""


class Window(NamedTuple):
    """Two snapshots of the system, and what the process held at the second."""

    before: process.Snapshot
    after: process.Snapshot
    pss_mib: float
    threads: int


def broker_binary() -> str | None:
    return shutil.which("mosquitto", path="/usr/sbin:/usr/bin:/usr/local/sbin:/usr/local/bin")


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return int(s.getsockname()[1])


class Rig:
    """`with Rig(system, period, sleep) as rig:` everything runs; all of it is ended, by process id, on the way out.

    `broker`: whether it is there when the system starts. The ledger waits for it.
    """

    ledger_session = ""
    """Name of the ledger's session at the broker; without one the broker keeps nothing for it."""
    broker_persists = False

    def __init__(self, system: System, period: float, sleep: Sleep, broker: bool = True) -> None:
        self.system, self.sleep = system, sleep
        self._undo = contextlib.ExitStack()
        with contextlib.ExitStack() as undo:
            BUILD.mkdir(exist_ok=True)
            self.memory = Path(undo.enter_context(tempfile.TemporaryDirectory(prefix="gateway-bench-", dir=MEMORY)))
            self.disk = Path(undo.enter_context(tempfile.TemporaryDirectory(prefix="run-", dir=BUILD)))
            self.period = period
            undo.callback(self._simulate())
            self.broker_port = free_port()
            self._broker: subprocess.Popen[bytes] | None = None
            undo.callback(self.stop_broker)
            self.start_broker()
            self._companion(undo, "ledger.py", str(self.memory / "ledger"), self.ledger_session)
            if system.canned_server:
                self._companion(undo, "tb_server.py")
            if not broker:
                self.stop_broker()
            job = self._job()
            self._command, self._environment = system.command(job), environment(job)
            self._log = undo.enter_context((self.memory / "log").open("w+b"))
            self.start_system()
            undo.callback(lambda: end(self.process))
            self._undo = undo.pop_all()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._undo.close()

    def _simulate(self) -> Callable[[], None]:
        """Starts the field devices; returns how to end them."""
        self.field = Field(BUILD)
        return self.field.stop

    def _job(self) -> Job | LineJob:
        return Job(self.disk, self.broker_port, self.field.ports, self.period, self.system.linger)

    def start_system(self) -> None:
        """Starts it; again, with what it has left on the disk, when it has ended."""
        self.started = time.monotonic() * 1000
        self.process = subprocess.Popen(
            self._command,
            cwd=self.disk if self.system.packages else ROOT,
            env=self._environment,
            process_group=0,
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=subprocess.STDOUT,
        )

    def start_broker(self) -> None:
        mosquitto = broker_binary()
        if mosquitto is None:
            raise Failed("mosquitto is not installed: sudo apt-get install mosquitto")
        config = self.memory / "mosquitto.conf"
        config.write_text(
            f"listener {self.broker_port} 127.0.0.1\nallow_anonymous true\nlog_dest none\nuser root\n"
            f"persistence {str(self.broker_persists).lower()}\npersistence_location {self.memory}/\n"
            "max_inflight_messages 0\nmax_queued_messages 0\nset_tcp_nodelay true\n"
        )
        self._broker = subprocess.Popen(
            [mosquitto, "-c", str(config)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, process_group=0
        )
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.broker_port), 1):
                return
            time.sleep(0.01)
        raise Failed("mosquitto did not open its port within 10 s")

    @property
    def broker_runs(self) -> bool:
        return self._broker is not None

    def stop_broker(self) -> None:
        if self._broker:
            end(self._broker)
            self._broker = None

    def _companion(self, undo: contextlib.ExitStack, script: str, *more: str) -> None:
        """A process of the rig; it says "ready" and ends when its stdin closes."""
        command = [sys.executable, str(HERE / script), str(self.broker_port), *more]
        companion = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, process_group=0)
        undo.callback(end, companion)
        assert companion.stdout
        if companion.stdout.readline() != "ready\n":
            raise Failed(f"{script} did not start")

    def rows(self) -> list[Row]:
        """All that has arrived at the broker so far, decoded."""
        return [row for record in self.records() for row in self.system.decode(record)]

    def records(self) -> Iterator[ledger.Record]:
        file = self.memory / "ledger"
        return ledger.records(file) if file.exists() else iter(())

    def said(self) -> str:
        """The last words of the system under test."""
        self._log.flush()
        lines = (self.memory / "log").read_text(errors="replace").strip().splitlines()
        return " / ".join(lines[-2:])[-300:] or "nothing"

    def until(self, what: str, true: Callable[[], bool], timeout: float = 20.0, look: float = 0.05) -> None:
        """Waits until `true()`, asked every `look` s. Failed when the system ends before, or after `timeout` s."""
        deadline = time.monotonic() + timeout
        while not true():
            if self.process.poll() is not None:
                raise Failed(f"ended with code {self.process.returncode} before {what}; it said: {self.said()}")
            if time.monotonic() > deadline:
                raise Failed(f"not {what} after {timeout:g} s; it said: {self.said()}")
            self.sleep(look)

    def first_reading(self) -> float:
        """Waits for the first reading at the broker. Seconds from the start of the process."""
        self.until("a reading at the broker", lambda: any(map(decode.count, self.rows())))
        return (next(r.arrival for r in self.rows() if decode.count(r)) - self.started) / 1000

    def align(self) -> None:
        """Sleeps until half a second after the second's polls, so that a window holds whole rounds of polls."""
        latest = sorted(a % 1000 for r in self.rows()[-200:] if (a := decode.answered_ms(r)) is not None)
        phase = (latest[len(latest) // 2] + 500) / 1000
        self.sleep((phase - time.monotonic()) % 1)

    def window(self, seconds: float) -> Window:
        before = process.snapshot(self.process.pid, self.broker_port)
        self.sleep(before.at / 1000 + seconds - time.monotonic())
        if self.process.poll() is not None:
            raise Failed(f"ended with code {self.process.returncode} while measured; it said: {self.said()}")
        after = process.snapshot(self.process.pid, self.broker_port)
        return Window(before, after, process.pss_mib(self.process.pid), process.threads(self.process.pid))

    def kill_system(self) -> None:
        self.process.kill()
        self.process.wait()

    def stop_system(self) -> int:
        """Ends the system as a service manager would. Bytes it wrote to a disk in all, its last ones included."""
        self.process.send_signal(signal.SIGTERM)
        deadline = time.monotonic() + 10
        while True:
            pid, status, usage = os.wait4(self.process.pid, os.WNOHANG)
            if pid:
                self.process.returncode = os.waitstatus_to_exitcode(status)
                return usage.ru_oublock * 512
            if time.monotonic() > deadline:
                raise Failed(f"did not end within 10 s of SIGTERM; it said: {self.said()}")
            self.sleep(0.02)


def end(child: subprocess.Popen[bytes] | subprocess.Popen[str]) -> None:
    """SIGTERM by process id, then SIGKILL after 5 s."""
    if child.stdin:
        child.stdin.close()
    if child.poll() is None:
        child.send_signal(signal.SIGTERM)
        try:
            child.wait(5)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()
    if child.stdout:
        child.stdout.close()

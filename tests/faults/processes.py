"""The processes of a stage: mosquitto and the agent. Each dies with the test, and is ended by its own id."""

from __future__ import annotations

import asyncio
import ctypes
import getpass
import json
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from catalogue import NotHere

HERE = Path(__file__).parent
START_WITHIN = 20.0


def die_with_parent() -> None:
    """Ask the kernel to end this child should the test be killed (prctl(2), PR_SET_PDEATHSIG)."""
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)


def free_port() -> int:
    """A TCP port on loopback that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Child:
    """A process with a log."""

    def __init__(self, log: Path) -> None:
        self.log_file = log
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int:
        assert self._process
        return self._process.pid

    def log(self) -> str:
        return self.log_file.read_text(encoding="utf-8", errors="replace") if self.log_file.exists() else ""

    def launch(self, command: list[str], inside: str = "") -> None:
        """Start it, `inside` a network namespace if named."""
        assert not self.running, "it runs already"
        wrapped = ["ip", "netns", "exec", inside, *command] if inside else command
        with self.log_file.open("ab") as log:
            self._process = subprocess.Popen(wrapped, stdout=log, stderr=log, preexec_fn=die_with_parent)

    async def end(self, number: int) -> int:
        """Send a signal, wait until the process is gone; its exit code."""
        assert self._process
        if self.running:
            self._process.send_signal(number)
        code = await asyncio.to_thread(self._process.wait, 40)
        self._process = None
        return code

    def signal(self, number: int) -> None:
        assert self._process
        self._process.send_signal(number)

    async def close(self) -> None:
        if self._process:
            await self.end(signal.SIGKILL)

    def memory(self) -> float:
        """Resident memory in MiB."""
        for line in Path(f"/proc/{self.pid}/status").read_text().splitlines():
            if line.startswith("VmRSS"):
                return int(line.split()[1]) / 1024
        return 0.0


class Mosquitto(Child):
    """A real broker on loopback that keeps sessions over a clean restart. `extra` is added to its configuration."""

    def __init__(self, folder: Path, extra: str = "allow_anonymous true\n", host: str = "127.0.0.1") -> None:
        if not shutil.which("mosquitto"):
            raise NotHere("mosquitto is not installed")
        folder.mkdir(parents=True)
        super().__init__(folder / "mosquitto.log")
        self.host, self.port = host, free_port()
        self.config = folder / "mosquitto.conf"
        self.configure(extra)

    def configure(self, extra: str) -> None:
        """What holds from the next start on."""
        self.config.write_text(
            f"user {getpass.getuser()}\npersistence true\npersistence_location {self.config.parent}/\n"
            f"max_queued_messages 0\nlistener {self.port} {self.host}\n{extra}"
        )

    async def start(self) -> None:
        self.launch(["mosquitto", "-c", str(self.config)])
        deadline = time.monotonic() + START_WITHIN
        while True:
            try:
                _, writer = await asyncio.open_connection(self.host, self.port)
            except OSError:
                if time.monotonic() > deadline or not self.running:
                    raise RuntimeError(f"mosquitto does not listen:\n{self.log()}") from None
                await asyncio.sleep(0.02)
            else:
                writer.close()
                return

    @property
    def url(self) -> str:
        return f"mqtt://{self.host}:{self.port}"

    async def stop(self) -> None:
        """In order: what it holds for others is saved."""
        await self.end(signal.SIGTERM)

    async def kill(self) -> None:
        await self.end(signal.SIGKILL)


class Agent(Child):
    """The real agent: `python -m gateway run`. With `pace` its uplink has other times than the product's."""

    def __init__(self, config: Path, log: Path, pace: dict[str, float] | None = None, inside: str = "") -> None:
        super().__init__(log)
        run = [str(HERE / "hurried.py"), json.dumps(pace)] if pace else ["-m", "gateway", "run", "--config"]
        self._command = [sys.executable, *run, str(config)]
        self._inside = inside

    def start(self) -> None:
        self.launch(self._command, self._inside)

    async def stop(self) -> int:
        return await self.end(signal.SIGTERM)

    async def kill(self) -> None:
        await self.end(signal.SIGKILL)


def write_site(file: Path, document: dict[str, Any]) -> Path:
    """Write a site file in its JSON form."""
    file.write_text(json.dumps(document), encoding="utf-8")
    return file

"""The agent as a process, started, stopped and killed; what it stored is judged by a referee outside of it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import sqlite3
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgpack
import pytest

from gateway.cli.demo import rehearsal
from gateway.cli.demo_parts import Referee
from gateway.clock import Clock
from gateway.model import Site
from gateway.settings import load
from gateway.settings.document import read
from gateway.simulator import Simulator
from gateway.store.look import waiting
from gateway.store.rows import lane

EXAMPLE = Path(__file__).parents[2] / "config" / "gateway.toml"


class Rig:
    """The example site on simulated ports, with a broker that is not there yet."""

    def __init__(self, folder: Path, port: int) -> None:
        self.folder = folder
        self.port = port
        document = rehearsal(read(EXAMPLE).data, folder, f"mqtt://127.0.0.1:{port}")
        document["bus"].append(
            {
                "name": "unplugged",
                "serial": {"port": str(folder / "no-such-port"), "baud": 9600},
                "device": [{"name": "lost-meter", "profile": "eastron-sdm120", "address": 1}],
            }
        )
        self.config = folder / "gateway.json"
        self.config.write_text(json.dumps(document), encoding="utf-8")
        self.site: Site = load(self.config)
        self.clock = Clock("system")
        present = tuple(bus for bus in self.site.buses if bus.name != "unplugged")
        self.simulator = Simulator(
            Site(self.site.gateway, self.site.site, "system", self.site.uplink, self.site.store, present),
            clock=self.clock,
        )
        self.referee = Referee(self.site, self.simulator, self.clock)
        self.log = folder / "agent.log"

    @property
    def on_disk(self) -> int:
        return waiting(Path(self.site.store.path))

    def events(self) -> list[str]:
        """The codes of the events that wait on disk, in the order of the store."""
        with contextlib.closing(sqlite3.connect(Path(self.site.store.path) / "gateway.db")) as db:
            found = db.execute("SELECT data FROM batch WHERE id BETWEEN ? AND ? ORDER BY id", lane("e"))
            return [msgpack.unpackb(data)["code"] for (data,) in found]

    def start(self) -> subprocess.Popen[bytes]:
        with self.log.open("ab") as log:
            command = [sys.executable, "-m", "gateway", "run", "--config", str(self.config)]
            return subprocess.Popen(command, stderr=log)

    @contextlib.contextmanager
    def broker(self) -> Any:
        config = self.folder / "mosquitto.conf"
        config.write_text(f"user root\nlistener {self.port} 127.0.0.1\nallow_anonymous true\n")
        process = subprocess.Popen(["mosquitto", "-c", str(config)], stderr=subprocess.DEVNULL)
        try:
            yield
        finally:
            process.terminate()
            process.wait()


@pytest.fixture
async def rig(tmp_path, free_port) -> AsyncIterator[Rig]:
    made = Rig(tmp_path, free_port())
    task = asyncio.create_task(made.simulator.run())
    await made.simulator.ready.wait()
    yield made
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def judged(rig: Rig, wanted: int, until: Any) -> None:
    """Let the broker come back; everything that was stored must arrive, and be what the devices held."""
    with rig.broker():
        listening = asyncio.create_task(rig.referee.run())
        agent = rig.start()
        referee = rig.referee
        await until(lambda: referee.received >= wanted and not referee.backlog, f"{wanted} readings", 40.0)
        agent.terminate()
        assert await asyncio.to_thread(agent.wait, 20) == 0
        await until(lambda: not referee.missing(), "the last batch")
        listening.cancel()
        await asyncio.gather(listening, return_exceptions=True)
    assert referee.wrong == 0, referee.examples
    assert referee.checked > wanted / 3


async def test_without_broker_and_without_a_port_it_runs_stores_and_delivers_later(rig, until):
    agent = rig.start()
    await until(lambda: rig.on_disk > 60, "readings on disk")
    assert agent.poll() is None
    agent.terminate()
    assert await asyncio.to_thread(agent.wait, 20) == 0
    stored = rig.on_disk
    assert rig.events() == ["port-lost"]
    log = rig.log.read_text(encoding="utf-8")
    assert "no-such-port does not exist" in log
    assert "cannot be reached" in log
    assert "Traceback" not in log
    await judged(rig, stored, until)


async def test_kill_9_costs_nothing_that_was_on_disk(rig, until):
    stored = 0
    for _ in range(3):
        agent = rig.start()
        before = stored
        await until(lambda before=before: rig.on_disk > before + 15, "new readings on disk")
        agent.send_signal(signal.SIGKILL)
        agent.wait()
        stored = rig.on_disk
    await judged(rig, stored, until)


async def test_a_second_agent_on_the_same_store_says_so_and_leaves(rig, until):
    first = rig.start()
    await until(lambda: rig.on_disk > 0, "readings on disk")
    second = subprocess.run(
        [sys.executable, "-m", "gateway", "run", "--config", str(rig.config)],
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )
    assert second.returncode == 1
    assert str(first.pid) in second.stderr
    assert "Traceback" not in second.stderr
    first.terminate()
    assert await asyncio.to_thread(first.wait, 20) == 0

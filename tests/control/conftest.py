"""A small site on a pseudo-terminal and TCP, its simulator, an agent process and verbs as a technician calls them."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from gateway.clock import Clock
from gateway.control import caller
from gateway.model import Site
from gateway.settings import load
from gateway.simulator import Simulator

LAMP = [
    {
        "name": "mode",
        "table": "holding",
        "at": 0,
        "labels": {"0": "tắt", "1": "bật"},
        "kind": "state",
        "writable": True,
    },
    {
        "name": "level",
        "table": "holding",
        "at": 1,
        "scale": 0.1,
        "unit": "%",
        "low": 0,
        "high": 100,
        "writable": True,
    },
    {"name": "name", "table": "holding", "at": 10, "type": "string", "length": 6, "kind": "text", "writable": True},
    {"name": "relay", "table": "coil", "at": 0, "kind": "state", "writable": True},
    {"name": "ratio", "table": "holding", "at": 20, "type": "f32", "writable": True},
    {"name": "temperature", "table": "input", "at": 0, "type": "s16", "unit": "Cel"},
]
EVERYBODY = [{**LAMP[1], "every": "1h"}]


@dataclass(frozen=True)
class Said:
    """What a verb has said."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)

    @property
    def sentence(self) -> str:
        """The one sentence on stderr: no traceback, no log."""
        assert "Traceback" not in self.err, self.err
        lines = self.err.strip().splitlines()
        assert len(lines) == 1, self.err
        return lines[0]


class Rig:
    """The site, its simulator, and the verbs."""

    def __init__(self, folder: Path, port: int) -> None:
        self.folder = folder
        self.tty = folder / "tty"
        self.config = folder / "gateway.json"
        self.tcp = f"127.0.0.1:{port}"
        modbus = {"driver": "modbus", "every": "500ms"}
        line = [
            {"name": "meter", "profile": "eastron-sdm120", "address": 1, "every": "500ms"},
            {"name": "lamp", "address": 2, "location": "tủ 14, lộ vào", "point": LAMP, **modbus},
            {"name": "lamps", "address": 0, "point": EVERYBODY, **modbus},
        ]
        ghost = {"name": "ghost", "profile": "eastron-sdm120", "address": 9, "every": "1s"}
        plc = {"name": "pump", "address": 1, "point": [LAMP[1], LAMP[5]], **modbus}
        self.document: dict[str, Any] = {
            "gateway": {"id": "tn-p1-cab-014"},
            "clock": {"trust": "system"},
            "uplink": {"brokers": ["mqtt://127.0.0.1:9"]},
            "store": {"path": str(folder / "store")},
            "bus": [
                {
                    "name": "line",
                    "serial": {"port": str(self.tty), "baud": 115200},
                    "timeout": "300ms",
                    "device": [*line, ghost],
                },
                {"name": "plc", "tcp": {"host": "127.0.0.1", "port": port}, "device": [plc]},
            ],
        }
        self.write()
        self.site: Site = load(self.config)
        present = tuple(
            replace(bus, devices=tuple(device for device in bus.devices if device.name not in ("ghost", "lamps")))
            for bus in self.site.buses
        )
        self.simulator = Simulator(replace(self.site, buses=present), clock=Clock("system"))

    @property
    def socket(self) -> Path:
        return Path(self.site.store.path) / "control.sock"

    def write(self) -> None:
        self.config.write_text(json.dumps(self.document, ensure_ascii=False), encoding="utf-8")

    async def start(self, *args: str, **options: Any) -> asyncio.subprocess.Process:
        env = {**os.environ, "GATEWAY_CONFIG": str(self.config), "COLUMNS": "200"}
        pipes = {"stdin": asyncio.subprocess.DEVNULL, "stdout": asyncio.subprocess.PIPE}
        command = (sys.executable, "-m", "gateway", *args)
        return await asyncio.create_subprocess_exec(
            *command, **{**pipes, "stderr": asyncio.subprocess.PIPE, "env": env, **options}
        )

    async def call(self, *args: str, **options: Any) -> Said:
        """Run a verb to its end."""
        process = await self.start(*args, **options)
        async with asyncio.timeout(40):
            out, err = await process.communicate()
        return Said(process.returncode or 0, out.decode(), err.decode())

    @asynccontextmanager
    async def agent(self) -> AsyncIterator[asyncio.subprocess.Process]:
        """Run the agent until the block ends; it must end well."""
        with (self.folder / "agent.log").open("wb") as log:
            process = await self.start("run", stderr=log)
        try:
            async with asyncio.timeout(20):
                while await caller.find(self.site) is None:
                    await asyncio.sleep(0.05)
            yield process
        finally:
            if process.returncode is None:
                process.send_signal(signal.SIGTERM)
            assert await process.wait() == 0, self.log
        assert "Traceback" not in self.log

    @property
    def log(self) -> str:
        return (self.folder / "agent.log").read_text(encoding="utf-8")

    async def ask(self, **request: Any) -> list[dict[str, Any]]:
        """Ask the agent at its socket."""
        return [message async for message in caller.connect(self.socket, request)]

    def held(self, device: str, point: str) -> Any:
        """What the device holds now."""
        return self.simulator.held(device, point, Clock("system").mono_ms())[-1]


@pytest.fixture
async def rig(tmp_path: Path, free_port: Any) -> AsyncIterator[Rig]:
    made = Rig(tmp_path, free_port())
    task = asyncio.create_task(made.simulator.run())
    await made.simulator.ready.wait()
    yield made
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


@pytest.fixture(params=["agent", "alone"])
async def both(rig: Rig, request: pytest.FixtureRequest) -> AsyncIterator[Rig]:
    """The rig with an agent that owns the ports, and without."""
    if request.param == "alone":
        yield rig
        return
    async with rig.agent():
        yield rig

"""The demo's broker (rumqttd in a wheel), as a child process on loopback."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from socket import create_connection
from time import monotonic, sleep
from typing import Any

import pytest

from drivers.base import Sample
from gateway.cli.demo_parts import BROKER_TOML
from gateway.model import Readings


@pytest.fixture
def iotcore(tmp_path: Path, free_port: Any, mosquitto: Any) -> Iterator[Any]:
    """Give (url, stop, start) of a running broker."""
    port = free_port()
    config = tmp_path / "broker.toml"
    config.write_text(BROKER_TOML.format(port=port))
    processes: list[subprocess.Popen[bytes]] = []

    def start() -> None:
        command = [sys.executable, "-m", "iotcore._serve", json.dumps({"config_path": str(config)})]
        processes.append(subprocess.Popen(command, stdin=subprocess.PIPE))
        deadline = monotonic() + 10
        while monotonic() < deadline:
            with suppress(OSError), create_connection(("127.0.0.1", port), timeout=1):
                return
            sleep(0.02)
        pytest.fail("iotcore does not listen")

    def stop() -> None:
        while processes:
            process = processes.pop()
            process.kill()
            process.wait(10)
            process.stdin.close()

    start()
    yield f"mqtt://127.0.0.1:{port}", stop, start
    stop()


async def test_the_uplink_on_the_demo_broker(iotcore: Any, rig: Any, ioc: Any, until: Any) -> None:
    url, stop, start = iotcore
    listener = await ioc(url)
    gateway = rig(url, confirm="ioc")
    await gateway.start()
    for i in range(30):
        await gateway.read(float(i))
    samples = [Sample(f"text-{i}", f"{i * 7919 % 10007:05d} điện") for i in range(5000)]
    await gateway.store.append(Readings("big", "00000000", gateway.clock.mono_ms(), samples))
    gateway.store.flush()
    await until(lambda: len(listener.values()) == 30, "everything")
    await until(lambda: any(row[0] == "big" for batch in listener.batches() for row in batch["rows"]), "the big one")
    assert listener.of("birth")
    before = listener.heard
    await listener.close()
    stop()
    await until(lambda: not gateway.publisher.online, "the loss to be noticed")
    await gateway.read(100.0)
    start()
    listener = await ioc(url)
    listener.heard[:0] = before
    await until(lambda: 100.0 in listener.values(), "the reading of the outage")
    assert listener.values() == [float(i) for i in range(30)] + [100.0]
    epoch = gateway.store.epoch
    await listener.say("dn/ack", epoch=epoch, stream="t", ranges=[[1, 10_000]])
    await until(lambda: gateway.store.stats()["pending"] == 0, "an empty store")

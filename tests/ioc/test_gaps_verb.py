"""`gateway ioc gaps`, as a maintainer runs it."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

from gateway.model import Uplink
from gateway.uplink.mqtt import Session

ROOT = Path(__file__).parents[2]


async def gaps(broker: str, *arguments: str) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "gateway", "ioc", "gaps", "--broker", broker, *arguments),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        cwd=ROOT,
        env=os.environ | {"PYTHONIOENCODING": "utf-8", "COLUMNS": "160"},
    )


async def say(broker: str) -> None:
    """What a gateway says that has lost some: retained, so that it is heard whoever listens later."""
    session = await Session.open(broker, Uplink((broker,)), "gw-1", expiry=0)
    entry = {"epoch": "6-x", "ended": "unclean", "pending": [[7, 9]], "highest_on_disk": 9}
    bodies = {
        "status": {"online": True, "conn": ["7-y", 1]},
        "epochs": {"epoch": "7-y", "epochs": [entry]},
        "event": {"epoch": "7-y", "stream": "e", "seq": 1, "ts": 0, "clk": "synced", "code": "store-full"}
        | {"data": {"dropped": [{"epoch": "6-x", "stream": "t", "ranges": [[2, 5]]}]}},
    }
    for kind, body in bodies.items():
        payload = json.dumps({"v": 1, "gw": "gw-1"} | body).encode()
        assert await session.publish(f"city/v1/gw-1/up/{kind}", payload, retain=True) in (0, 0x10)
    await session.close()


async def test_tells_what_is_missing(broker: str) -> None:
    await say(broker)
    process = await gaps(broker, "--seconds", "2")
    out, errors = await asyncio.wait_for(process.communicate(), 30)
    assert (process.returncode, errors) == (0, b"")
    lines = [" ".join(line.split()) for line in out.decode().splitlines()]
    assert lines[0] == "gateway epoch stream highest dropped lost on its way unexplained unknown"
    assert lines[1] == "gw-1 6-x t 9 4: 2-5 3: 7-9 above 9"
    assert [line.partition(":")[0] for line in lines[2:5]] == ["dropped", "on its way", "unknown"]
    assert "1 gateways, 2 streams, 1 batches and events heard in 2 s: 1 streams are not complete." in lines[-1]


async def test_json_lines(broker: str) -> None:
    await say(broker)
    process = await gaps(broker, "--seconds", "2", "--json", "--ask")
    out, errors = await asyncio.wait_for(process.communicate(), 30)
    assert (process.returncode, errors) == (0, b"")
    one, other = map(json.loads, out.splitlines())
    assert (one["gw"], one["epoch"], one["stream"], one["complete"]) == ("gw-1", "6-x", "t", False)
    assert (one["dropped"], one["on_its_way"], one["unknown_above"]) == ([[2, 5]], [[7, 9]], 9)
    assert (other["arrived"], other["complete"]) == ([[1, 1]], True)


async def test_ends_early_with_what_it_has(broker: str, gateway: Any, until: Any) -> None:
    agent = gateway()
    process = await gaps(broker, "--seconds", "600")
    await agent.start()
    await agent.read(1.0)
    await until(lambda: agent.publisher.counters.confirmed, "somebody to listen")
    await until(lambda: agent.store.stats()["pending"] == 0, "every batch to be freed")
    process.send_signal(signal.SIGINT)
    out, _ = await asyncio.wait_for(process.communicate(), 30)
    assert process.returncode == 0
    assert out.decode().strip().endswith("nothing is missing.")


async def test_nobody_there(broker: str) -> None:
    process = await gaps(broker, "--seconds", "0.5")
    out, _ = await asyncio.wait_for(process.communicate(), 30)
    assert process.returncode == 0
    assert out.decode().startswith("Nothing was heard in 0.5 s. Probably")


async def test_a_broker_that_lets_nobody_ask(mosquitto: Any) -> None:
    mosquitto.kill()
    mosquitto.start(acl="topic read #\ntopic write city/v1/+/up/#\n")
    session = await Session.open(mosquitto.url, Uplink((mosquitto.url,)), "gw-1", expiry=0)
    batch = {"v": 1, "gw": "gw-1", "epoch": "1-x", "seq": 1, "boot": "b", "t0": 0, "m0": 0, "clk": "synced"}
    batch["d"] = [["meter-1", "c0ffee00", ["p"], [0], [[0, [1]]], []]]  # nobody has published its birth
    await session.publish("city/v1/gw-1/up/telemetry", json.dumps(batch).encode(), retain=True)
    await session.close()
    process = await gaps(mosquitto.url, "--seconds", "7", "--ask")
    _, errors = await asyncio.wait_for(process.communicate(), 30)
    assert process.returncode == 1
    assert b"does not let this client write city/v1/+/dn/#" in errors

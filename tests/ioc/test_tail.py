"""`gateway ioc tail`, as a user runs it."""

from __future__ import annotations

import asyncio
import io
import json
import os
import pty
import signal
import sys
from pathlib import Path
from typing import Any

from gateway.model import Uplink
from gateway.uplink.mqtt import Session

ROOT = Path(__file__).parents[2]


async def tail(broker: str, *arguments: str, stdout: Any = asyncio.subprocess.PIPE) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "gateway", "ioc", "tail", "--broker", broker, *arguments),
        stdout=stdout,
        stderr=asyncio.subprocess.PIPE,
        cwd=ROOT,
        env=os.environ | {"PYTHONIOENCODING": "utf-8", "TERM": "xterm", "LINES": "40", "COLUMNS": "140"},
    )


async def test_json_lines(broker: str, gateway: Any) -> None:
    agent = gateway()
    process = await tail(broker, "--json", "--count", "4")
    await agent.start()
    await agent.read(230.2)
    await agent.read(None, "bad:timeout")
    out, errors = await asyncio.wait_for(process.communicate(), 20)
    assert (process.returncode, errors) == (0, b"")
    lines = [json.loads(line) for line in out.splitlines()]
    assert [list(line) for line in lines] == [
        ["gw", "device", "point", "ts", "value", "unit", "quality", "epoch", "seq", "hist"]
    ] * 4
    first, total, bad, _ = lines
    assert (first["gw"], first["device"], first["point"], first["value"]) == ("gw-1", "meter-1", "voltage_l1", 230.2)
    assert (first["unit"], first["quality"]) == ("V", "good")
    assert (total["point"], total["unit"]) == ("điện.total", "kW.h")
    assert (bad["value"], bad["quality"]) == (None, "bad:timeout")
    assert first["epoch"] == agent.store.epoch


async def test_acknowledges_what_it_prints(broker: str, gateway: Any, until: Any) -> None:
    agent = gateway(confirm="ioc")
    process = await tail(broker, "--ack", "--seconds", "15")
    await agent.start()
    for i in range(5):
        await agent.read(float(i))
    await until(lambda: agent.store.stats()["pending"] == 0, "every batch to be freed")
    process.send_signal(signal.SIGINT)
    out, errors = await asyncio.wait_for(process.communicate(), 20)
    assert (process.returncode, errors) == (0, b"")
    text = out.decode()
    assert "gw-1 meter-1 voltage_l1 4.0 V good" in text or "gw-1 meter-1 voltage_l1 4 V good" in text
    assert "điện.total 7 kW.h good" in text


async def test_ends_after_its_time(broker: str) -> None:
    process = await tail(broker, "--json", "--seconds", "0.5")
    out, errors = await asyncio.wait_for(process.communicate(), 20)
    assert (process.returncode, out, errors) == (0, b"", b"")


async def test_no_broker(free_port: Any) -> None:
    process = await tail(f"mqtt://127.0.0.1:{free_port()}", "--json")
    out, errors = await asyncio.wait_for(process.communicate(), 20)
    assert process.returncode == 1
    assert out == b""
    assert b"nobody listens on that port" in errors
    assert b"Traceback" not in errors


async def test_wrong_usage(broker: str) -> None:
    process = await tail(broker, "--count", "0")
    _, errors = await asyncio.wait_for(process.communicate(), 20)
    assert process.returncode == 2
    assert b"--count" in errors


async def test_one_gateway_only(broker: str, gateway: Any) -> None:
    one, other = gateway("gw-1"), gateway("gw-2")
    process = await tail(broker, "--json", "--count", "2", "--gateway", "gw-2")
    await one.start()
    await one.read(1.0)
    await other.start()
    await other.read(2.0)
    out, _ = await asyncio.wait_for(process.communicate(), 20)
    assert {json.loads(line)["gw"] for line in out.splitlines()} == {"gw-2"}


async def test_a_live_table_on_a_terminal(broker: str, gateway: Any, until: Any) -> None:
    ours, theirs = pty.openpty()
    screen = io.BytesIO()
    loop = asyncio.get_running_loop()
    loop.add_reader(ours, lambda: screen.write(os.read(ours, 65536)))
    agent = gateway()
    entry = {"epoch": "0-x", "ended": "clean", "pending": [[7, 9]], "highest_on_disk": 9}
    earlier = json.dumps({"v": 1, "gw": "gw-2", "epoch": "1-y", "epochs": [entry]})
    session = await Session.open(broker, Uplink((broker,)), "gw-2", expiry=0)
    await session.publish("city/v1/gw-2/up/epochs", earlier.encode(), retain=True)
    await session.close()
    process = await tail(broker, "--seconds", "15", stdout=theirs)
    os.close(theirs)
    await agent.start()
    await agent.read(230.2)
    for text in ("230.2", "điện.total", "missing batches: 3 on its way"):
        await until(lambda text=text: text.encode() in screen.getvalue(), text)
    process.send_signal(signal.SIGINT)
    _, errors = await asyncio.wait_for(process.communicate(), 20)
    loop.remove_reader(ours)
    os.close(ours)
    assert (process.returncode, errors) == (0, b"")

"""N12, N13, N14: what answers is no broker, or a broker that does not take everything."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import AsyncIterator
from pathlib import Path

from catalogue import Outcome, Round, fault
from stage import GATEWAY, behind_a_proxy, stage

LINES = 10
"""Of the log, for each outage."""
PAGE = (
    b"HTTP/1.1 302 Found\r\nLocation: http://login.example/\r\nContent-Type: text/html\r\nConnection: close\r\n\r\n"
    b"<html><body><h1>Welcome to the network. Please log in.</h1></body></html>\r\n"
)


@fault(
    "N12",
    "a captive portal answers HTML on the broker's port",
    "one sentence says that this is no broker; tries become rarer; readings wait on disk",
    times=3,
    quick=1,
)
async def captive_portal(round_: Round) -> Outcome:
    slowest, tries, seconds = 0.0, 0, 0.0
    async with portal() as port, behind_a_proxy(round_.folder, every="100ms") as (s, proxy):
        await s.start()
        await s.recovered()
        for _ in range(round_.times):
            before, proxy.target = len(proxy.accepted), port
            await proxy.cut()
            await s.polled(50)
            tries += len(proxy.accepted) - before
            seconds += 5
            assert "cannot be reached" in s.agent.log(), "nothing says that this is no broker"
            assert s.agent.log().count("\n") < LINES * (round_.times + 1), "the log is flooded"
            proxy.target = s.broker.port
            slowest = max(slowest, await s.recovered())
        await s.stop()
        note = f"{tries} tries in {seconds:.0f} s"
        outcome = await s.outcome(round_.times, recovered=slowest, note=note)
    assert 0 < tries <= 5 * seconds, note
    return outcome


@contextlib.asynccontextmanager
async def portal() -> AsyncIterator[int]:
    """A server that greets whoever says something, in another language."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            await reader.read(65536)
            writer.write(PAGE)
            await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        await server.wait_closed()


@fault(
    "N13",
    "the broker's access list denies one topic",
    "what is refused becomes a dead letter on disk and an event names it; other topics flow; it comes when allowed",
    times=2,
    quick=1,
)
async def topic_is_denied(round_: Round) -> Outcome:
    slowest = 0.0
    acl = round_.folder / "acl"
    allow(acl)
    async with stage(round_.folder, every="200ms", broker=f"allow_anonymous true\nacl_file {acl}\n") as s:
        await s.start()
        await s.recovered()
        for turn in range(round_.times):
            allow(acl, but="telemetry")
            s.broker.signal(signal.SIGHUP)
            told = lambda turn=turn: s.ledger.raised("dead-letter") > turn
            await s.until(told, "an event about dead letters", 60)
            await s.polled(10)
            allow(acl)
            s.broker.signal(signal.SIGHUP)
            slowest = max(slowest, await s.recovered(120))
        await s.stop()
        named = len(s.ledger.announced())
        outcome = await s.outcome(round_.times, recovered=slowest, note=f"{named} dead letters were named, and came")
    assert named > 0, "no dead letter was named"
    return outcome


def allow(file: Path, but: str = "") -> None:
    """Write an access list: the gateway's topics may be written, except one."""
    kinds = ("telemetry", "event", "status", "health", "clock", "epochs", "birth/#")
    lines = [f"topic write city/v1/{GATEWAY}/up/{kind}" for kind in kinds if kind != but]
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("\n".join(["topic read #", *lines, ""]))
    file.chmod(0o644)


@fault(
    "N14",
    "the broker's largest packet is smaller than a batch",
    "the batch is sent in parts, each with its place in the key",
    times=6,
    quick=1,
)
async def packets_are_small(round_: Round) -> Outcome:
    slowest, parts = 0.0, 0
    limits = [round_.chance.randint(800, 2500) for _ in range(round_.times)]
    async with stage(round_.folder, devices=8, every="50ms", store={"linger": "2s"}, broker=limit(limits[0])) as s:
        await s.start()
        await s.recovered()
        for most in limits:
            await s.broker.stop()
            s.broker.configure(limit(most))
            await s.broker.start()
            await s.polled(80)
            slowest = max(slowest, await s.recovered())
        await s.stop()
        parts = len({key[:4] for key in s.ledger.keys if key[5] > 1})
        note = f"{parts} batches came in parts; limits {min(limits)} to {max(limits)} bytes"
        outcome = await s.outcome(round_.times, recovered=slowest, note=note)
    assert parts > 0, "no batch had to be sent in parts"
    return outcome


def limit(most: int) -> str:
    return f"allow_anonymous true\nmax_packet_size {most}\n"

"""N01, N03, N04, N07: the connection to the broker ends, or its confirmations do."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

import packets
from catalogue import Outcome, Round, fault
from devices import now
from stage import GATEWAY, behind_a_proxy, stage

WINDOW = 20
"""Batches on their way at most, as the site file's default says."""
TAKEN_OVER = b"\xe0\x02\x8e\x00"
"""DISCONNECT of MQTT 5: session taken over."""


@fault(
    "N01",
    "broker restart during publish",
    "unacknowledged batches come again under the same key, at most a window of them twice",
    times=15,
    quick=2,
)
async def broker_restarts(round_: Round) -> Outcome:
    slowest = 0.0
    async with stage(round_.folder, every="100ms", store={"linger": "0.05s"}) as s:
        await s.start()
        for _ in range(round_.times):
            await s.polled(round_.chance.randint(2, 10))
            await asyncio.sleep(round_.chance.uniform(0, 0.1))
            await s.broker.stop()
            await s.polled(round_.chance.randint(1, 10))
            await s.broker.start()
            slowest = max(slowest, await s.recovered())
        await s.stop()
        outcome = await s.outcome(round_.times, recovered=slowest)
    assert outcome.duplicated <= WINDOW * round_.times, f"{outcome.duplicated} duplicates"
    return outcome


@fault(
    "N03",
    "connection reset inside a packet",
    "the agent connects again after a jittered delay; nothing is lost",
    times=30,
)
async def reset_inside_a_packet(round_: Round) -> Outcome:
    slowest = 0.0
    async with behind_a_proxy(round_.folder, every="100ms", store={"linger": "0.1s"}) as (s, proxy):
        await s.start()
        await s.recovered()
        for _ in range(round_.times):
            before = len(proxy.accepted)
            proxy.cut_after = round_.chance.randint(1, 700)
            await s.until(lambda before=before: len(proxy.accepted) > before, "the next connection")
            slowest = max(slowest, await s.recovered())
        await s.stop()
        return await s.outcome(round_.times, recovered=slowest)


@fault(
    "N04",
    "PUBACK lost, doubled, out of order",
    "the batch comes again under the same key and is not freed before; a confirmation frees nothing but its own",
    times=12,
    quick=2,
)
async def pubacks_are_lost(round_: Round) -> Outcome:
    slowest = 0.0
    async with behind_a_proxy(round_.folder, every="100ms", store={"linger": "0.1s"}) as (s, proxy):
        await s.start()
        await s.recovered()
        for turn in range(round_.times):
            if turn % 3 == 2:
                proxy.repeat_pubacks, proxy.turn_pubacks = 2, 6
                await s.polled(10)
                proxy.repeat_pubacks = proxy.turn_pubacks = 1
            kept = proxy.kept
            proxy.keep_pubacks = True
            await s.until(lambda kept=kept: proxy.kept > kept, "a PUBACK")
            await s.polled(round_.chance.randint(1, 20))
            await proxy.cut()
            proxy.keep_pubacks = False
            slowest = max(slowest, await s.recovered())
        await s.stop()
        outcome = await s.outcome(round_.times, recovered=slowest)
    assert outcome.duplicated > 0, "what was not confirmed did not come again: it was freed too early"
    assert outcome.duplicated <= WINDOW * round_.times, f"{outcome.duplicated} duplicates"
    return outcome


@fault(
    "N07",
    "two clients with the same id",
    "the agent backs off instead of storming; where the broker says why it hangs up, an event does; nothing is lost",
    times=1,
)
async def same_client_id_twice(round_: Round) -> Outcome:
    slowest, said = 0.0, []
    async with behind_a_proxy(round_.folder, every="200ms") as (s, proxy):
        await s.start()
        await s.recovered()
        for _ in range(round_.times):
            for proxy.last_words in (b"", TAKEN_OVER):
                before, began = len(proxy.accepted), now()
                async with rival(s.broker.port):
                    await s.until(lambda n=before: len(proxy.accepted) >= n + 3, "takeovers", 180)
                    tries, seconds = len(proxy.accepted) - before, (now() - began) / 1000
                slowest = max(slowest, await s.recovered(120))
                how = "told" if proxy.last_words else "not told"
                said.append(f"{tries} connections in {seconds:.0f} s, {how} why")
                assert tries < 10 + 5 * seconds, said[-1]
            assert s.ledger.raised("session-takeover"), "no event says that there is a rival"
        await s.stop()
        return await s.outcome(2 * round_.times, recovered=slowest, note="; ".join(said))


@contextlib.asynccontextmanager
async def rival(port: int) -> AsyncIterator[None]:
    """Somebody with the gateway's id."""
    task = asyncio.create_task(take_over(port))
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def take_over(port: int) -> None:
    """Connect under the gateway's id, and again whenever the broker hangs up: a cloned SD card does that."""
    while True:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            try:
                writer.write(packets.connect(GATEWAY, clean=True))
                while True:
                    await packets.whole(reader)
            finally:
                writer.close()
        await asyncio.sleep(0.05)

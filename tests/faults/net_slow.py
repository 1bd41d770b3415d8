"""N02, N05, N06, N11: a connection that stands, and hardly carries anything or nothing at all."""

from __future__ import annotations

import asyncio

from catalogue import Outcome, Round, fault
from namespace import namespace
from stage import behind_a_proxy, stage

KEEPALIVE = 2.0
NOTICED = 1.5 * KEEPALIVE
SLACK = 1.0
"""Seconds that a busy machine may add to what is noticed by a timer."""
STALL = 1.5
SLOW = 250
"""Bytes per second."""
MOST_GROWN = 1.15
WINDOW = 20
UNANSWERED = WINDOW * 2000
"""Bytes of a full window of these devices, with what a connection begins with."""
HALF_OPEN = (("swallow_up", "swallow_down"), ("swallow_down",), ("swallow_up",))
"""What vanishes: everything, what the broker says, what the agent says."""


@fault(
    "N02",
    "half-open connection (the peer vanishes), all, down, or up",
    "noticed within 1.5 x keep-alive; the agent connects again, nothing is lost",
    times=9,
    quick=3,
)
async def peer_vanishes(round_: Round) -> Outcome:
    slowest, noticed = 0.0, 0.0
    uplink = {"keepalive": f"{KEEPALIVE:.0f}s"}
    async with behind_a_proxy(round_.folder, every="200ms", uplink=uplink) as (s, proxy):
        await s.start()
        await s.recovered()
        for turn in range(round_.times):
            await asyncio.sleep(round_.chance.uniform(0, KEEPALIVE / 2))
            before = len(proxy.accepted)
            for way in HALF_OPEN[turn % 3]:
                setattr(proxy, way, True)
            gone = lambda before=before: not proxy.connections or len(proxy.accepted) > before
            took = await s.until(gone, "the end of a dead connection", 10 * KEEPALIVE)
            noticed = max(noticed, took)
            proxy.swallow_up = proxy.swallow_down = False
            slowest = max(slowest, await s.recovered())
        await s.stop()
        note = f"noticed within {noticed:.1f} s at keep-alive {KEEPALIVE:.0f} s"
        outcome = await s.outcome(round_.times, recovered=slowest, note=note)
    assert noticed <= NOTICED + SLACK, note
    return outcome


@fault(
    "N02-cable",
    "half-open connection (the cable is pulled; network namespace)",
    "noticed within 1.5 x keep-alive; the agent connects again, nothing is lost",
    times=3,
)
async def cable_is_pulled(round_: Round) -> Outcome:
    slowest, noticed = 0.0, 0.0
    uplink = {"keepalive": f"{KEEPALIVE:.0f}s"}
    with namespace() as net:
        async with stage(round_.folder, every="200ms", uplink=uplink, net=net) as s:
            await s.start()
            await s.recovered()
            for _ in range(round_.times):
                await asyncio.sleep(round_.chance.uniform(0, KEEPALIVE))
                told = s.agent.log().count("event=uplink")
                net.unplug()
                lost = lambda told=told: s.agent.log().count("event=uplink") > told
                noticed = max(noticed, await s.until(lost, "the end of a dead connection", 10 * KEEPALIVE))
                await s.polled(3)
                net.plug()
                slowest = max(slowest, await s.recovered())
            await s.stop()
            note = f"noticed within {noticed:.1f} s at keep-alive {KEEPALIVE:.0f} s"
            outcome = await s.outcome(round_.times, recovered=slowest, note=note)
    assert noticed <= NOTICED + SLACK, note
    return outcome


@fault(
    "N05",
    "slow link, 2 kbit/s",
    "the window bounds what is on its way, memory does not grow, live readings go first, nothing is lost",
    times=1,
)
async def slow_link(round_: Round) -> Outcome:
    slowest = 0.0
    async with behind_a_proxy(round_.folder, every="100ms", store={"linger": "0.3s"}) as (s, proxy):
        await s.start()
        await s.recovered()
        for _ in range(round_.times):
            before, connections, carried = s.agent.memory(), len(proxy.accepted), proxy.carried
            proxy.rate = SLOW
            await s.polled(300)
            grown = s.agent.memory() / before
            broken, waiting = len(proxy.accepted) - connections, len(s.ledger.missing(s.owed()))
            carried = proxy.carried - carried
            assert waiting > 0, "the link was not slow enough"
            proxy.rate = None
            slowest = max(slowest, await s.recovered())
        await s.stop()
        note = f"{carried} bytes in 30 s, {waiting} readings waited; memory x {grown:.2f}; {broken} connections broke"
        outcome = await s.outcome(round_.times, recovered=slowest, note=note)
    assert grown <= MOST_GROWN, note
    return outcome


@fault(
    "N06",
    "the broker accepts and never acknowledges",
    "the window bounds what is on its way; the agent leaves the broker and connects again; nothing is freed",
    times=4,
    quick=1,
)
async def broker_never_acknowledges(round_: Round) -> Outcome:
    slowest, took = 0.0, 0.0
    pace = {"stall": STALL, "tick": 0.2}
    async with behind_a_proxy(round_.folder, every="100ms", store={"linger": "0.1s"}, pace=pace) as (s, proxy):
        await s.start()
        await s.recovered()
        for turn in range(round_.times):
            before, carried = len(proxy.accepted), proxy.carried
            proxy.keep_pubacks = True
            again = lambda before=before: len(proxy.accepted) >= before + 2
            took = max(took, await s.until(again, "the next connections", 60))
            assert proxy.carried - carried < 2 * UNANSWERED, "more than a window is on its way"
            proxy.keep_pubacks = False
            if turn % 2 == 0:
                await proxy.cut()
            slowest = max(slowest, await s.recovered())
        await s.stop()
        note = f"left and tried twice within {took:.1f} s (stall {STALL:.0f} s here, 60 s in the product)"
        outcome = await s.outcome(round_.times, recovered=slowest, note=note)
    assert outcome.duplicated <= 3 * WINDOW * round_.times, f"{outcome.duplicated} duplicates"
    return outcome


@fault(
    "N11",
    "30 % of what is sent needs 2 s more, PUBACKs doubled and out of order",
    "less gets through, what does is right and in order",
    times=1,
)
async def lossy_link(round_: Round) -> Outcome:
    async with behind_a_proxy(round_.folder, every="100ms", store={"linger": "0.2s"}) as (s, proxy):
        await s.start()
        await s.recovered()
        began = s.field.given
        proxy.delay = lambda: round_.chance.choices((0.05, 2.0), (70, 30))[0]
        proxy.repeat_pubacks, proxy.turn_pubacks = 2, 3
        await s.polled(200 * round_.times)
        proxy.delay = lambda: 0.0
        proxy.repeat_pubacks = proxy.turn_pubacks = 1
        injected = s.field.given - began
        slowest = await s.recovered()
        await s.stop()
        return await s.outcome(round_.times, recovered=slowest, note=f"{injected} readings under the fault")

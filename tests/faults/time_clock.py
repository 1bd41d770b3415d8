"""T01 to T05: the wall clock is wrong, jumps, drifts. Monotonic time and the right time are the oracle's."""

from __future__ import annotations

from catalogue import Outcome, Round, fault
from clockwork import Clockwork, clockwork
from net_tls import HOST, restart, secured

YEARS = 56 * 365.25 * 86_400
HOUR, DAY = 3600.0, 86_400.0
PPM = 500e-6
SOON = 6.0
NEAR = 0.05
"""Seconds: rounding, and what passes between two looks at a clock."""


def judged(c: Clockwork, injected: int, *errors: float, recovered: float | None = None, note: str = "") -> Outcome:
    """Every reading is there, in order, once, and its time is off by one of these errors of the clock at most."""
    off = {told.count: c.error_of(told) for told in c.ledger.told}
    wrong = [f"{count} is off by {x:.1f} s" for count, x in off.items() if min(abs(x - e) for e in errors) > NEAR]
    wrong += c.disorder()
    lost = c.lost()
    said = "; ".join([note, *lost[:5], *wrong[:5]]).strip("; ")
    return Outcome(injected, len(lost), c.ledger.duplicated(), len(wrong), recovered, said)


@fault(
    "T01",
    "boot in 1970, synchronised 56 years later",
    "readings are marked unsynced, corrected once the clock is right (those of an earlier boot too), order kept",
    times=20,
    quick=1,
)
async def boot_in_1970(round_: Round) -> Outcome:
    slowest = 0.0
    async with clockwork(round_.folder) as c:
        for _ in range(round_.times):
            await c.broker.stop()
            await a_boot_that_nobody_hears(c)
            c.hands.error, c.hands.synchronised = -YEARS, False
            await c.boot()
            await c.read(3)
            await c.broker.start()
            slowest = max(slowest, await c.delivered())
            await c.read(3)
            await c.delivered()
            await c.set_clock(0.0)
            told = lambda: c.clock.boot in {body["boot"] for body in c.ledger.said["clock"]}
            await c.until(told, "up/clock of this boot")
            await c.read(3)
            await c.delivered()
            await c.end()
        states = [told.clk for told in c.ledger.told]
        note = ", ".join(f"{states.count(state)} {state}" for state in ("corrected", "unsynced", "synced"))
        assert states.count("corrected") >= 3 * round_.times, f"{note}: those of the earlier boot were not corrected"
        assert states.count("unsynced") >= 3 * round_.times, f"{note}: a wrong clock was believed"
        return judged(c, round_.times, 0.0, recovered=slowest, note=note)


async def a_boot_that_nobody_hears(c: Clockwork) -> None:
    """Readings before and after the clock was set, all on disk when the machine goes off."""
    c.hands.error, c.hands.synchronised = -YEARS, False
    await c.boot()
    await c.read(3)
    await c.set_clock(0.0)
    await c.read(3)
    await c.end()


async def steps(round_: Round, by: float) -> Outcome:
    """The clock jumps by so much and back again; with and without a broker."""
    slowest = 0.0
    async with clockwork(round_.folder) as c:
        await c.boot()
        await c.until(lambda: c.publisher.online, "a connection")
        for turn in range(round_.times):
            await c.read(5)
            if away := turn % 2 == 1:
                await c.broker.stop()
                await c.until(lambda: not c.publisher.online, "the end of the connection")
                await c.read(5)
            await c.set_clock(by)
            await c.read(5)
            if away:
                await c.broker.start()
            slowest = max(slowest, await c.delivered())
            await c.read(5)
            await c.set_clock(0.0)
        await c.delivered()
        await c.end()
        assert c.store.stats()["dropped"] == 0, "something expired"
        return judged(c, round_.times, 0.0, by, recovered=slowest)


@fault(
    "T02",
    "the clock jumps back 1 h",
    "no reading is reordered, repeated or dropped",
    times=20,
    quick=2,
)
async def back_an_hour(round_: Round) -> Outcome:
    return await steps(round_, -HOUR)


@fault(
    "T03",
    "the clock jumps forward 1 d",
    "nothing expires: what waits, waits by number and monotonic time",
    times=20,
    quick=2,
)
async def forward_a_day(round_: Round) -> Outcome:
    return await steps(round_, DAY)


@fault(
    "T04",
    "the clock is slow: the broker's certificate is not valid yet",
    "the cause is said, no check is switched off, it connects when the time has come",
    times=2,
)
async def certificate_is_not_valid_yet(round_: Round) -> Outcome:
    slowest = 0.0
    async with secured(round_.folder) as (s, tls):
        good = tls.city.issue("broker", host=HOST)
        await s.start()
        await s.recovered()
        for turn in range(round_.times):
            soon = tls.city.issue("broker", host=HOST, starts=SOON, into=f"soon-{turn}")
            before = s.agent.log().count("not valid yet")
            await restart(s, tls, soon)
            await s.until(lambda n=before: s.agent.log().count("not valid yet") > n, '"not valid yet" in the log')
            assert "clock" in s.agent.log().rpartition("not valid yet")[2].partition("\n")[0]
            slowest = max(slowest, await s.recovered())
            await restart(s, tls, good)
            await s.recovered()
        await s.stop()
        return await s.outcome(round_.times, recovered=slowest, note=f"valid {SOON:.0f} s later; connected by itself")


@fault(
    "T05",
    "the clock drifts by 500 ppm for a day",
    "each reading has the clock's own time, to the rounding; the IOC is told the new anchor",
    times=2,
)
async def drift(round_: Round) -> Outcome:
    async with clockwork(round_.folder) as c:
        await c.boot()
        await c.until(lambda: c.publisher.online, "a connection")
        c.hands.drift = PPM
        errors = []
        for _ in range(24 * round_.times):
            await c.read(2)
            await c.delivered()
            c.hands.elapsed += HOUR
            errors.append(c.hands.elapsed * PPM)
        await c.read(2)
        await c.delivered()
        await c.end()
        anchors = len({body["anchor"] for body in c.ledger.said["clock"]})
        note = f"{errors[-1]:.0f} s off at last; up/clock told {anchors} anchors"
        return judged(c, round_.times, 0.0, *errors, note=note)

"""Draws the picture of docs/store.md: `gateway store status` of a real store, after an outage that a clock has played.

python docs/store_picture.py        writes docs/store-status.svg, in about a minute
"""

from __future__ import annotations

import asyncio
import io
import random
import re
import tempfile
from dataclasses import replace
from pathlib import Path

from rich.console import Console

from drivers.base import Sample
from gateway.cli.store import status_of
from gateway.cli.store_view import show
from gateway.clock import Clock
from gateway.model import Device, Readings, Site
from gateway.settings import load
from gateway.store import Store

HERE = Path(__file__).parent
WIDTH = 100
OUTAGE = 31 * 3600
"""Seconds that the broker was away, with a power cut in the middle."""
COMMIT_EVERY = 60
"""Batches: the real store commits every second, which only takes longer."""


class Hands:
    """A clock that is turned by hand: it ends now."""

    def __init__(self) -> None:
        self.now = 1000.0
        self._begin = Clock("system").wall() - OUTAGE - self.now

    def clock(self) -> Clock:
        return Clock("system", "b" * 12, monotonic=lambda: self.now, wall=lambda: self._begin + self.now)


async def outage(site: Site, seconds: float, hands: Hands, dice: random.Random) -> Store:
    """Store what the devices of a site say for so long; nothing is sent. Returns the open store."""
    store = Store(site.store, hands.clock())
    await store.open()
    devices = [device for bus in site.buses for device in bus.devices]
    end = hands.now + seconds
    while hands.now < end:
        for device in devices:
            if readings := due(device, hands.now, dice):
                await store.append(readings)
        store.flush()
        if round(hands.now) % COMMIT_EVERY == 0:
            await store.commit()
        hands.now += 1.0
    await store.commit()
    return store


def due(device: Device, now: float, dice: random.Random) -> Readings | None:
    """What a device says at this second."""
    samples = [
        Sample(point.name, round(dice.uniform(200, 240), 1))
        for point in device.points
        if point.every and round(now) % max(1, round(point.every)) == 0
    ]
    return Readings(device.name, device.cfg, round(now * 1000), samples) if samples else None


async def picture(site: Site) -> str:
    """Play the outage, and draw what `gateway store status` says then."""
    hands, dice = Hands(), random.Random(4)
    first = await outage(site, OUTAGE * 0.6, hands, dice)
    await first._writer.end()  # as a power cut ends it  # noqa: SLF001
    assert first._lock is not None  # noqa: SLF001
    first._lock.release()  # noqa: SLF001
    store = await outage(site, OUTAGE * 0.4, hands, dice)
    told = await asyncio.to_thread(status_of, site)
    told |= {"agent": store.stats(), "agent_silence": "", "file": "/var/lib/gateway/gateway.db"}
    told["epochs"][-1]["ended"] = "runs"
    await store.close()
    paper = Console(record=True, width=WIDTH, force_terminal=True, highlight=False, file=io.StringIO())
    show(told, paper)
    # Without the web fonts that rich would fetch: a picture must not depend on a network.
    drawn = paper.export_svg(title="gateway store status", unique_id="store")
    return re.sub(r"@font-face \{.*?\}", "", drawn, flags=re.DOTALL)


def main() -> None:
    site = load(HERE.parent / "config" / "gateway.toml")
    with tempfile.TemporaryDirectory() as folder:
        small = replace(site, store=replace(site.store, path=folder, max_size=64_000_000))
        (HERE / "store-status.svg").write_text(asyncio.run(picture(small)), encoding="utf-8")


if __name__ == "__main__":
    main()

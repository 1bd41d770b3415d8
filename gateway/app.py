"""The agent: builds the objects, runs them in one task group, takes them down in order. Knows everybody."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import selectors
import signal
from collections.abc import Coroutine
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from gateway import __version__, machine
from gateway.clock import Clock
from gateway.control import door
from gateway.control.desk import Desk
from gateway.errors import GatewayError
from gateway.field.poller import Poller
from gateway.field.ports import link_of
from gateway.log import logger
from gateway.model import Site
from gateway.notify import notify
from gateway.store import Store
from gateway.uplink.publisher import Publisher

STATE_EVERY = 60.0
"""Seconds after which the small state row goes along with the next commit."""
STATE_WITHIN = 10
"""Of these times, after so many it is committed by itself: a commit wears the flash by 20 KiB, and online there is no
other."""
CLOCK_EVERY = 10.0
STOP_GRACE = 5.0
"""Seconds that a stopping agent waits for the IOC's last acknowledgements."""


def run(site: Site) -> None:
    """Run the agent until SIGTERM or SIGINT. GatewayError when it cannot start."""
    with asyncio.Runner(loop_factory=event_loop) as runner:
        runner.run(Agent(site).run())


def event_loop() -> asyncio.AbstractEventLoop:
    """Build a loop whose time-outs are exact: epoll rounds up to 1 ms, which a 115200 baud line feels."""
    loop = asyncio.SelectorEventLoop(selectors.SelectSelector())
    # Opening ports, resolving names, connecting to the broker. asyncio's own default grows with the cores.
    loop.set_default_executor(ThreadPoolExecutor(max_workers=2, thread_name_prefix="io"))
    return loop


class Agent:
    """One run of the gateway."""

    def __init__(self, site: Site) -> None:
        self._site = site
        self._clock = Clock(site.clock)
        self._store = Store(site.store, self._clock)
        self._publisher = Publisher(site, self._store, self._clock, self._health)
        self._pollers: list[Poller] = []
        self._learned: dict[str, Any] = {}

    async def run(self) -> None:
        """Start, run until told to stop, stop in order: field, uplink, store."""
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stop.set)
        await self._store.open()
        try:
            await self._build_pollers()
            async with asyncio.TaskGroup() as group:
                field = [group.create_task(poller.run()) for poller in self._pollers]
                rest = [group.create_task(part) for part in self._parts()]
                gc.collect()
                gc.freeze()  # what is here now stays: no collection needs to look at it again
                notify("READY=1")
                logger.info("running", version=__version__, gateway=self._site.gateway, epoch=self._store.epoch)
                await stop.wait()
                notify("STOPPING=1")
                await cancel(field)
                await self._save_state()
                await self._publisher.stop(STOP_GRACE)
                await cancel(rest)
        finally:
            await self._store.close()
        logger.info("stopped")

    async def _build_pollers(self) -> None:
        counters = await self._store.load_state("counters") or {}
        self._learned = learned = await self._store.load_state("learned") or {}
        start = self._clock.monotonic()
        for bus in self._site.buses:
            link = link_of(bus, self._clock)
            self._pollers.append(
                Poller(bus, link, self._clock, self._store, start=start, counters=counters, learned=learned)
            )

    def _parts(self) -> list[Coroutine[Any, Any, None]]:
        rest = (self._watch_clock(), self._keep_state(), self._serve_desk(), watchdog())
        return [self._store.run(), self._publisher.run(), *rest]

    def _health(self) -> dict[str, Any]:
        buses = {poller.bus.name: poller.stats() for poller in self._pollers}
        return {"buses": buses, "machine": machine.facts(Path(self._site.store.path))}

    async def _serve_desk(self) -> None:
        """Let technicians ask. An agent that cannot be asked polls all the same."""
        try:
            desk = Desk(self._site, self._pollers, self._clock, self._store.stats)
            await door.serve(desk, door.path_of(self._site))
        except GatewayError as error:
            logger.warning("no verb can reach this agent", error=str(error))

    async def _watch_clock(self) -> None:
        while True:
            await asyncio.sleep(CLOCK_EVERY)
            if self._clock.look():
                logger.info("clock", state=self._clock.state)

    async def _keep_state(self) -> None:
        while True:
            for _ in range(STATE_WITHIN - 1):
                await asyncio.sleep(STATE_EVERY)
                if counters := self._counters():
                    self._store.note_state("counters", counters)
            await asyncio.sleep(STATE_EVERY)
            await self._save_state()

    def _counters(self) -> dict[str, Any]:
        return {name: state for poller in self._pollers for name, state in poller.counters().items()}

    async def _save_state(self) -> None:
        counters = self._counters()
        if counters:
            await self._store.save_state("counters", counters)
        learned = {name: known for poller in self._pollers for name, known in poller.learned().items()}
        if learned != self._learned:
            await self._store.save_state("learned", learned)
            self._learned = learned


async def watchdog() -> None:
    """Tell systemd that the loop turns, twice per watchdog period; nothing without a watchdog."""
    period = int(os.environ.get("WATCHDOG_USEC", "0")) / 2e6
    while period:
        notify("WATCHDOG=1")
        await asyncio.sleep(period)


async def cancel(tasks: list[asyncio.Task[None]]) -> None:
    """Cancel the tasks and wait until they are gone."""
    for task in tasks:
        task.cancel()
    for task in tasks:
        with contextlib.suppress(asyncio.CancelledError):
            await task

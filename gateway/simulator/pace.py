"""Bytes at the right moment: what a port owes its line, and what the line does unasked."""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Awaitable, Callable, Iterable
from functools import partial
from itertools import count

from gateway.clock import Clock
from gateway.simulator.bus import FakeBus
from gateway.simulator.wire import Delivery

_LOOK = 0.05  # seconds between two looks at a restless line


class Pace:
    """Calls what is due, in order of time; of two at the same moment the one that was asked first comes first."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._calls: list[tuple[float, int, Callable[[], None]]] = []
        self._number = count()
        self._timer: asyncio.TimerHandle | None = None
        self._woken = asyncio.Event()

    def at(self, due: float, call: Callable[[], None]) -> None:
        """Call at this moment (monotonic seconds); a moment that is past means as soon as the loop turns."""
        heapq.heappush(self._calls, (due, next(self._number), call))
        if self._calls[0][0] == due:
            self._set_timer()

    def carry(self, plan: Iterable[Delivery], write: Callable[[bytes], None]) -> None:
        """Write every delivery when it is due; what is due already at once, in one piece."""
        now, ready = self._clock.monotonic(), b""
        for due, data in plan:
            if due <= now:
                ready += data
            else:
                self.at(due, partial(write, data))
        if ready:
            write(ready)

    def forget(self) -> None:
        """What was due later will not be."""
        self._calls.clear()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def wake(self) -> None:
        """The line's faults have changed: look at it."""
        self._woken.set()

    async def watch(
        self, bus: FakeBus, plug: Callable[[bool], Awaitable[None]], flood: Callable[[bytes], None]
    ) -> None:
        """Do what the line does unasked, until cancelled: `plug` when its port goes or comes, `flood` for babble."""
        seen, there = self._clock.monotonic(), True
        while True:
            now = self._clock.monotonic()
            if bus.unplugged(now) == there:
                there = not there
                self.forget()
                await plug(there)
            self.carry(bus.babble(seen, now + _LOOK) if there else (), flood)
            seen = now + _LOOK
            self._woken.clear()
            try:
                async with asyncio.timeout(_LOOK if bus.restless else None):
                    await self._woken.wait()
            except TimeoutError:
                continue

    def _set_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        delay = self._calls[0][0] - self._clock.monotonic()
        self._timer = asyncio.get_running_loop().call_later(max(delay, 0.0), self._run)

    def _run(self) -> None:
        self._timer = None
        while self._calls and self._calls[0][0] <= self._clock.monotonic():
            heapq.heappop(self._calls)[2]()
        if self._calls:
            self._set_timer()

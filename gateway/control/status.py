"""Operations `hello`, `status` and `store`: who owns the buses, how they are, and what waits to be sent."""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator, Mapping
from typing import Any

from gateway import __version__
from gateway.control.desk import Desk
from gateway.errors import Declined


async def hello(desk: Desk, _request: Mapping[str, Any]) -> AsyncGenerator[dict[str, Any], None]:
    """Say which gateway this is."""
    site = desk.site
    yield {"gateway": site.gateway, "version": __version__, "pid": os.getpid(), "sha256": site.sha256}


async def status(desk: Desk, _request: Mapping[str, Any]) -> AsyncGenerator[dict[str, Any], None]:
    """Yield one message per bus, then one per device."""
    now = desk.clock.monotonic()
    for poller in desk.pollers:
        stats = poller.stats()
        yield {"bus": poller.bus.name, **stats, "trouble": stats["trouble"]["causes"]}
    for poller in desk.pollers:
        for unit in poller.units:
            answered = bool(unit.record.answers)
            yield {
                "device": unit.device.name,
                "bus": poller.bus.name,
                "dead": unit.health.dead,
                "last_answer_s": round(now - unit.health.last_good, 1) if answered else None,
                "identity": unit.identity,
                **unit.summary(),
            }


async def store(desk: Desk, _request: Mapping[str, Any]) -> AsyncGenerator[dict[str, Any], None]:
    """Yield the figures of the store, what is only in memory included."""
    if desk.store is None:
        raise Declined("only a running agent has a store to tell of")
    yield {"store": dict(desk.store())}

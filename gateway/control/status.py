"""Operations `hello` and `status`: who owns the buses, and how they are."""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator, Mapping
from typing import Any

from gateway import __version__
from gateway.control.desk import Desk


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

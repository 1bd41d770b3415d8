"""Looks for devices on a bus: who answers, at which setting of the line, and what it is. Never writes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gateway.control.attempts import parse_units
from gateway.control.search import Knowledge, Search, Wish
from gateway.errors import ConfigError, Declined
from gateway.model import Bus, SerialPort
from gateway.settings import factories, signatures
from gateway.settings.profile import SHIPPED

if TYPE_CHECKING:
    from gateway.control.desk import Desk

BUDGET, LONGEST_BUDGET = 300.0, 86_400.0
"""Seconds that a scan takes at most: unless said, and in any case."""
SLOWEST, FASTEST = 300, 4_000_000
"""Baud."""
FORMATS = [f"8{parity}{stops}" for parity in "NEO" for stops in "12"]


async def scan(desk: Desk, request: Mapping[str, Any]) -> AsyncIterator[dict[str, Any]]:
    """Scan a bus. Request: bus; baud, format, units ("1-20,100"), budget (seconds) where it is to be narrowed.

    Messages: {"note"}, {"progress"}, {"found"}, at the end {"done"} (a Tally): what gateway.control.findings
    makes a result of. LinkError when the port cannot be used.
    """
    poller = desk.poller(str(request.get("bus")))
    wish = wish_of(request, poller.bus)
    folders = [SHIPPED, Path(desk.site.store.path) / "profiles"]
    loop = asyncio.get_running_loop()
    # Reading all profiles takes a moment, and the agent has lines to serve.
    knowledge, trouble = await loop.run_in_executor(None, knowledge_of, folders)
    if trouble:
        yield {"note": trouble}
    async for message in Search(desk, poller, wish, knowledge).run():
        yield message


def wish_of(request: Mapping[str, Any], bus: Bus) -> Wish:
    """Check a request. Declined with a sentence."""
    baud, form, budget = request.get("baud"), request.get("format"), request.get("budget", BUDGET)
    low, high = (0, 255) if bus.framing == "tcp" else (1, 247)
    if not isinstance(bus.port, SerialPort) and (baud or form):
        raise Declined(f"{bus.name} is no serial line: speed and format are set at the converter itself")
    if baud is not None and not (isinstance(baud, int) and SLOWEST <= baud <= FASTEST):
        raise Declined(f"{str(baud)[:20]} is no speed of a line: write 9600, 19200, ...")
    if form is not None and form not in FORMATS:
        raise Declined(f"{str(form)[:20]} is no format of a Modbus line: write {', '.join(FORMATS)}")
    if not isinstance(budget, int | float) or not 0 < budget <= LONGEST_BUDGET:
        raise Declined("the time for a scan is more than nothing and at most 24 hours: write 5m")
    try:
        units = parse_units(str(request.get("units") or f"{low}-{high}"), low, high)
    except ValueError as error:
        raise Declined(str(error)) from None
    return Wish(baud, form, units, float(budget))


def knowledge_of(folders: Sequence[Path]) -> tuple[Knowledge, str]:
    """Read what profiles tell of devices; when one of the site's own is wrong, the shipped ones alone, and why."""
    try:
        return Knowledge(signatures(folders), list(factories(folders).values())), ""
    except ConfigError as error:
        known = Knowledge(signatures(), list(factories().values()))
        return known, f"the site's own profiles are not looked for, because one is wrong: {error}"

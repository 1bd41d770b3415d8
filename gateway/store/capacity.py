"""How large a store may become, and how long it lasts without the IOC."""

from __future__ import annotations

from gateway.model import Site, StoreSettings
from gateway.store import opening
from gateway.store.opening import PAGE

ROW_HEAD = 96
"""Bytes of a row beside its data."""
_OVERFLOW = PAGE - 4
_JOB = 2**20
_FEWEST = 64
_OF_COUNTER = 3  # a counter is three points: raw, total, generation


def pages(cap: int) -> int:
    """Pages that the file may have: its log needs the rest of the cap."""
    log = 2 * min(_JOB, cap // 8) + 2 * opening.CHECKPOINT * PAGE
    return max(_FEWEST, (cap - log) // PAGE)


def job_bytes(cap: int) -> int:
    """Bytes of data that one transaction may hold: it bounds the write-ahead log."""
    return min(_JOB, cap // 8, pages(cap) * PAGE // 8)


def row_pages(size: int) -> int:
    """Pages that a row with so many bytes of data takes at most."""
    return 1 + -(-(size + ROW_HEAD) // _OVERFLOW)


def stored_per_second(site: Site) -> float:
    """Return the readings per second that the site stores, asap points aside and deadbands too."""
    return sum(
        (_OF_COUNTER if point.kind == "counter" else 1) / point.every
        for bus in site.buses
        for device in bus.devices
        for point in (device.points if device.polled else ())
        if point.every
    )


def hours(store: StoreSettings, rate: float, used: int = 0) -> float | None:
    """Return for how many hours the store has room, at so many readings per second; None when there are none."""
    if rate <= 0:
        return None
    batch = max(1.0, rate * store.linger)
    return max(0, pages(store.max_size) * PAGE - used) / (batch_bytes(batch) * rate / batch) / 3600


def batch_bytes(readings: float) -> float:
    """Return what a batch takes on disk, at most: short ones are mostly envelope and row, long ones compress."""
    return min(200 + 15 * readings, 350 + 4 * readings)

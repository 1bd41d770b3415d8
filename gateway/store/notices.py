"""What the store tells the IOC and the maintainer about itself. Pure."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from gateway.model import event

_FULL = (
    "The store was full: the oldest readings were dropped to make room for new ones.",
    "The broker was away for longer than the store can hold, or the uplink is slower than the readings come.",
    "Raise [store] max_size, read less often, or mend the connection to the broker.",
)
_DISK = (
    "The store's disk did not write, and memory was full: the oldest readings were dropped.",
    "The disk is full, mounted read-only or failing.",
    "Free space on the disk, or replace it.",
)
_DAMAGED = (
    "Stored readings could not be read back and were given up.",
    "The flash has lost data, often after power cuts or at the end of its life.",
    "Check the supply's voltage; replace the SD card or disk.",
)
LOSSES = {"store-full": _FULL, "store-disk": _DISK, "store-damaged": _DAMAGED}


def lost(code: str, dropped: list[dict[str, Any]], batches: int) -> dict[str, Any]:
    """Batches that will never arrive, by their exact ranges: [{epoch, stream, ranges}]."""
    text, cause, advice = LOSSES[code]
    data = {"dropped": dropped, "batches": batches}
    return event(code, text, severity="critical", cause=cause, advice=advice, data=data)


def disk_failed(reason: str) -> dict[str, Any]:
    return event(
        "store-unwritable",
        f"The store cannot write to its disk: {reason}. Readings go on, and wait in memory.",
        severity="critical",
        cause="The disk is full, mounted read-only or failing.",
        advice="Free space on the disk (df -h), look at the kernel's log (dmesg), or replace the disk. "
        "A power cut now loses what the IOC has not confirmed.",
    )


def disk_works(seconds: float) -> dict[str, Any]:
    text = f"The store writes to its disk again, after {seconds:.0f} s."
    return event("store-unwritable", text, raised=False, severity="info")


def replaced(aside: Path, reason: str) -> dict[str, Any]:
    """The database was moved aside: damaged for this reason, or, without one, of a later version."""
    if not reason:
        return event(
            "store-newer",
            f"The store was written by a later version of the agent; it was moved to {aside.name}.",
            severity="critical",
            cause="The agent was set back to an older version.",
            advice="Install the later version again and move the file back to send what it holds.",
            data={"file": aside.name},
        )
    return event(
        "store-replaced",
        f"The store was damaged ({reason}); it was moved to {aside.name}, a fresh one made, and what can be read is "
        f"being brought over.",
        severity="critical",
        cause="The flash has lost data, often after power cuts or at the end of its life.",
        advice="Check the supply's voltage; replace the SD card or disk.",
        data={"file": aside.name, "reason": reason},
    )


def salvaged(aside: str, batches: int) -> dict[str, Any]:
    """The end of what `replaced` has raised."""
    text = f"{batches} batches were brought over from the damaged store {aside}."
    return event("store-replaced", text, raised=False, severity="info", data={"file": aside, "batches": batches})

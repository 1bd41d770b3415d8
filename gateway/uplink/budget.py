"""How much a metered link may carry: bytes per second and per day. Pure.

Telemetry waits in the store when there is nothing left; what must pass (events, status, births) passes and counts.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from typing import Any

from gateway.model import event

HEADERS = 60
"""Bytes of a TCP/IP packet beside its content: 52 with IPv4 and time stamps, 72 with IPv6."""
SEGMENT = 1400
"""Bytes of content that fit into one packet."""
TLS_RECORD = 29
TLS_HANDSHAKE = 5000
"""Bytes of a handshake with certificates on both sides, about."""
_GREETINGS = 700  # CONNECT with the will, CONNACK, DISCONNECT

DAY, SLOT = 86_400.0, 900.0
_SLOTS = int(DAY / SLOT)
_ENOUGH = 0.9
"""Of the day's bytes: below this the shortage is over."""
_UNSAVED = 0.02
"""Of the day's bytes: a killed process forgets no more than this."""


def on_wire(size: int, *, tls: bool) -> int:
    """Estimate what an MQTT packet of this size costs with TCP, IP and TLS, and the other side's acknowledgement."""
    size += TLS_RECORD if tls else 0
    return size + HEADERS * (-(-size // SEGMENT) + 1)


def connecting(*, tls: bool) -> int:
    """Estimate what opening and closing a connection costs."""
    return _GREETINGS + 9 * HEADERS + (TLS_HANDSHAKE + 8 * HEADERS if tls else 0)


class Budget:
    """Counts over a sliding day in slots of 15 minutes, on monotonic time. A cap of 0 is none."""

    def __init__(self, per_second: int, per_day: int) -> None:
        self._per_second, self._per_day = per_second, per_day
        self._slots: deque[list[float]] = deque()
        self._level, self._level_at = float(per_second), 0.0
        self._short = False
        self._saved = 0.0
        self._saved_slot = 0.0
        self.total = 0
        """Bytes since the agent's start."""

    @property
    def capped(self) -> bool:
        return bool(self._per_second or self._per_day)

    def spend(self, size: int, now: float) -> None:
        """Count bytes that have passed, or are about to."""
        self.total += size
        if self._per_second:
            self._fill(now)
            self._level -= size
        if self._per_day:
            slot = now // SLOT * SLOT
            if not self._slots or self._slots[-1][0] != slot:
                self._slots.append([slot, 0.0])
            self._slots[-1][1] += size
            self._forget(now)

    def wait(self, now: float) -> float:
        """Seconds until telemetry may pass; 0: now."""
        pause = 0.0
        if self._per_second:
            self._fill(now)
            pause = max(0.0, -self._level / self._per_second)
        if self._per_day:
            pause = max(pause, self._until_tomorrow(now))
        return pause

    def used(self, now: float) -> int:
        """Bytes of the last 24 hours."""
        self._forget(now)
        return int(sum(size for _, size in self._slots))

    def look(self, now: float, wall: float | None) -> list[dict[str, Any]]:
        """Tell when the day's bytes are used up, and when there are some again. `wall`: the date, when it is known."""
        if not self._per_day:
            return []
        if self._short and self.used(now) <= _ENOUGH * self._per_day:
            self._short = False
            text = "The day's bytes are enough again: telemetry flows."
            return [event("budget-used", text, raised=False, severity="info")]
        pause = self._until_tomorrow(now)
        if self._short or not pause:
            return []
        self._short = True
        return [_used(self._per_day, pause, wall)]

    def figures(self, now: float) -> dict[str, Any]:
        """Return what health says."""
        return {
            "per_second": self._per_second,
            "per_day": self._per_day,
            "used": self.used(now),
            "wait": round(self.wait(now), 1),
        }

    # ---- across a restart

    def unsaved(self, now: float) -> bool:
        """Whether what was counted since the last `saved` is worth writing down."""
        if not self._per_day or self._saved == self.total:
            return False
        return self.total - self._saved >= _UNSAVED * self._per_day or now // SLOT * SLOT != self._saved_slot

    def saved(self, boot: str, now: float) -> dict[str, Any]:
        """Return what a restart must know."""
        self._forget(now)
        self._saved, self._saved_slot = self.total, now // SLOT * SLOT
        return {"boot": boot, "at": now, "slots": [[slot, int(size)] for slot, size in self._slots]}

    def restore(self, saved: Mapping[str, Any], boot: str, now: float) -> None:
        """Go on from what was saved. After a reboot nobody knows how long it took: it counts as no time at all."""
        shift = 0.0 if saved["boot"] == boot else now - saved["at"]
        slots = [[float(slot) + shift, float(size)] for slot, size in saved["slots"][-_SLOTS - 1 :]]
        self._slots = deque(sorted([*slots, *self._slots]))
        self._forget(now)

    # ---- inside

    def _fill(self, now: float) -> None:
        """A second's worth at most is saved up; a packet that is larger leaves a debt."""
        self._level = min(float(self._per_second), self._level + (now - self._level_at) * self._per_second)
        self._level_at = now

    def _forget(self, now: float) -> None:
        while self._slots and self._slots[0][0] + SLOT <= now - DAY:
            self._slots.popleft()

    def _until_tomorrow(self, now: float) -> float:
        """Seconds until slots have passed that leave something of the day's bytes."""
        over = self.used(now) - self._per_day
        for slot, size in self._slots:
            if over < 0:
                return 0.0
            over -= int(size)
            if over < 0:
                return slot + SLOT + DAY - now
        return 0.0


def _used(per_day: int, pause: float, wall: float | None) -> dict[str, Any]:
    hours = pause / 3600
    text = f"The {per_day / 1e6:g} MB of a day are used up: telemetry waits in the store for {hours:.1f} h."
    data = {"per_day": per_day, "wait": round(pause), "until": None if wall is None else int((wall + pause) * 1000)}
    return event(
        "budget-used",
        text,
        severity="warning",
        cause="There was more to send than uplink.max_per_day allows, often after an outage.",
        advice="Nothing is lost while the store has room. If this comes every day, read less often, or raise "
        "uplink.max_per_day.",
        data=data,
    )

"""When the broker takes a stream's messages and nobody gets them, or refuses them: wait and probe. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from gateway.model import event

NOBODY_LISTENS, REFUSED = "nobody-listens", "refused"
_FIRST_DELAY, _LAST_DELAY = 1.0, 30.0


@dataclass(slots=True)
class Hold:
    """One stream is held until `until` (monotonic seconds); then one batch probes."""

    code: str
    delay: float
    until: float
    probing: bool = False


@dataclass(slots=True)
class Holds:
    """The held streams. What changes is told as events, once."""

    first_delay: float = _FIRST_DELAY
    last_delay: float = _LAST_DELAY
    streams: dict[str, Hold] = field(default_factory=dict)

    def admits(self, stream: str, now: float) -> bool:
        """Whether a batch of the stream may be sent now: always, or as the probe."""
        hold = self.streams.get(stream)
        if hold is None:
            return True
        if hold.probing or now < hold.until:
            return False
        hold.probing = True
        return True

    def worked(self, stream: str) -> list[dict[str, Any]]:
        """A batch arrived: the stream is free again. Returns events."""
        hold = self.streams.pop(stream, None)
        if hold is None:
            return []
        return [_told(stream, hold.code, "messages of this stream arrive again", raised=False)]

    def failed(self, stream: str, code: str, text: str, now: float) -> list[dict[str, Any]]:
        """A batch was not taken; `code` is NOBODY_LISTENS or REFUSED. Returns events."""
        hold = self.streams.get(stream)
        if hold is None:
            self.streams[stream] = Hold(code, self.first_delay, now + self.first_delay)
            return [_told(stream, code, text)]
        if hold.probing:
            hold.probing = False
            hold.delay = min(hold.delay * 2, self.last_delay)
            hold.until = now + hold.delay
        if hold.code == code:
            return []
        before, hold.code = hold.code, code
        return [_told(stream, before, "the reason has changed", raised=False), _told(stream, code, text)]

    def skipped(self, stream: str) -> None:
        """The probe could not be sent at all: the next batch may."""
        if stream in self.streams:
            self.streams[stream].probing = False

    def forget_probes(self) -> None:
        """The connection is gone, and the probes with it."""
        for hold in self.streams.values():
            hold.probing = False


def _told(stream: str, code: str, text: str, *, raised: bool = True) -> dict[str, Any]:
    cause, advice = _WHY[code] if raised else ("", "")
    body = event(code, text, raised=raised, severity="error", cause=cause, advice=advice, data={"stream": stream})
    return body | {"id": f"{code}/{stream}"}


_WHY = {
    NOBODY_LISTENS: (
        "The IOC's receiver is not connected, or has not subscribed to this gateway's topics.",
        "Start the IOC's receiver. Nothing is lost: the store keeps everything until somebody listens.",
    ),
    REFUSED: (
        "The broker's access list does not let this gateway write to the topic, or a quota is used up.",
        "Let the broker's administrator allow this gateway's topics. Nothing is lost: the store keeps everything.",
    ),
}

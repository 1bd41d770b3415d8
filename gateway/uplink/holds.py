"""When the broker takes a stream's messages and nobody gets them, or refuses them: wait and probe. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from gateway.model import event

NOBODY_LISTENS, REFUSED, NOT_AUTHORISED = "nobody-listens", "refused", "not-authorised"
_FIRST_DELAY, _LAST_DELAY = 1.0, 30.0

Key = tuple[str, str, int]


@dataclass(slots=True)
class Hold:
    """One stream is held until `until` (monotonic seconds); then one batch probes."""

    code: str
    delay: float
    until: float
    probing: bool = False
    letter: Key | None = None
    """The latest dead letter of a closed topic."""
    knocked: bool = False
    """Whether that one asks again, because nothing else of the stream is there to ask with."""


@dataclass(slots=True)
class Holds:
    """The held streams. What changes is told as events, once."""

    first_delay: float = _FIRST_DELAY
    last_delay: float = _LAST_DELAY
    streams: dict[str, Hold] = field(default_factory=dict)

    def held(self, now: float) -> dict[str, float]:
        """The streams of which no batch may be sent now, and for how many seconds at least."""
        held = {name: hold.until - now for name, hold in self.streams.items() if now < hold.until}
        return held | {name: self.last_delay for name, hold in self.streams.items() if hold.probing}

    def probe(self, stream: str) -> None:
        """A batch is sent: when the stream was held, it is the only one until it is answered."""
        if stream in self.streams:
            self.streams[stream].probing = True

    def is_closed(self, stream: str) -> bool:
        """Whether the stream's topic was closed to this gateway."""
        return stream in self.streams and self.streams[stream].code == NOT_AUTHORISED

    def knocking(self, now: float) -> list[Key]:
        """Dead letters that may ask whether their topic is open now. Each is given once per probe."""
        due = [hold for hold in self.streams.values() if hold.letter and not (hold.knocked or hold.probing)]
        found = [hold.letter for hold in due if hold.letter and now >= hold.until]
        for hold in due:
            hold.knocked = now >= hold.until
        return found

    def letter(self, key: Key) -> bool:
        """A batch of a closed topic became a dead letter; returns whether that is new."""
        hold = self.streams.get(key[1])
        if hold is None:
            return True
        again = hold.knocked and hold.letter == key
        hold.letter, hold.knocked = key, False
        return not again

    def worked(self, stream: str) -> list[dict[str, Any]]:
        """A batch arrived: the stream is free again. Returns events."""
        hold = self.streams.pop(stream, None)
        if hold is None:
            return []
        return [_told(stream, hold.code, "messages of this stream arrive again", raised=False)]

    def failed(self, stream: str, code: str, text: str, now: float) -> list[dict[str, Any]]:
        """A batch was not taken; `code` is one of the three above. Returns events."""
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
        """The probe told nothing about the stream: the next batch may."""
        if stream in self.streams:
            self.streams[stream].probing = self.streams[stream].knocked = False

    def forget_probes(self) -> None:
        """The connection is gone, and the probes with it."""
        for hold in self.streams.values():
            hold.probing = hold.knocked = False


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
        "A quota at the broker is used up, or the broker has trouble of its own.",
        "Look into the broker's log. Nothing is lost: the store keeps everything, and the agent tries again.",
    ),
    NOT_AUTHORISED: (
        "The broker's access list does not let this gateway write to the topic.",
        "Let the broker's administrator allow this gateway's topics. What was refused waits on the disk for that.",
    ),
}

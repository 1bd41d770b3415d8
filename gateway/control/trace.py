"""Every exchange on a bus as the wire saw it, while it happens. Listens only."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Mapping
from typing import TYPE_CHECKING, Any

from drivers.modbus.adu import FRAMINGS
from drivers.modbus.pdu import EXCEPTIONS
from drivers.modbus.reply import REFUSED
from gateway.control import fields
from gateway.field.talks import Traced

if TYPE_CHECKING:
    from gateway.control.desk import Desk

BEHIND = 1000
"""Exchanges that are kept for a client that reads slowly; older ones are left out, and counted."""
MOST_HEARD = 512
"""Bytes that were no answer, as far as they are told."""
WORDS = 16
"""Registers of a reply that are written out."""


async def trace(desk: Desk, request: Mapping[str, Any]) -> AsyncGenerator[dict[str, Any], None]:
    """Yield every exchange on `bus` from now on, until the client leaves; before the first, {"bus", "framing"}.

    {"ts" (wall ms), "took_ms", "device", "asks", "request", "reply", "heard" (hex), "answer" (in words), "error",
    "left_out"}.
    """
    poller = desk.poller(fields.text(request, "bus"))
    framing = poller.bus.framing
    waiting: deque[Traced] = deque(maxlen=BEHIND)
    bell = asyncio.Event()
    came = 0

    def watch(traced: Traced) -> None:
        nonlocal came
        came += 1
        waiting.append(traced)
        bell.set()

    poller.talks.watchers.append(watch)
    try:
        yield {"bus": poller.bus.name, "framing": framing}
        told = 0
        while True:
            await bell.wait()
            bell.clear()
            while waiting:
                left_out = came - told - len(waiting)
                told += left_out + 1
                yield {**message(waiting.popleft(), framing, desk.clock.anchor()), "left_out": left_out}
    finally:
        poller.talks.watchers.remove(watch)


def message(traced: Traced, framing: str, anchor: int) -> dict[str, Any]:
    """Return an exchange as JSON can carry it; `anchor` is wall minus monotonic time in ms."""
    return {
        "ts": round(traced.at * 1000 + anchor, 3),
        "took_ms": round(traced.took * 1000, 1),
        "device": traced.partner,
        "asks": traced.label,
        "request": traced.request.hex(" "),
        "reply": traced.reply.hex(" "),
        "heard": traced.heard[:MOST_HEARD].hex(" "),
        "answer": answer(framing, traced.reply),
        "error": traced.error,
    }


def answer(framing: str, reply: bytes) -> str:
    """Say what a reply holds: registers as hex words, bits as bytes, an exception in words; "" without a reply."""
    if not reply or framing not in FRAMINGS:
        return ""
    pdu = FRAMINGS[framing].unwrap(reply)
    function, data = pdu[0], pdu[2:]
    if function & REFUSED:
        return f"exception {pdu[1]}: {EXCEPTIONS.get(pdu[1], 'not a code of the Modbus specification')}"
    if function in (3, 4, 23):
        words = [data[at : at + 2].hex() for at in range(0, len(data), 2)]
        return " ".join(words[:WORDS]) + (f" and {len(words) - WORDS} more" if len(words) > WORDS else "")
    if function in (1, 2):
        return "bits " + data[: 2 * WORDS].hex(" ") + (" and more" if len(data) > 2 * WORDS else "")
    if function in (17, 43):
        return "".join(chr(byte) if 32 <= byte < 127 else "." for byte in pdu[2:])
    return "done" if function in (5, 6, 15, 16, 22) else pdu[1:].hex(" ")

"""Who stands at an address: what it says of itself, and which profiles fit its registers. Only with reads."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

from drivers.base import Exchange, Talk
from drivers.modbus import pdu, values
from drivers.modbus.functions import Functions
from drivers.modbus.register import Register
from drivers.modbus.reply import Reply, reply_to
from drivers.modbus.unit import Unit
from gateway.settings import Signature

READS = frozenset({1, 2, 3, 4, 17, 43})
"""The function codes that a scan may send: none of them changes anything in a device."""
IDENTIFICATION = 0x0E
"""What function 43 may be used for; its other use is CANopen."""
GATEWAY_ALONE = (pdu.PATH_UNAVAILABLE, pdu.TARGET_SILENT)
"""Refusals of a Modbus gateway for a device that is not there."""

Answer = Callable[[Talk[Any]], Awaitable[Any]]
"""Holds a conversation; gives None when the device does not answer, or refuses."""


class Stranger(Unit):
    """A unit of which nothing is known, so it is only read: everything that is sent to it passes here."""

    def exchange(self, request: bytes, reply: Reply | None, what: str, *, hold: bool = False) -> Exchange:
        if request[0] not in READS or (request[0] == 43 and request[1] != IDENTIFICATION):
            raise ValueError(f"function {request[0]} is no read: a scan never sends it")
        return super().exchange(request, reply, what, hold=hold)


def read(unit: Unit, table: str = "holding", first: int = 0, count: int = 1) -> Talk[bytes]:
    """Read registers: their bytes. Refused when the device says no."""
    request = pdu.read(table, first, count)
    exchange = unit.exchange(request, reply_to(request), f"{table} {first}")
    reply = unit.unwrap((yield exchange))
    code = pdu.exception(reply)
    if code is not None:
        raise pdu.refused(exchange.label, code)
    return reply[2:]


async def name(unit: Unit, answer: Answer) -> tuple[dict[str, str], str]:
    """Ask a device who it is: (what function 43/14 tells, the text of function 17), both empty when it does not say."""
    functions = Functions(unit)
    told = await answer(functions.identify())
    server = await answer(functions.server_id())
    text = server[0].decode("ascii", "replace") if server else ""
    return told or {}, "".join(each if each.isprintable() and each != "\ufffd" else " " for each in text).strip()


async def candidates(unit: Unit, known: Mapping[str, Sequence[Signature]], answer: Answer) -> list[dict[str, Any]]:
    """Return the profiles of which every signature holds, with what was read; the most exact first."""
    heard: dict[tuple[str, int, int], bytes | None] = {}
    found = []
    for profile, signatures in known.items():
        matched = []
        for one in signatures:
            place = (one.table, one.at, one.count)
            if place not in heard:
                heard[place] = await answer(read(unit, *place))
            raw = _raw(one, heard[place])
            if raw is None or not one.holds(raw):
                break
            matched.append(f"{one.table} {one.at} = {raw:g}")
        else:
            found.append({"profile": profile, "matched": matched})
    return found


def _raw(signature: Signature, data: bytes | None) -> float | None:
    """The number that a signature looks at; None when the device did not give it."""
    if data is None:
        return None
    raw = values.decode(Register(signature.table, signature.at, signature.type, signature.order), data)
    return raw if isinstance(raw, int | float) else None

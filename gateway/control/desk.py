"""The desk: what may be asked of the buses while somebody owns them, in one table."""

from __future__ import annotations

import difflib
from collections.abc import AsyncGenerator, Callable, Iterable, Mapping, Sequence
from contextlib import aclosing
from importlib import import_module
from typing import Any

from drivers.base import BusError
from gateway.clock import Clock
from gateway.errors import Declined, GatewayError
from gateway.field.poller import Poller
from gateway.field.unit import Unit
from gateway.model import Site

OPERATIONS = {
    "hello": "gateway.control.status:hello",
    "read": "gateway.control.read:read",
    "write": "gateway.control.write:write",
    "watch": "gateway.control.watch:watch",
    "trace": "gateway.control.trace:trace",
    "scan": "gateway.control.scan:scan",
    "status": "gateway.control.status:status",
    "store": "gateway.control.status:store",
}
"""What may be asked -> where it is done. Imported when it is first asked for.

Each is an async generator `operation(desk, request)` of messages that can be written as JSON.
"""


class Desk:
    """Answers requests about the buses of a site. `pollers` own the buses; more may join while the desk is open.

    `store` gives the figures of the agent's store; None where no agent runs.
    """

    def __init__(
        self,
        site: Site,
        pollers: Sequence[Poller],
        clock: Clock,
        store: Callable[[], Mapping[str, Any]] | None = None,
    ) -> None:
        self.site = site
        self.pollers = pollers
        self.clock = clock
        self.store = store

    def poller(self, bus: str) -> Poller:
        """Return the owner of a bus. Declined for an unknown name."""
        for poller in self.pollers:
            if poller.bus.name == bus:
                return poller
        raise Declined(unknown("bus", bus, (known.name for known in self.site.buses)))

    def unit(self, device: str) -> tuple[Poller, Unit]:
        """Return a device and the owner of its bus. Declined for an unknown name."""
        for poller in self.pollers:
            for unit in poller.units:
                if unit.device.name == device:
                    return poller, unit
        raise Declined(unknown("device", device, (known.name for bus in self.site.buses for known in bus.devices)))

    async def do(self, request: Mapping[str, Any]) -> AsyncGenerator[dict[str, Any], None]:
        """Do what is asked. What can be foreseen to fail ends it with {"error": sentence, "code": exit code}."""
        try:
            async with aclosing(operation(request.get("do"))(self, request)) as messages:
                async for message in messages:
                    yield message
        except Declined as error:
            yield {"error": str(error), "code": 2}
        except (GatewayError, BusError) as error:
            yield {"error": str(error), "code": 1}
        except ValueError as error:
            yield {"error": str(error), "code": 2}


Operation = Callable[[Desk, Mapping[str, Any]], AsyncGenerator[dict[str, Any], None]]


def operation(name: object) -> Operation:
    """Return the operation of this name. Declined when there is none."""
    if not isinstance(name, str) or name not in OPERATIONS:
        raise Declined(unknown("operation", name, OPERATIONS))
    module, _, function = OPERATIONS[name].partition(":")
    found: Operation = getattr(import_module(module), function)
    return found


def unknown(thing: str, name: object, names: Iterable[str]) -> str:
    """Say that there is no such thing, and which of those that exist was probably meant."""
    known = list(names)
    wrong = str(name)[:64]
    near = difflib.get_close_matches(wrong, known, 1)
    if near:
        return f"there is no {thing} {wrong!r}: did you mean {near[0]}?"
    few = ", ".join(known[:12]) + (" ..." if len(known) > 12 else "")
    return f"there is no {thing} {wrong!r}: " + (f"there are {few}" if known else "there is none at all")

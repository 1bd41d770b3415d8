"""Times from before a gateway's clock could be trusted, and what mends them: `up/clock`. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, NamedTuple

from gateway.ioc.decode import Message
from gateway.ioc.ledger import Batches

_BOOTS = 16  # of one gateway, the latest
_MAX_TEXT = 64
_FIRST, _LAST = 1_577_836_800_000, 4_102_444_800_000  # 2020 and 2100 in ms: when a gateway may have been switched on


class Correction(NamedTuple):
    """The anchor of a boot is known now: a time of these batches is `anchor` + its monotonic time, in ms."""

    gw: str
    boot: str
    anchor: int
    batches: tuple[Batches, ...]


class Anchors:
    """Wall time minus monotonic time of the boots of each gateway."""

    def __init__(self) -> None:
        self._anchors: dict[str, dict[str, int]] = {}

    def learn(self, gw: str, body: Mapping[str, Any]) -> dict[str, int]:
        """Take in `up/clock`; returns the anchor of each boot that it names. ValueError when that cannot be."""
        earlier = body.get("earlier")
        named = [*earlier.items()][-_BOOTS:] if isinstance(earlier, Mapping) else []
        found = dict(_checked(boot, anchor) for boot, anchor in [*named, (body.get("boot"), body.get("anchor"))])
        boots = self._anchors.setdefault(gw, {})
        for boot, anchor in found.items():
            boots.pop(boot, None)
            boots[boot] = anchor
        while len(boots) > _BOOTS:
            del boots[next(iter(boots))]
        return found

    def corrected(self, message: Message) -> Message:
        """The batch with its right time, if it came without and the anchor of its boot is known."""
        anchor = self._anchors.get(message.gw, {}).get(message.boot)
        if message.clk != "unsynced" or anchor is None:
            return message
        return replace(message, t0=anchor + message.m0, clk="corrected")


def _checked(boot: object, anchor: object) -> tuple[str, int]:
    if not isinstance(boot, str) or not 0 < len(boot) <= _MAX_TEXT:
        raise ValueError(f"the boot of the clock is {boot!r:.60}, not a short text")
    if type(anchor) is not int or not _FIRST <= anchor < _LAST:
        raise ValueError(f"the anchor of the clock is {anchor!r:.60}, not milliseconds between 2020 and 2100")
    return boot, anchor

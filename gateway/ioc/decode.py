"""Read what gateways send: durable messages, births, and the other bodies. Pure."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

from gateway.uplink.payload.decode import Block, Message, decode, unpack_map

__all__ = ["Block", "Catalogue", "Message", "decode", "unpack_map"]

_MAX_BIRTHS = 100_000
"""Of all gateways together: a fleet of ten thousand cabinets."""


class Catalogue:
    """The births: what explains the points of (gateway, device, cfg). The oldest are forgotten at the limit."""

    def __init__(self, limit: int = _MAX_BIRTHS) -> None:
        self._limit = limit
        self._births: OrderedDict[tuple[str, str, str], Mapping[str, Any]] = OrderedDict()
        self._points: dict[tuple[str, str, str], dict[str, Mapping[str, Any]]] = {}

    def __len__(self) -> int:
        return len(self._births)

    def learn(self, payload: bytes) -> tuple[str, str, str]:
        """Take a birth in; returns its key. ValueError when it does not follow the contract."""
        body = unpack_map(payload)
        match body:
            case {"gw": str(gw), "device": str(device), "cfg": str(cfg), "points": list(points)}:
                pass
            case _:
                raise ValueError("the birth has not gw, device, cfg and points")
        key = gw, device, cfg
        self._births.pop(key, None)
        self._births[key] = body
        self._points[key] = {
            point["name"]: point
            for point in points
            if isinstance(point, Mapping) and isinstance(point.get("name"), str)
        }
        while len(self._births) > self._limit:
            old, _ = self._births.popitem(last=False)
            del self._points[old]
        return key

    def birth(self, gw: str, device: str, cfg: str) -> Mapping[str, Any] | None:
        """The whole body; None when it has not been seen."""
        return self._births.get((gw, device, cfg))

    def point(self, gw: str, device: str, cfg: str, name: str) -> Mapping[str, Any]:
        """One point's metadata; empty when there is none.

        A counter's `name.total` is explained by `name`; its `name.gen` is a plain number.
        """
        points = self._points.get((gw, device, cfg), {})
        if name in points:
            return points[name]
        base, _, part = name.rpartition(".")
        if part == "total" and base in points:
            return points[base]
        return {}

    def unit(self, gw: str, device: str, cfg: str, name: str) -> str | None:
        """The UCUM unit of a point's values; None when it is not known."""
        unit = self.point(gw, device, cfg, name).get("unit")
        return unit if isinstance(unit, str) else None

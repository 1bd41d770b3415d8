"""The bodies of the retained topics and of health, as the contract writes them. Pure.

They are JSON in every output format: whoever looks into a broker with a plain MQTT tool can read them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from gateway import __version__
from gateway.model import Device, Site, StoreSettings
from gateway.uplink.payload.native_json import plain


def dump(body: Mapping[str, Any]) -> bytes:
    """A body as JSON bytes."""
    text = json.dumps(plain(body), ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return text.encode("utf-8", "replace")


def loss_window(store: StoreSettings) -> float:
    """Seconds of unconfirmed readings that a power cut can cost at most (beside the commit itself)."""
    return 0.0 if store.durability == "strict" else store.linger + store.commit_every


def status(
    site: Site, *, online: bool, conn: tuple[str, int], ts: int, boot: str, clock: str, mqtt: Mapping[str, Any]
) -> dict[str, Any]:
    """Body of `up/status`. `window` is the loss window in seconds; `mqtt` says whether refusals can be seen."""
    return {
        "v": 1,
        "gw": site.gateway,
        "online": online,
        "conn": list(conn),
        "ts": ts,
        "boot": boot,
        "version": __version__,
        "config": {"version": 0, "sha256": site.sha256, "state": "active"},
        "clock": {"trust": site.clock, "state": clock},
        "mqtt": dict(mqtt),
        "window": loss_window(site.store),
        "site": site.site,
    }


def birth(gateway: str, device: Device) -> dict[str, Any]:
    """Body of `up/birth/{device}/{cfg}`."""
    return {"v": 1, "gw": gateway, "device": device.name, "cfg": device.cfg} | dict(device.birth)


def epochs(gateway: str, current: str, earlier: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Body of `up/epochs`."""
    return {"v": 1, "gw": gateway, "epoch": current, "epochs": list(earlier)}


def clock(gateway: str, boot: str, anchor: int, anchors: Mapping[str, int]) -> dict[str, Any]:
    """Body of `up/clock`: `anchor` is wall time minus monotonic time in ms; `anchors` those of earlier boots, too."""
    earlier = {name: value for name, value in anchors.items() if name != boot}
    return {"v": 1, "gw": gateway, "boot": boot, "anchor": anchor, "earlier": earlier}


def health(
    gateway: str, ts: int, uplink: Mapping[str, Any], store: Mapping[str, Any], rest: Mapping[str, Any]
) -> dict[str, Any]:
    """Body of `up/health`: the counters of every hop."""
    return {"v": 1, "gw": gateway, "ts": ts, "uplink": dict(uplink), "store": dict(store)} | dict(rest)

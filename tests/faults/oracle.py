"""Section 2 of the contract, read by somebody who has never seen the product's code."""

from __future__ import annotations

import json
import zlib
from typing import Any

import msgpack


def body(payload: bytes) -> dict[str, Any]:
    """A message as it stands, MessagePack or JSON."""
    return json.loads(payload) if payload[:1] == b"{" else msgpack.unpackb(payload, raw=False)


def oracle(payload: bytes) -> dict[str, Any]:
    """A telemetry batch; `rows` are (device, cfg, point, ts, value, quality)."""
    message = body(payload)
    data = message["d"]
    if isinstance(data, bytes):
        data = msgpack.unpackb(zlib.decompress(data) if message.get("z") == "zlib" else data, raw=False)
    rows = []
    for device, cfg, points, dt, columns, quality in data:
        codes = {(p, r): code for p, r, code in quality}
        times, now = [], message["t0"]
        for step in dt:
            now += step
            times.append(now)
        for p, (name, (exp, numbers)) in enumerate(zip(points, columns, strict=True)):
            total = 0
            for r, (at, number) in enumerate(zip(times, numbers, strict=True)):
                value = number
                if exp is not None and number is not None:
                    total += int(number)
                    value = float(f"{total}e{exp}") if exp else total
                rows.append((device, cfg, name, at, value, codes.get((p, r), "good")))
    return message | {"rows": rows}

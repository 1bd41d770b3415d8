"""From what arrived at the broker to figures. Decoders for each system's messages, and what the rows say.

The decoder for our batches is written from section 2 of the contract and shares no code with the agent.
"""

from __future__ import annotations

import json
import statistics
import time
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import accumulate
from typing import Any, NamedTuple

import msgpack
from field import expected
from ledger import Record


class Row(NamedTuple):
    """Values of one device at one moment. `arrival`: ms of CLOCK_MONOTONIC; `ts`: the system's own time, wall ms."""

    arrival: float
    device: str
    ts: float
    values: Mapping[str, Any]


Decoder = Callable[[Record], Iterable[Row]]


def _column(exp: int | None, entries: Sequence[Any]) -> list[Any]:
    if exp is None:
        return list(entries)
    out: list[Any] = []
    n = 0
    for step in entries:
        if step is None:
            out.append(None)
            continue
        n += int(step)
        out.append(n * 10**exp if exp >= 0 else n / 10**-exp)
    return out


def native(record: Record) -> Iterator[Row]:
    """A telemetry batch of the gateway, MessagePack or JSON form."""
    if not record.topic.endswith("/up/telemetry"):
        return
    raw = record.payload
    batch = json.loads(raw) if raw[:1] == b"{" else msgpack.unpackb(raw)
    blocks = batch["d"]
    if isinstance(blocks, bytes):
        blocks = msgpack.unpackb(zlib.decompress(blocks) if batch.get("z") == "zlib" else blocks)
    for device, _cfg, points, dt, columns, _quality in blocks:
        decoded = [_column(exp, entries) for exp, entries in columns]
        for row, ts in enumerate(accumulate(dt, initial=batch["t0"])):
            if row:
                values = {p: c[row - 1] for p, c in zip(points, decoded, strict=True)}
                yield Row(record.arrival, device, ts, values)


def modpoll(record: Record) -> Iterator[Row]:
    values = json.loads(record.payload)
    yield Row(record.arrival, record.topic.split("/")[1], values.pop("timestamp") * 1000, values)


def plain(record: Record) -> Iterator[Row]:
    values = json.loads(record.payload)
    yield Row(record.arrival, record.topic.split("/")[1], values.pop("ts"), values)


def thingsboard(record: Record) -> Iterator[Row]:
    if record.topic != "v1/gateway/telemetry":
        return
    for device, entries in json.loads(record.payload).items():
        for entry in entries:
            yield Row(record.arrival, device, entry["ts"], entry["values"])


class Told(NamedTuple):
    """What the rows of one window say. Seconds and ms as named; None where nothing arrived."""

    readings: int
    rate: float
    delay_p50_s: float | None
    delay_p99_s: float | None
    error_p50_ms: float | None
    error_p99_ms: float | None
    wrong: int


def answered_ms(row: Row) -> int | None:
    """When the device answered, ms of CLOCK_MONOTONIC: the value of tag `ms` with its upper bits put back."""
    low = row.values.get("ms")
    if low is None:
        return None
    now = int(row.arrival)
    return now - ((now - int(low)) & 0xFFFFFFFF)


def count(row: Row) -> int:
    return sum(v is not None for v in row.values.values())


def tell(rows: Iterable[Row], start: float, end: float, by_arrival: bool = False) -> Told:
    """Figures of the rows whose device answered (or which arrived) in [start, end), ms of CLOCK_MONOTONIC."""
    inside = [
        (r, a) for r in rows if (a := answered_ms(r)) is not None and start <= (r.arrival if by_arrival else a) < end
    ]
    wall_minus_mono = time.time() * 1000 - time.monotonic() * 1000
    delays = sorted((r.arrival - a) / 1000 for r, a in inside)
    signed = [r.ts - wall_minus_mono - a for r, a in inside]
    errors = sorted(map(abs, signed))
    readings = sum(count(r) for r, _ in inside)
    return Told(
        readings,
        readings / (end - start) * 1000,
        percentile(delays, 0.50),
        percentile(delays, 0.99),
        statistics.median(signed) if signed else None,
        percentile(errors, 0.99),
        sum(is_wrong(r) for r, _ in inside),
    )


def percentile(ascending: Sequence[float], share: float) -> float | None:
    return ascending[min(len(ascending) - 1, int(share * len(ascending)))] if ascending else None


def is_wrong(row: Row) -> bool:
    """Whether a value is not what the device held at this row's `n`: a wrong or a torn sweep."""
    n = row.values.get("n")
    if n is None:
        return False
    held = expected(int(row.device.rsplit("-", 1)[1]), int(n))
    return any(
        tag in row.values and abs(row.values[tag] - v) > 0.001
        for tag, v in held.items()
        if row.values.get(tag) is not None
    )


def lost_and_repeated(rows: Iterable[Row]) -> tuple[int, int]:
    """Sweeps missing between the first and the last that arrived of each device, and sweeps that arrived again."""
    seen: dict[str, Counter[int]] = {}
    for row in rows:
        if row.values.get("n") is not None:
            seen.setdefault(row.device, Counter())[int(row.values["n"])] += 1
    lost = sum(max(c) - min(c) + 1 - len(c) for c in seen.values())
    return lost, sum(c.total() - len(c) for c in seen.values())

"""The native payload as JSON: the same messages for readers without MessagePack. Never compressed. Pure."""

from __future__ import annotations

import json
from collections.abc import Sequence
from itertools import pairwise
from math import isfinite
from typing import Any

import msgpack

from gateway.model import Batch
from gateway.uplink.payload import native
from gateway.uplink.payload.decode import Block, decode, unpack_blocks
from gateway.uplink.payload.envelope import envelope, in_parts

__all__ = ["decode", "message", "plain", "split"]

_EXACT = 2**53  # beyond it a JSON reader's double is not exact


def message(gateway: str, batch: Batch, part: tuple[int, int] | None = None) -> bytes:
    """The batch as one JSON message."""
    head = envelope(gateway, batch, part)
    if batch.stream == "t":
        return _written(head, unpack_blocks(batch.data, zipped=batch.zipped))
    return _dumped(head | {k: v for k, v in msgpack.unpackb(batch.data).items() if k not in head})


def split(gateway: str, batch: Batch, limit: int) -> list[bytes]:
    """The batch as messages of at most `limit` bytes each: the whole, or numbered parts (UplinkError: impossible)."""
    whole = message(gateway, batch)
    if len(whole) <= limit:
        return [whole]
    return in_parts(gateway, batch, limit, _written)


def plain(value: Any) -> Any:
    """The value as JSON can carry it: integers beyond 2^53 as text, what is not finite as null."""
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if type(value) is int and abs(value) > _EXACT:
        return str(value)
    if type(value) is float and not isfinite(value):
        return None
    return value


def _written(head: dict[str, Any], blocks: Sequence[Block]) -> bytes:
    return _dumped(head | {"d": [_block(native.coded(block)) for block in blocks]})


def _block(coded: Sequence[Any]) -> list[Any]:
    device, cfg, names, dt, columns, flaws = coded
    return [device, cfg, names, dt, [_column(*column) for column in columns], flaws]


def _column(exp: int | None, values: Sequence[Any]) -> list[Any]:
    """Integers that are not delta-coded because of 64 bits are so here: as text they know no such limit."""
    numbers = [value for value in values if value is not None]
    if exp is None and any(abs(n) > _EXACT for n in numbers if type(n) is int) and set(map(type, numbers)) == {int}:
        steps = iter([numbers[0], *(after - before for before, after in pairwise(numbers))])
        return [0, [None if value is None else plain(next(steps)) for value in values]]
    return [exp, plain(values)]


def _dumped(body: dict[str, Any]) -> bytes:
    text = json.dumps(plain(body), ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return text.encode("utf-8", "replace")

"""Read messages of the native payload, MessagePack or JSON. Pure.

Everything from outside is bounded and checked: what does not follow the contract raises ValueError with a sentence.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import accumulate
from math import isfinite
from typing import Any, NamedTuple

import msgpack

from drivers.base import GOOD, Value
from gateway.model import Reading

MAX_BYTES = 4 * 2**20
"""Of a message, and of its data after decompression."""

_MAX_SEQ = 2**62
_MAX_EXPONENT = 30  # the agent writes -22..0


class Block(NamedTuple):
    """The rows of one device whose points were answered together.

    `times` in ms relative to the batch's t0, one per row; `columns` one per point; `flaws` are [point index, row, code]
    of what is not good.
    """

    device: str
    cfg: str
    points: Sequence[str]
    times: Sequence[int]
    columns: Sequence[Sequence[Value]]
    flaws: Sequence[list[Any]]

    def rows(self, start: int, end: int) -> Block:
        """The same block with the rows [start, end) only."""
        return self._replace(
            times=self.times[start:end],
            columns=[column[start:end] for column in self.columns],
            flaws=[[point, row - start, code] for point, row, code in self.flaws if start <= row < end],
        )


@dataclass(frozen=True)
class Message:
    """One durable message. `blocks` for stream "t"; for events "e" and command results "c" the whole `body`."""

    gw: str
    epoch: str
    stream: str
    seq: int
    part: tuple[int, int] | None
    boot: str
    t0: int
    m0: int
    clk: str
    hist: bool
    blocks: tuple[Block, ...] = ()
    body: Mapping[str, Any] = field(default_factory=dict)

    @property
    def key(self) -> tuple[str, str, str, int, tuple[int, int] | None]:
        """What makes at-least-once exactly once."""
        return self.gw, self.epoch, self.stream, self.seq, self.part

    @cached_property
    def readings(self) -> list[Reading]:
        """All readings; those of one device and point in order of time."""
        return [reading for block in self.blocks for reading in self.readings_of(block)]

    def readings_of(self, block: Block) -> list[Reading]:
        """The readings of one block, row by row."""
        codes = {(point, row): code for point, row, code in block.flaws}
        return [
            Reading(
                self.gw,
                block.device,
                name,
                self.t0 + at,
                value,
                codes.get((i, row), GOOD),
                self.epoch,
                self.seq,
                self.hist,
            )
            for row, (at, values) in enumerate(zip(block.times, zip(*block.columns, strict=True), strict=True))
            for i, (name, value) in enumerate(zip(block.points, values, strict=True))
        ]


def decode(payload: bytes) -> Message:
    """Read one message of `up/telemetry`, `up/event` or `up/cmd`; the first byte tells JSON from MessagePack."""
    body = unpack_map(payload)
    if body.get("v") != 1:
        raise ValueError(f"the message is of version {body.get('v')!r}, this reader knows version 1")
    gw, epoch, seq = _want(body, "gw", str), _want(body, "epoch", str), _want(body, "seq", int)
    clk, hist = _want(body, "clk", str), body.get("hist") is True
    if not 1 <= seq <= _MAX_SEQ:
        raise ValueError(f"the message's 'seq' is {seq}, not a number from 1 to 2^62")
    if "d" not in body:
        stream = _want(body, "stream", str)
        timed = {"boot": "", "m0": 0} | body  # the first agents did not tell them here
        boot, t0, m0 = _want(timed, "boot", str), _want(timed, "ts", int), _want(timed, "m0", int)
        return Message(gw, epoch, stream, seq, None, boot, t0, m0, clk, hist, body=body)
    data = body["d"]
    blocks = unpack_blocks(data, zipped=_zipped(body)) if isinstance(data, bytes) else _blocks(data)
    boot, t0, m0 = _want(body, "boot", str), _want(body, "t0", int), _want(body, "m0", int)
    return Message(gw, epoch, "t", seq, _part(body), boot, t0, m0, clk, hist, tuple(blocks))


def unpack_map(payload: bytes, limit: int = MAX_BYTES) -> dict[str, Any]:
    """A message's outermost map, from MessagePack or JSON."""
    if len(payload) > limit:
        raise ValueError(f"the message has {len(payload)} bytes, more than {limit}")
    try:
        body = json.loads(payload) if payload[:1] == b"{" else msgpack.unpackb(payload)
    except (ValueError, RecursionError, msgpack.UnpackException) as error:
        raise ValueError(f"the message is neither MessagePack nor JSON: {error}") from error
    if not isinstance(body, dict) or not all(type(key) is str for key in body):
        raise ValueError("the message is not a map with text keys")
    return body


def unpack_blocks(data: bytes, *, zipped: bool) -> list[Block]:
    """The blocks of a batch's data."""
    if zipped:
        data = _unzipped(data)
    try:
        blocks = msgpack.unpackb(data)
    except (ValueError, RecursionError, msgpack.UnpackException) as error:
        raise ValueError(f"the data of the batch is not MessagePack: {error}") from error
    return _blocks(blocks)


def _unzipped(data: bytes) -> bytes:
    unzip = zlib.decompressobj()
    try:
        raw = unzip.decompress(data, MAX_BYTES)
    except zlib.error as error:
        raise ValueError(f"the data of the batch cannot be decompressed: {error}") from error
    if unzip.unconsumed_tail:
        raise ValueError(f"the data of the batch has more than {MAX_BYTES} bytes when decompressed")
    if not unzip.eof:
        raise ValueError("the compressed data of the batch is cut short")
    return raw


def _zipped(body: Mapping[str, Any]) -> bool:
    if body.get("z") not in (None, "zlib"):
        raise ValueError(f"the data is compressed with {body['z']!r}, this reader knows zlib")
    return "z" in body


def _want(body: Mapping[str, Any], key: str, kind: type) -> Any:
    value = body.get(key)
    if type(value) is not kind:
        raise ValueError(f"the message's {key!r} is {value!r:.60}, not {_KINDS[kind]}")
    return value


_KINDS: Mapping[type, str] = {str: "text", int: "an integer"}


def _part(body: Mapping[str, Any]) -> tuple[int, int] | None:
    match body.get("part"):
        case None:
            return None
        case [int(i), int(n)] if 1 <= i <= n:
            return i, n
        case other:
            raise ValueError(f"the message's 'part' is {other!r:.60}, not [i, n] with 1 <= i <= n")


def _blocks(raw: Any) -> list[Block]:
    if not isinstance(raw, list):
        raise ValueError("the data of the batch is not a list of blocks")  # noqa: TRY004  a peer's mistake, not ours
    return [_block(item) for item in raw]


def _block(raw: Any) -> Block:
    match raw:
        case [str(device), str(cfg), [*points], [*dt], [*columns], [*flaws]]:
            pass
        case _:
            raise ValueError("a block is not [device, cfg, points, dt, columns, quality]")
    if len(columns) != len(points) or not points:
        raise ValueError(f"the block of {device!r} has {len(points)} points and {len(columns)} columns")
    if not all(type(name) is str for name in points) or not all(type(step) is int for step in dt):
        raise ValueError(f"the block of {device!r} has points that are not text or times that are not integers")
    rows = len(dt)
    values = [_column(column, rows, device) for column in columns]
    for flaw in flaws:
        match flaw:
            case [int(point), int(row), str()] if 0 <= point < len(points) and 0 <= row < rows:
                pass
            case _:
                raise ValueError(f"the block of {device!r} has a quality that is not [point index, row, code]")
    return Block(device, cfg, points, list(accumulate(dt)), values, flaws)


def _column(raw: Any, rows: int, device: str) -> list[Value]:
    match raw:
        case [None, list(values)] if len(values) == rows and all(map(_is_value, values)):
            return values
        case [int(exp), [*steps]] if len(steps) == rows and abs(exp) <= _MAX_EXPONENT:
            return _summed(steps, exp, device)
    raise ValueError(f"the block of {device!r} has a column that is not [exp, {rows} integers] or [null, values]")


def _is_value(value: object) -> bool:
    return isfinite(value) if isinstance(value, float) else value is None or isinstance(value, (str, int))


def _summed(steps: list[Any], exp: int, device: str) -> list[Value]:
    """Undo the deltas. Dividing by 10^-exp is exact where multiplying by 10^exp is not: 2302 / 10 = 230.2."""
    values: list[Value] = []
    total, power = 0, 10 ** abs(exp)
    for step in steps:
        if step is None:
            values.append(None)
            continue
        if type(step) is int:
            total += step
        elif (
            type(step) is str and len(step) < 40 and step.removeprefix("-").isdecimal()
        ):  # the JSON form writes what a double cannot hold as text
            total += int(step)
        else:
            raise ValueError(f"the block of {device!r} has {step!r:.60} where an integer belongs")
        values.append(total * power if exp >= 0 else total / power)
    return values

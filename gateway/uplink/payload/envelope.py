"""What stands around a batch's data, the same in every form of the native payload. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from gateway.errors import UplinkError
from gateway.model import Batch
from gateway.uplink.payload.decode import Block, unpack_blocks

Write = Callable[[dict[str, Any], Sequence[Block]], bytes]
"""Writes a message from its envelope and its blocks."""


def envelope(gateway: str, batch: Batch, part: tuple[int, int] | None = None) -> dict[str, Any]:
    """The keys that every durable message carries around its data, in the order of the contract."""
    head: dict[str, Any] = {"v": 1, "gw": gateway, "epoch": batch.epoch}
    if batch.stream == "t":
        head["seq"] = batch.seq
        if part:
            head["part"] = list(part)
        head |= {"boot": batch.boot, "t0": batch.t0, "m0": batch.m0, "clk": batch.clk}
    else:
        head |= {"stream": batch.stream, "seq": batch.seq, "boot": batch.boot, "ts": batch.t0, "m0": batch.m0}
        head["clk"] = batch.clk
    if batch.historical:
        head["hist"] = True
    return head


def in_parts(gateway: str, batch: Batch, limit: int, write: Write) -> list[bytes]:
    """The batch as numbered parts of at most `limit` bytes each.

    Blocks stay whole where they fit, else they are cut between rows. Raises UplinkError when one row is too big.
    """
    if batch.stream != "t":
        raise _too_big(batch, f"a message of stream {batch.stream!r}", limit)
    widest = envelope(gateway, batch, (2**16, 2**16))

    def pieces(blocks: Sequence[Block]) -> Iterator[Sequence[Block]]:
        if len(write(widest, blocks)) <= limit:
            yield blocks
        elif len(blocks) == 1 and len(blocks[0].times) <= 1:
            raise _too_big(batch, f"one reply of device {blocks[0].device!r}, {len(blocks[0].points)} points,", limit)
        else:
            for half in _halves(blocks):
                yield from pieces(half)

    found = list(pieces(unpack_blocks(batch.data, zipped=batch.zipped)))
    return [write(envelope(gateway, batch, (i, len(found))), blocks) for i, blocks in enumerate(found, 1)]


def _halves(blocks: Sequence[Block]) -> tuple[Sequence[Block], Sequence[Block]]:
    if len(blocks) > 1:
        return blocks[: len(blocks) // 2], blocks[len(blocks) // 2 :]
    rows = len(blocks[0].times)
    return [blocks[0].rows(0, rows // 2)], [blocks[0].rows(rows // 2, rows)]


def _too_big(batch: Batch, what: str, limit: int) -> UplinkError:
    return UplinkError(
        f"Batch {batch.epoch} {batch.stream}/{batch.seq} cannot be sent: {what} does not fit into {limit} bytes, which "
        f"is what the broker's maximum packet size leaves. Raise that limit at the broker (64 KiB or more)."
    )

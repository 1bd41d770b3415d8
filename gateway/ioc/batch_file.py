"""Read the files that `gateway store export` writes. Pure: the bytes are passed in, as they come from a file.

Nothing in a file is believed before its checksum fits; whatever it holds, memory stays bounded.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import chain
from typing import Any

import msgpack

from gateway.ioc.decode import Catalogue, Message, decode, unpack_map
from gateway.uplink.payload.batch_file import END, HEAD, MAGIC, VERSION, Head, check
from gateway.uplink.payload.decode import MAX_BYTES

CHUNK = 64 * 1024
"""Bytes that are best read at a time."""
_NAME = 4096  # bytes of a topic at most
_COPY = "Copy it from the stick once more, or export again."

Record = tuple[str, bytes]
"""(topic, message)"""


def opened(chunks: Iterable[bytes]) -> tuple[Head, Iterator[Record]]:
    """Return what the file says it holds, and its messages. ValueError when it is none of ours.

    The messages end with a ValueError when the file is damaged or cut short: after all that could be read.
    """
    rest = iter(chunks)
    start = b""
    while len(start) < len(MAGIC) and (chunk := next(rest, b"")):
        start += chunk
    if not start.startswith(MAGIC):
        changed = b"GWB" in start[: len(MAGIC)]
        raise ValueError(
            f"it was changed on its way, as a text file may be. {_COPY}"
            if changed
            else "it is no file of `gateway store export`."
        )
    records = _records(chain([start[len(MAGIC) :]], rest))
    first = next(records, None)
    if first is None or first[0] != HEAD:
        raise ValueError(f"its beginning is damaged. {_COPY}")
    return _head(first[1]), records


def messages(chunks: Iterable[bytes], catalogue: Catalogue) -> Iterator[Message]:
    """Every durable message of a file; births go into the catalogue. ValueError at the end when that was not all."""
    head, records = opened(chunks)
    root = f"{head.prefix}/v1/{head.gw}/up/"
    wrong = 0
    for topic, payload in records:
        try:
            if topic.startswith(f"{root}birth/"):
                catalogue.learn(payload)
                continue
            message = decode(payload)
        except ValueError:
            wrong += 1
            continue
        if (message.gw, message.epoch, message.stream) == (head.gw, head.epoch, head.stream):
            yield message
        else:
            wrong += 1
    if wrong:
        raise ValueError(f"{wrong} of its messages do not follow the contract: no gateway wrote them.")


def _head(content: bytes) -> Head:
    body = unpack_map(content, _NAME)
    if body.get("v") != VERSION:
        raise ValueError(f"it is of version {body.get('v')!r:.20}, this reader knows {VERSION}: install a newer one.")
    match body:
        case {
            "gw": str(gw),
            "prefix": str(prefix),
            "epoch": str(epoch),
            "stream": "t" | "e" | "c" as stream,
            "first": int(first),
            "last": int(last),
            "ended": "" | "clean" | "unclean" as ended,
            "high": int(high),
        }:
            return Head(gw, prefix, epoch, stream, first, last, ended, high)
    raise ValueError("its head does not say gateway, epoch and stream.")


def _records(chunks: Iterable[bytes]) -> Iterator[Record]:
    """Every record that is whole, up to END. ValueError at the end if that was not all."""
    items = _items(chunks)
    messages, damaged = -1, 0  # the head is none
    while True:
        try:
            item = next(items, None)
        except (ValueError, msgpack.UnpackException) as error:
            raise ValueError(f"it is damaged after {max(0, messages)} messages. {_COPY}") from error
        match item:
            case None:
                raise ValueError(f"it is cut short after {max(0, messages)} messages. {_COPY}")
            case [bytes(name), bytes(content), int(crc)] if crc == check(name, content):
                pass
            case _:
                damaged += 1
                continue
        if name == END.encode():
            if damaged or unpack_map(content, _NAME).get("messages") != messages:
                raise ValueError(f"{max(damaged, 1)} of its messages are damaged. {_COPY}")
            return
        messages += 1
        yield name.decode("utf-8", "replace"), content


def _items(chunks: Iterable[bytes]) -> Iterator[Any]:
    """Unpack the stream. ValueError or UnpackException where it is none, or has more than a message can have."""
    unpacker = msgpack.Unpacker(
        raw=True,
        max_buffer_size=MAX_BYTES + 2 * CHUNK,
        max_bin_len=MAX_BYTES,
        max_str_len=_NAME,
        max_array_len=3,
        max_map_len=0,
        max_ext_len=0,
    )
    for chunk in chunks:
        for start in range(0, len(chunk), CHUNK):
            unpacker.feed(chunk[start : start + CHUNK])
            yield from unpacker

"""The file that carries batches on a stick where the network does not. Pure.

After MAGIC comes a MessagePack stream of [name, content, crc]: first HEAD, then every message as it would have been
published, under its topic, births before all others, and END. `crc` is the CRC-32 of name and content.
"""

from __future__ import annotations

import zlib
from dataclasses import asdict, dataclass

import msgpack

MAGIC = b"\x89GWB\r\n\x1a\n"
"""As PNG does it: what changes line ends, drops the eighth bit or stops at Ctrl-Z is noticed at once."""
HEAD, END = "head", "end"
VERSION = 1
SUFFIX = ".gwb"


@dataclass(frozen=True, slots=True)
class Head:
    """What a file holds: batches `first` to `last` of one stream of one epoch, as far as they waited.

    `ended` is how the epoch ended ("" when it had not), `high` its highest number that was stored.
    """

    gw: str
    prefix: str
    epoch: str
    stream: str
    first: int
    last: int
    ended: str = ""
    high: int = 0

    @property
    def name(self) -> str:
        """What the file is called."""
        return f"{self.gw}-{self.epoch}-{self.stream}-{self.first}-{self.last}{SUFFIX}"


def head(about: Head) -> bytes:
    """How the file begins."""
    return MAGIC + record(HEAD, msgpack.packb({"v": VERSION, **asdict(about)}))


def record(name: str, content: bytes) -> bytes:
    """One record: a message under its topic."""
    packed: bytes = msgpack.packb([name, content, check(name.encode(), content)])
    return packed


def end(messages: int) -> bytes:
    """How the file ends: with the number of messages, births too."""
    return record(END, msgpack.packb({"messages": messages}))


def check(name: bytes, content: bytes) -> int:
    return zlib.crc32(content, zlib.crc32(name))

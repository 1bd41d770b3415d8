"""The topics of the contract. Pure."""

from __future__ import annotations

from dataclasses import dataclass

import msgpack

from gateway.model import Batch

STREAMS = {"t": "up/telemetry", "e": "up/event", "c": "up/cmd"}
"""Durable stream -> topic below the root; a command's result has its id as one more level."""


@dataclass(frozen=True, slots=True)
class Topics:
    """One gateway's topics below `{prefix}/v1/{gateway}/`."""

    prefix: str
    gateway: str

    @property
    def root(self) -> str:
        return f"{self.prefix}/v1/{self.gateway}/"

    def __call__(self, name: str, *levels: str) -> str:
        """The full topic of "up/status" and the like; further levels are made safe."""
        return self.root + "/".join([name, *map(_level, levels)])

    def of(self, batch: Batch) -> str:
        """The topic that a batch is published under."""
        if batch.stream != "c":
            return self(STREAMS[batch.stream])
        return self(STREAMS["c"], str(msgpack.unpackb(batch.data).get("id", "")))

    def tail(self, topic: str) -> str:
        """What a received topic says below the root."""
        return topic.removeprefix(self.root)


def _level(text: str) -> str:
    """A name as one level of a topic: the characters with a meaning of their own become "_"."""
    return text.translate(_UNSAFE)


_UNSAFE = str.maketrans("/+#\0", "____")

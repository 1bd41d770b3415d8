"""Which births are remembered, and which of them nobody needs any more. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgpack

from gateway.store.job import Job
from gateway.store.rows import LAST_SEQ, row_id

Key = tuple[str, str]
"""(device, cfg)"""


class Births:
    """A birth is needed while it is current, and until no batch that it explains is pending."""

    def __init__(self) -> None:
        self._last: dict[Key, int] = {}
        self._current: dict[str, str] = {}
        self._replaced: dict[Key, int] = {}
        self._bodies: dict[Key, bytes] = {}
        self._forget: list[Key] = []

    def found(self, last: Mapping[Key, int]) -> None:
        """These stand in the database, with the last run that used them."""
        self._last |= {key: run for key, run in last.items() if key not in self._last}

    def remember(self, device: str, cfg: str, body: Mapping[str, Any], run: int, newest: int) -> bool:
        """Make this birth the current one; `newest` is the last row id that an older one may explain.

        True when it must be on disk before it is published: only then can it be withdrawn one day.
        """
        key = (device, cfg)
        if (old := self._current.get(device, cfg)) != cfg:
            self._replaced[device, old] = newest
        self._current[device] = cfg
        self._replaced.pop(key, None)
        new = key not in self._last
        # The body may have changed under the same cfg, which covers the points and not the device's place.
        self._bodies[key] = msgpack.packb(dict(body), unicode_errors="replace")
        self._last[key] = run
        return new

    def stale(self, oldest: int | None) -> list[Key]:
        """Births that are not current and explain nothing from the row id `oldest` on (None: nothing is pending)."""
        return [
            key
            for key, run in self._last.items()
            if self._current.get(key[0]) != key[1]
            and (oldest is None or oldest > self._replaced.get(key, row_id("t", run, LAST_SEQ)))
        ]

    def forget(self, key: Key) -> None:
        self._last.pop(key, None)
        self._replaced.pop(key, None)
        self._bodies.pop(key, None)
        self._forget.append(key)

    def merged(self, stored: list[tuple[str, str, dict[str, Any]]]) -> list[tuple[str, str, dict[str, Any]]]:
        """What is stored, with what waits to be written."""
        bodies = {(device, cfg): body for device, cfg, body in stored if (device, cfg) in self._last}
        bodies |= {key: msgpack.unpackb(body) for key, body in self._bodies.items()}
        return [(*key, body) for key, body in sorted(bodies.items())]

    def into(self, job: Job) -> None:
        """Let the job write what has changed."""
        job.births, job.forget = self._bodies, self._forget
        self._bodies, self._forget = {}, []

    def failed(self, job: Job) -> None:
        """The job was not written."""
        self._bodies = job.births | self._bodies
        self._forget = job.forget + self._forget

"""The rig with serial lines in place of TCP endpoints."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import decode
from field import TAGS, Tag
from line import Lines, Request
from rig import Failed, Rig, Sleep, Window
from systems import BUILD, LineJob, System


def ask(door: Path, request: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Asks the running agent through its control socket; all lines of the answer, the last one says that it ends."""
    answers: list[dict[str, Any]] = []
    with socket.socket(socket.AF_UNIX) as link:
        link.settimeout(10)
        link.connect(str(door))
        link.sendall(json.dumps(request).encode() + b"\n")
        with link.makefile() as lines:
            for line in lines:
                answers.append(json.loads(line))
                if answers[-1].get("end"):
                    return answers
    raise Failed(f"the control socket closed before the end; it said: {answers}")


class Work(NamedTuple):
    """What is asked of the lines. `period` in seconds, 0: as fast as possible."""

    baud: int
    units: Sequence[int] = range(1, 11)
    lines: int = 1
    period: float = 0.0
    tags: Sequence[Tag] = TAGS


class LineRig(Rig):
    """`with LineRig(system, work, sleep) as rig:` as Rig, on serial lines."""

    def __init__(self, system: System, work: Work, sleep: Sleep) -> None:
        self.work = work
        super().__init__(system, work.period, sleep)

    def _simulate(self) -> Callable[[], None]:
        work = self.work
        self.lines = Lines(BUILD, self.memory, work.baud, work.units, work.lines)
        return self.lines.stop

    def _job(self) -> LineJob:
        work = self.work
        return LineJob(self.disk, self.broker_port, self.lines.paths, work.baud, work.units, work.tags, work.period)

    def settle(self, seconds: float) -> None:
        """Waits until every line was asked, and so long again."""
        everybody = range(self.work.lines)
        self.until("its first polls", lambda: {r.line for r in self.lines.requests()}.issuperset(everybody))
        self.sleep(seconds)

    def span(self, seconds: float) -> tuple[Window, list[Request]]:
        """A window, and the requests that began in it."""
        window = self.window(seconds)
        before, after = window.before.at, window.after.at
        return window, [r for r in self.lines.requests() if before <= r.begin < after]

    def wrong(self) -> int | None:
        """Values that arrived at the broker and are not what the device held; None: nothing arrived."""
        rows = self.rows()
        return sum(map(decode.is_wrong, rows)) if rows else None

"""The store's process as its parent sees it: all that it has said, and how it ended."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable
from math import inf
from pathlib import Path
from typing import Any

from promise import Promise
from recording import ROOT

KEEPER = ROOT / "tests" / "faults" / "keeper.py"
DEADLINE = 60.0
"""Seconds after which the process must have done what is waited for."""


class Keeping:
    """One process at a time that keeps a store in the folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.said: list[dict[str, Any]] = []
        self.errors = b""
        self.code: int | None = None
        self._process: asyncio.subprocess.Process | None = None
        self._reading: asyncio.Task[None] | None = None

    async def start(self, before: Callable[[], None] | None = None, **settings: Any) -> None:
        """Start it; `before` is called in the new process, to take something away from it."""
        self.code = None
        self._process = await asyncio.create_subprocess_exec(
            sys.executable,
            KEEPER,
            self.folder,
            json.dumps(settings),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin"},
            preexec_fn=before,
        )
        self._reading = asyncio.create_task(self._read(self._process))

    async def _read(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdout is not None
        assert process.stderr is not None
        async for line in process.stdout:
            with contextlib.suppress(ValueError):  # the last line of a killed process
                self.said.append(json.loads(line))
        self.errors = await process.stderr.read()
        self.code = await process.wait()

    @property
    def runs(self) -> bool:
        return self._reading is not None and not self._reading.done()

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    async def round(self, number: int) -> None:
        """Let the next round begin, which then is this one; started with `ask`."""
        await self.until(lambda: any(said.get("round") == number for said in self.said))
        if self.runs:
            assert self._process is not None
            assert self._process.stdin is not None
            self._process.stdin.write(b"\n")
            await self._process.stdin.drain()

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait until it has said enough, or has ended."""
        async with asyncio.timeout(DEADLINE):
            while self.runs and not condition():
                await asyncio.sleep(0.002)

    async def ended(self) -> None:
        assert self._reading is not None
        async with asyncio.timeout(DEADLINE):
            await self._reading

    async def stop(self) -> None:
        """Kill it, if it still runs."""
        if self.runs:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)
        if self._reading is not None:
            await self._reading

    def promise(self, until: float = inf) -> Promise:
        """What it has promised until then, in monotonic nanoseconds."""
        promise = Promise()
        for said in self.said:
            if said.get("at", 0) < until:
                promise.hear(said)
        return promise

    def told(self) -> list[tuple[str, str]]:
        """The events that it has given: (code, state)."""
        return [(said["code"], said["state"]) for said in self.said if said.get("code")]


@contextlib.asynccontextmanager
async def stopped(keeper: Keeping) -> AsyncIterator[Keeping]:
    """Kill the keeper at the end."""
    try:
        yield keeper
    finally:
        await keeper.stop()

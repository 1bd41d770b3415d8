"""What every room's tests may use: a loop whose time jumps, and waiting for a condition with a deadline."""

from __future__ import annotations

import asyncio
import os
import selectors
import socket
import time
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

import hypothesis
import pytest

from gateway.clock import Clock

os.environ["GATEWAY_STRICT"] = "1"
hypothesis.settings.register_profile("gateway", deadline=None)  # no test judges how fast the machine is
hypothesis.settings.load_profile("gateway")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--polls", type=int, default=600, help="polls under each fault of a line (make bench: 10000)")


class Hands:
    """The hands of a virtual clock, in seconds."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.wall_minus_mono = 1_700_000_000.0

    def clock(self, **options: Any) -> Clock:
        return Clock(
            trust="system",
            boot="0123456789ab",
            monotonic=lambda: self.now,
            wall=lambda: self.now + self.wall_minus_mono,
            **options,
        )


class _JumpingSelector(selectors.SelectSelector):
    """Where a real selector would wait, the hands jump ahead instead."""

    def __init__(self, hands: Hands) -> None:
        super().__init__()
        self._hands = hands

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(0 if timeout is None or timeout > 0 else timeout)
        if not ready and timeout:
            self._hands.now += timeout
        return ready


@pytest.fixture
def hands() -> Hands:
    return Hands()


@pytest.fixture
def virtually(hands: Hands) -> Callable[[Coroutine[Any, Any, Any]], Any]:
    """Run a coroutine on a loop whose time is `hands.now`: days pass in milliseconds."""

    def factory() -> asyncio.AbstractEventLoop:
        loop = asyncio.SelectorEventLoop(_JumpingSelector(hands))
        loop.time = lambda: hands.now  # type: ignore[method-assign]
        return loop

    def run(coroutine: Coroutine[Any, Any, Any]) -> Any:
        with asyncio.Runner(loop_factory=factory) as runner:
            return runner.run(coroutine)

    return run


@pytest.fixture
def until() -> Callable[..., Awaitable[None]]:
    """Wait until a condition holds; fail with its name after a generous deadline."""

    async def wait(condition: Callable[[], Any], what: str = "the condition", seconds: float = 20.0) -> None:
        deadline = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > deadline:
                pytest.fail(f"{what} did not come true within {seconds} s")
            await asyncio.sleep(0.01)

    return wait


@pytest.fixture
def free_port() -> Callable[[], int]:
    """Give a TCP port on loopback that nobody listens on."""

    def find() -> int:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            return int(probe.getsockname()[1])

    return find

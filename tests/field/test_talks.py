"""Conversations on one bus: whose turn it is, on a virtual clock."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Generator
from typing import Any

import pytest

from drivers.base import BusError, Exchange, Frame, Line, NoReply, Step
from gateway.errors import LinkError
from gateway.field.link import QUIET_GAP, Reply
from gateway.field.talks import MOST_WAITING, DriverFailed, Partner, Talks

FRAME = 0.060


class Wire:
    """A link on which everybody answers after 60 ms with what it was asked, except to b"silence"."""

    def __init__(self, hands: Any) -> None:
        self.busy = self.free_at = 0.0
        self.sent: list[tuple[float, bytes]] = []
        self.lines: list[Line | None] = []
        self._hands = hands

    async def open(self) -> None: ...

    def close(self) -> None: ...

    async def exchange(self, step: Exchange, timeout: float, quiet_gap: float = QUIET_GAP) -> Reply:
        self.sent.append((self._hands.now, step.request))
        if step.request == b"lost":
            raise LinkError("the port was lost")
        if step.request == b"silence":
            await asyncio.sleep(timeout)
            raise NoReply
        await asyncio.sleep(FRAME)
        return Reply(step.request, self._hands.now)

    async def pause(self, seconds: float) -> None:
        await asyncio.sleep(seconds)

    def set_line(self, line: Line | None) -> None:
        if line is not None and line.format == "8O1":
            raise BusError("the port cannot do it")
        self.lines.append(line)

    def strays(self) -> bytes:
        return b""

    def errors(self) -> dict[str, int]:
        return {}


def ask(*requests: str, hold: bool = False) -> Generator[Step, bytes, list[bytes]]:
    replies = []
    for request in requests:
        step = Exchange(request.encode(), lambda buffer: Frame(0, len(buffer)), len(request), request, hold=hold)
        replies.append((yield step))
    return replies


@pytest.fixture
def bus(hands, virtually):
    """A saturated bus: `poll` is held again and again, while `script` asks for something."""

    class Bus:
        wire = Wire(hands)
        me = Partner("poller")

        def run(self, script: Any, *polled: str, hold: bool = False) -> Any:
            async def main() -> Any:
                talks = Talks("rs485-1", self.wire, hands.clock(), 1.0)  # type: ignore[arg-type]

                async def poll() -> None:
                    while True:
                        if not polled:
                            await talks.rest(3600.0)
                            continue
                        with contextlib.suppress(NoReply):
                            await talks.hold(ask(*polled, hold=hold), self.me, 1.0)

                owner = asyncio.create_task(poll())
                await asyncio.sleep(0.01)
                try:
                    return await script(talks)
                finally:
                    owner.cancel()
                    await asyncio.gather(owner, return_exceptions=True)

            return virtually(main())

        def between(self) -> list[str]:
            return [request.decode() for _, request in self.wire.sent]

    return Bus()


def test_what_others_ask_goes_between_two_frames_of_a_conversation(bus, hands):
    async def script(talks: Talks) -> Any:
        began = hands.now
        return await talks.ask(ask("command"), Partner("technician")), hands.now - began

    replies, took = bus.run(script, "a", "b", "c", "d")
    assert replies == [b"command"]
    assert bus.between()[:3] == ["a", "command", "b"]
    assert took <= 2 * FRAME


def test_a_command_waits_at_most_one_frame_and_one_time_out(bus, hands):
    async def script(talks: Talks) -> float:
        began = hands.now
        await talks.ask(ask("command"), Partner("technician"))
        return hands.now - began

    assert bus.run(script, "silence", "silence", "silence") <= 1.0 + FRAME


def test_nobody_comes_into_a_conversation_that_holds_the_bus(bus):
    async def script(talks: Talks) -> Any:
        return await talks.ask(ask("command"), Partner("technician"))

    bus.run(script, "a", "b", "c", hold=True)
    assert bus.between()[:4] == ["a", "b", "c", "command"]


def test_an_idle_bus_is_woken_by_a_question(bus, hands):
    async def script(talks: Talks) -> float:
        began = hands.now
        assert await talks.ask(ask("command"), Partner("technician")) == [b"command"]
        return hands.now - began

    assert bus.run(script) == pytest.approx(FRAME)


def test_the_line_goes_back_to_its_own_settings_and_nobody_hears_the_others(bus):
    def elsewhere() -> Generator[Step, bytes, str]:
        yield Line(4800, "8E1")
        yield from ask("at 4800")
        try:
            yield Line(9600, "8O1")
        except BusError as error:
            return str(error)
        return ""

    async def script(talks: Talks) -> str:
        return await talks.ask(elsewhere(), Partner("technician"))

    assert bus.run(script, "a", "b") == "the port cannot do it"
    assert bus.wire.lines == [Line(4800, "8E1"), None]
    assert bus.between()[:3] == ["a", "at 4800", "b"]


def test_silence_and_a_drivers_bug_reach_who_asked_and_the_bus_goes_on(bus, monkeypatch):
    monkeypatch.delenv("GATEWAY_STRICT")

    def broken() -> Generator[Step, bytes, None]:
        yield from ask("x")
        raise KeyError("a bug")

    async def script(talks: Talks) -> None:
        with pytest.raises(NoReply):
            await talks.ask(ask("silence"), Partner("technician"))
        with pytest.raises(DriverFailed, match="a bug"):
            await talks.ask(broken(), Partner("technician"))
        assert await talks.ask(ask("fine"), Partner("technician")) == [b"fine"]

    bus.run(script, "a")


def test_who_does_not_wait_any_more_is_not_served(bus):
    async def script(talks: Talks) -> None:
        impatient = asyncio.create_task(talks.ask(ask("late"), Partner("technician")))
        await asyncio.sleep(0)
        impatient.cancel()
        await talks.ask(ask("command"), Partner("technician"))

    bus.run(script, "a")
    assert "late" not in bus.between()


def test_a_port_that_is_lost_is_said_to_all_who_wait(bus):
    async def script(talks: Talks) -> None:
        waiting = [asyncio.create_task(talks.ask(ask(f"{n}"), Partner("technician"))) for n in range(MOST_WAITING)]
        await asyncio.sleep(0)
        with pytest.raises(LinkError, match="wait for rs485-1 already"):
            await talks.ask(ask("one more"), Partner("technician"))
        talks.port_is("the adapter is gone")
        for told in await asyncio.gather(*waiting, return_exceptions=True):
            assert str(told) == "the adapter is gone"
        with pytest.raises(LinkError, match="the adapter is gone"):
            await talks.ask(ask("x"), Partner("technician"))

    bus.run(script, "a")


def test_watchers_see_what_was_asked_and_answered(bus):
    seen = []

    async def script(talks: Talks) -> None:
        talks.watchers.append(seen.append)
        await talks.ask(ask("command"), Partner("technician"))
        with pytest.raises(NoReply):
            await talks.ask(ask("silence"), Partner("technician"))

    bus.run(script)
    assert [(t.partner, t.label, t.reply, bool(t.error)) for t in seen] == [
        ("technician", "command", b"command", False),
        ("technician", "silence", b"", True),
    ]
    assert seen[0].took == pytest.approx(FRAME)

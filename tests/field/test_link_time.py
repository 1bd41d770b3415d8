"""The time on the wire, on a line in memory and a virtual clock: to the microsecond, without waiting."""

from __future__ import annotations

from typing import Any

import pytest

from drivers.base import BadFrame, Exchange, Frame, NoReply, Reject
from gateway.errors import LinkError
from gateway.field.cost import silence
from gateway.field.link import BROKEN, FIFO, FRAGMENT, KEEP, PATIENCE

SIZE = 6


def find(buffer: bytes | bytearray) -> Frame | Reject | None:
    """A toy protocol: a reply is `<....>`; `[....]` is a good frame of somebody else; other bytes are noise."""
    if buffer[:1] == b"[" and buffer[5:6] == b"]":
        return Reject(SIZE, foreign=SIZE)
    if buffer[:1] in (b"<", b"["):
        return None if len(buffer) < SIZE else Frame(0, SIZE) if buffer[5:6] == b">" else Reject(1)
    return Reject(1)


def ask(request: bytes = b"question") -> Exchange:
    return Exchange(request, find, reply_size=SIZE, label="toy")


@pytest.fixture
def wire(memory_line, virtually, hands):
    """Run `script(far_end, link)` on an open line at 9600 baud."""

    class Wire:
        def __call__(self, script: Any, baud: int = 9600) -> Any:
            async def main() -> Any:
                far_end = memory_line(baud)
                link = far_end.link()
                await link.open()
                try:
                    return await script(far_end, link)
                finally:
                    link.close()

            return virtually(main())

    return Wire()


CHARACTER = 10 / 9600
T35 = 3.5 * CHARACTER


def sent(step: Exchange, began: float) -> float:
    """When the last byte of a request is out."""
    return began + len(step.request) * CHARACTER


def test_the_time_out_counts_from_the_end_of_the_request_and_gives_the_reply_its_wire_time(wire, hands):
    async def script(far_end: Any, link: Any) -> None:
        with pytest.raises(NoReply):
            await link.exchange(ask(), 0.100)
        began = far_end.heard[0][0]
        assert hands.now == pytest.approx(sent(ask(), began) + 0.100 + SIZE * CHARACTER)

    wire(script)


def test_after_a_time_out_the_line_is_left_alone_and_what_comes_then_answers_nothing(wire):
    async def script(far_end: Any, link: Any) -> None:
        far_end.answer = lambda _: far_end.say(b"<late>", after=0.250)
        with pytest.raises(NoReply):
            await link.exchange(ask(b"one"), 0.050)
        far_end.answer = lambda _: far_end.say(b"<good>", after=0.010)
        assert (await link.exchange(ask(b"two"), 0.050)).frame == b"<good>"

    wire(script)


def test_the_gap_can_be_left_out_for_a_device_that_is_dead_anyway(wire):
    async def script(far_end: Any, link: Any) -> None:
        with pytest.raises(NoReply):
            await link.exchange(ask(), 0.050, quiet_gap=0.0)
        with pytest.raises(NoReply):
            await link.exchange(ask(), 0.050, quiet_gap=0.0)
        (first, _), (second, _) = far_end.heard
        assert second - first < 0.100

    wire(script)


def test_a_reply_of_full_length_that_does_not_fit_ends_the_wait_at_once(wire, hands):
    async def script(far_end: Any, link: Any) -> None:
        far_end.answer = lambda _: far_end.say(b"<12345", after=0.020)
        with pytest.raises(BadFrame, match="3c 31 32") as bad:
            await link.exchange(ask(), 1.0)
        assert bad.value.heard == b"<12345"
        assert hands.now == pytest.approx(far_end.heard[0][0] + 0.020 + max(BROKEN, FIFO * CHARACTER))
        far_end.answer = lambda _: far_end.say(b"<good>", after=0.020)
        before = hands.now
        await link.exchange(ask(), 1.0)
        assert far_end.heard[1][0] - before < T35  # no gap: the broken reply has come, nothing else will

    wire(script)


@pytest.mark.parametrize("noise", [b"\xff", b"\x00\xff\x00", b"[ser]"])
def test_less_than_a_reply_does_not_end_the_wait_for_it(wire, noise):
    async def script(far_end: Any, link: Any) -> None:
        def answer(_: bytes) -> None:
            far_end.say(noise, after=0.005)
            far_end.say(b"<good>", after=0.900)

        far_end.answer = answer
        reply = await link.exchange(ask(), 1.0)
        assert (reply.frame, reply.skipped) == (b"<good>", noise)

    wire(script)


def test_noise_without_a_reply_is_a_bad_frame_at_the_time_out_and_then_a_gap(wire, hands):
    async def script(far_end: Any, link: Any) -> None:
        far_end.answer = lambda _: far_end.say(b"xx", after=0.005)
        with pytest.raises(BadFrame):
            await link.exchange(ask(), 0.100)
        assert hands.now == pytest.approx(sent(ask(), far_end.heard[0][0]) + 0.100 + SIZE * CHARACTER)
        with pytest.raises(BadFrame):
            await link.exchange(ask(), 0.100)
        assert far_end.heard[1][0] - far_end.heard[0][0] >= 0.300

    wire(script)


def test_frames_of_others_do_not_end_the_wait(wire):
    async def script(far_end: Any, link: Any) -> None:
        def answer(_: bytes) -> None:
            far_end.say(b"[her]]", after=0.005)
            far_end.say(b"<good>", after=0.500)

        far_end.answer = answer
        reply = await link.exchange(ask(), 1.0)
        assert (reply.frame, reply.skipped) == (b"<good>", b"[her]]")
        far_end.answer = lambda _: far_end.say(b"[her]]", after=0.005)
        with pytest.raises(NoReply) as silence_of_ours:
            await link.exchange(ask(), 0.050)
        assert silence_of_ours.value.heard == b"[her]]"

    wire(script)


def test_a_reply_in_pieces_is_taken_by_its_length_and_not_by_its_silences(wire):
    async def script(far_end: Any, link: Any) -> None:
        def answer(_: bytes) -> None:
            for i, byte in enumerate(b"<good>"):
                far_end.say(bytes((byte,)), after=0.040 + i * 0.016)

        far_end.answer = answer
        assert (await link.exchange(ask(), 0.050)).frame == b"<good>"  # it began in time: it is waited for

    wire(script)


def test_a_frame_that_stops_half_way_is_given_up(wire, hands):
    async def script(far_end: Any, link: Any) -> None:
        far_end.answer = lambda _: far_end.say(b"<go", after=0.049)
        with pytest.raises(BadFrame):
            await link.exchange(ask(), 0.050)
        assert hands.now <= far_end.heard[0][0] + 0.049 + FRAGMENT + PATIENCE

    wire(script)


@pytest.mark.parametrize("baud", [1200, 9600, 19200, 115200])
def test_the_silence_before_each_request_is_kept_and_no_longer(wire, hands, baud):
    character = 10 / baud

    async def script(far_end: Any, link: Any) -> None:
        said: list[float] = []

        def answer(_: bytes) -> None:
            said.append(hands.now + 0.020)
            far_end.say(b"<good>", after=0.020)

        far_end.answer = answer
        for _ in range(5):
            await link.exchange(ask(), 1.0)
        gaps = [heard - before for before, (heard, _) in zip(said, far_end.heard[1:], strict=False)]
        assert len(gaps) == 4
        assert gaps == pytest.approx([silence(far_end.port)] * 4, abs=1e-6)
        assert silence(far_end.port) == pytest.approx(
            max(3.5 * character, 0.00175) if baud > 19200 else 3.5 * character
        )

    wire(script, baud)


def test_noise_between_two_requests_restarts_the_silence(wire, hands):
    async def script(far_end: Any, link: Any) -> None:
        far_end.answer = lambda _: far_end.say(b"<good>", after=0.010)
        await link.exchange(ask(), 1.0)
        spoken = hands.now + T35 / 2
        far_end.say(b"x", after=T35 / 2)
        await link.exchange(ask(), 1.0)
        assert far_end.heard[1][0] == pytest.approx(spoken + T35)

    wire(script)


def test_a_line_that_never_falls_silent_is_given_up_with_advice(wire, hands):
    async def script(far_end: Any, link: Any) -> None:
        far_end.answer = lambda _: far_end.say(b"<good>", after=0.010)
        await link.exchange(ask(), 1.0)
        for i in range(1000):
            far_end.say(b"x", after=0.001 * i)
        began = hands.now
        with pytest.raises(LinkError, match=r"babbles.*disconnect one device after the other"):
            await link.exchange(ask(), 1.0)
        assert hands.now - began < 2 * PATIENCE

    wire(script)


def test_a_babbling_line_is_not_read_beyond_4_kib(wire, hands):
    async def script(far_end: Any, link: Any) -> None:
        for i in range(20):
            far_end.say(b"x" * 1000, after=0.001 * i)
        with pytest.raises(LinkError, match="babbles"):
            await link.exchange(Exchange(b"question", lambda _: None, 2 * KEEP, "toy"), 1.0)
        with pytest.raises(LinkError, match="babbles"):
            await link.exchange(ask(), 1.0)

    wire(script)


def test_an_echo_is_cut_off_however_it_comes(wire):
    async def script(far_end: Any, link: Any) -> None:
        step = Exchange(b"<echo>", find, reply_size=SIZE, label="its echo looks like a reply")

        def answer(request: bytes) -> None:
            far_end.say(b"\xff" + request[:2], after=0.001)
            far_end.say(request[2:], after=0.004)
            far_end.say(b"<good>", after=0.030)

        far_end.answer = answer
        for _ in range(3):
            assert (await link.exchange(step, 1.0)).frame == b"<good>"

    wire(script)


def test_where_the_reply_may_mirror_the_request_only_a_line_that_echoes_has_it_cut_off(wire):
    async def script(far_end: Any, link: Any) -> None:
        mirrored = Exchange(b"<same>", find, reply_size=SIZE, label="toy", mirrored=True)
        far_end.answer = lambda request: far_end.say(request, after=0.010)
        assert (await link.exchange(mirrored, 1.0)).frame == b"<same>"
        far_end.answer = lambda request: far_end.say(request + b"<good>", after=0.010)
        await link.exchange(ask(), 1.0)  # from this the link learns that the line echoes
        far_end.answer = lambda request: far_end.say(request, after=0.010)
        with pytest.raises(NoReply):
            await link.exchange(mirrored, 0.1)
        far_end.answer = lambda request: far_end.say(request + request, after=0.010)
        assert (await link.exchange(mirrored, 1.0)).frame == b"<same>"

    wire(script)

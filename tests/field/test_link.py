"""The link on real ports: a pseudo-terminal whose other end the test holds, and a TCP server that does as told."""

from __future__ import annotations

import asyncio
import os
import time
import tty
from collections.abc import Callable

import pytest

from drivers.base import BadFrame, Exchange, Frame, NoReply, Reject
from gateway.clock import Clock
from gateway.errors import LinkError
from gateway.field.cost import silence
from gateway.field.link import KEEP
from gateway.field.serial_link import SerialLink
from gateway.field.tcp_link import TcpLink
from gateway.model import SerialPort, TcpPort


def find(buffer: bytes | bytearray) -> Frame | Reject | None:
    """A toy protocol: a reply is `<....>`, six bytes; bytes before `<` are noise."""
    start = buffer.find(b"<")
    if start:
        return Reject(len(buffer) if start < 0 else start)
    return Frame(0, 6) if len(buffer) >= 6 and buffer[5:6] == b">" else None


def ask(request: bytes = b"ask") -> Exchange:
    return Exchange(request, find, reply_size=6, label="toy")


class Wire:
    """The far end of a serial line."""

    def __init__(self, baud: int = 9600) -> None:
        self.master, slave = os.openpty()
        tty.setraw(self.master)
        self.port = SerialPort(os.ttyname(slave), baud)
        os.close(slave)
        self.heard = bytearray()
        self.times: list[float] = []
        self.answer: Callable[[bytes], None] = lambda request: None

    def listen(self) -> None:
        asyncio.get_running_loop().add_reader(self.master, self._hear)

    def _hear(self) -> None:
        data = os.read(self.master, 4096)
        self.heard += data
        self.times.append(time.monotonic())
        self.answer(data)

    def say(self, data: bytes) -> None:
        os.write(self.master, data)

    def unplug(self) -> None:
        asyncio.get_running_loop().remove_reader(self.master)
        os.close(self.master)


@pytest.fixture
async def wire():
    far_end = Wire()
    link = SerialLink(far_end.port, Clock("system"))
    await link.open()
    far_end.listen()
    yield far_end, link
    link.close()


async def test_a_reply_in_pieces_with_noise_in_front_is_found(wire):
    far_end, link = wire
    loop = asyncio.get_running_loop()

    def answer(_: bytes) -> None:
        far_end.say(b"\xff\x00<12")
        loop.call_later(0.005, far_end.say, b"34>")

    far_end.answer = answer
    assert (await link.exchange(ask(), 5.0)).frame == b"<1234>"
    assert bytes(far_end.heard) == b"ask"


async def test_an_echo_is_cut_off_before_the_reply_is_looked_for(wire):
    far_end, link = wire
    step = Exchange(b"<echo>", find, reply_size=6, label="its echo looks like a reply")
    far_end.answer = lambda request: far_end.say(request + b"<good>")
    reply = await link.exchange(step, 5.0)
    assert (reply.frame, reply.skipped, reply.echoed) == (b"<good>", b"", True)


async def test_silence_is_no_reply(wire):
    _, link = wire
    with pytest.raises(NoReply):
        await link.exchange(ask(), 0.05)


async def test_a_broken_frame_of_full_length_does_not_wait_for_the_time_out(wire):
    far_end, link = wire
    far_end.answer = lambda _: far_end.say(b"<12345")
    with pytest.raises(BadFrame, match="3c 31 32"):
        await link.exchange(ask(), 3600.0)


async def test_more_bytes_than_any_reply_has_close_the_line(wire):
    far_end, link = wire
    far_end.answer = lambda _: [far_end.say(b"<" * (KEEP // 4)) for _ in range(5)]
    with pytest.raises(LinkError, match="babbles"):
        await link.exchange(Exchange(b"ask", lambda _: None, 2 * KEEP, "toy"), 3600.0)


async def test_a_line_that_speaks_between_exchanges_is_closed_before_it_eats_the_processor(wire, until):
    far_end, link = wire
    for _ in range(4):
        far_end.say(b"x" * 2000)
        await asyncio.sleep(0)
    await until(lambda: not link._device, "closing")
    with pytest.raises(LinkError, match=r"babbles.*disconnect one device after the other"):
        await link.exchange(ask(), 5.0)


async def test_bytes_that_nobody_has_read_yet_do_not_answer_the_next_request(wire):
    far_end, link = wire
    far_end.answer = lambda _: far_end.say(b"<good>")
    await link.exchange(ask(), 5.0)
    await link.pause(0.05)  # the line has been silent for long: the next request need not wait
    far_end.say(b"<late>")
    deadline = time.monotonic() + 5
    while not link._device.in_waiting and time.monotonic() < deadline:
        pass  # the kernel hands it over, and the loop has no chance to look at it
    assert (await link.exchange(ask(), 5.0)).frame == b"<good>"


async def test_after_bad_bytes_the_next_exchange_starts_clean(wire):
    far_end, link = wire
    far_end.answer = lambda _: far_end.say(b"<12345")
    with pytest.raises(BadFrame):
        await link.exchange(ask(), 5.0)
    far_end.answer = lambda _: far_end.say(b"<good>")
    assert (await link.exchange(ask(), 5.0)).frame == b"<good>"


async def test_an_adapter_that_vanishes_is_a_link_error(wire):
    far_end, link = wire
    far_end.answer = lambda _: far_end.unplug()
    for _ in range(2):
        with pytest.raises(LinkError, match="unplugged"):
            await link.exchange(ask(), 5.0)


async def test_the_silence_between_frames_is_kept():
    far_end = Wire(baud=1200)
    link = SerialLink(far_end.port, Clock("system"))
    await link.open()
    far_end.listen()
    said: list[float] = []

    def answer(_: bytes) -> None:
        said.append(time.monotonic())
        far_end.say(b"<1234>")

    far_end.answer = answer
    for _ in range(3):
        await link.exchange(ask(), 5.0)
    link.close()
    gaps = [heard - before for before, heard in zip(said, far_end.times[1:], strict=False)]
    assert len(gaps) == 2
    assert min(gaps) >= silence(far_end.port)


async def test_a_broadcast_waits_for_nothing(wire):
    _, link = wire
    reply = await link.exchange(Exchange(b"all", None, 0, "toy"), 3600.0)
    assert reply.frame == b""


async def test_a_missing_port_says_what_to_do():
    with pytest.raises(LinkError, match=r"/dev/gone does not exist.*ls /dev/serial/by-path"):
        await SerialLink(SerialPort("/dev/gone"), Clock("system")).open()


async def test_a_port_is_never_open_twice(wire):
    far_end, _ = wire
    with pytest.raises(LinkError, match="in use by another program"):
        await SerialLink(far_end.port, Clock("system")).open()


@pytest.fixture
async def server():
    """A TCP endpoint: answers come from `replies`, None closes the connection."""
    replies: list[bytes | None] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while await reader.read(100):
            reply = replies.pop(0)
            if reply is None:
                break
            writer.write(reply)
        writer.close()

    listening = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = TcpPort("127.0.0.1", listening.sockets[0].getsockname()[1])
    yield port, replies
    listening.close()


async def test_tcp_exchanges_over_one_connection(server):
    port, replies = server
    replies += [b"<1234>", b"<567", b"<abcd>"]
    link = TcpLink(port, Clock("system"), numbered=True)
    await link.open()
    assert (await link.exchange(ask(), 5.0)).frame == b"<1234>"
    with pytest.raises(BadFrame):
        await link.exchange(ask(), 5.0)
    assert (await link.exchange(ask(), 5.0)).frame == b"<abcd>"
    link.close()


async def test_an_endpoint_that_hangs_up_is_a_link_error(server):
    port, replies = server
    replies.append(None)
    link = TcpLink(port, Clock("system"), numbered=True)
    await link.open()
    with pytest.raises(LinkError, match="has closed the connection"):
        await link.exchange(ask(), 5.0)
    with pytest.raises(LinkError, match="has closed the connection"):
        await link.exchange(ask(), 5.0)


async def test_a_refusing_host_and_an_unknown_name_say_what_to_do(free_port):
    clock = Clock("system")
    with pytest.raises(LinkError, match="nothing listens on port"):
        await TcpLink(TcpPort("127.0.0.1", free_port()), clock, numbered=True).open()
    with pytest.raises(LinkError, match="check the spelling"):
        await TcpLink(TcpPort("no-such-host.invalid", 502), clock, numbered=True).open()

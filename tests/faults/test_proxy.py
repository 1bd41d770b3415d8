"""The proxy does to a connection what it is told to, and nothing else."""

from __future__ import annotations

import asyncio
import contextlib

import packets
import pytest
from devices import now
from proxy import Proxy


class Server:
    """Keeps what it is sent; answers each whole PUBLISH of QoS 1 with a PUBACK."""

    def __init__(self) -> None:
        self.got = bytearray()
        self.resets = 0
        self.ended = 0

    async def serve(self, reader, writer):
        buffer = bytearray()
        try:
            while data := await reader.read(65536):
                self.got += data
                buffer += data
                for packet in packets.cut(buffer):
                    first, body = packets.parts(packet)
                    if first >> 4 == packets.PUBLISH:
                        writer.write(packets.packet(packets.PUBACK << 4, packets.published(first, body)[1]))
                    else:
                        writer.write(packet)
        except ConnectionError:
            self.resets += 1
        self.ended += 1
        writer.close()


@pytest.fixture
async def server():
    return Server()


@pytest.fixture
async def proxy(server):
    listening = await asyncio.start_server(server.serve, "127.0.0.1", 0)
    one = Proxy(listening.sockets[0].getsockname()[1])
    await one.start()
    yield one
    await one.stop()
    listening.close()
    await listening.wait_closed()


@pytest.fixture
async def connect(proxy):
    opened = []

    async def connection():
        reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
        opened.append(writer)
        return reader, writer

    yield connection
    for writer in opened:
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()


def publish(mid):
    return packets.publish("t", b"hello", mid)


async def pubacks(reader, count):
    """The packet ids of the next PUBACKs."""
    return [int.from_bytes((await packets.whole(reader))[1], "big") for _ in range(count)]


PING = packets.packet(packets.PINGREQ << 4, b"")


async def test_it_forwards_everything(proxy, connect, server):
    reader, writer = await connect()
    sent = b"".join(packets.publish("topic", bytes(size), mid + 1) for mid, size in enumerate((0, 1, 200, 70000)))
    writer.write(sent)
    assert await pubacks(reader, 4) == [1, 2, 3, 4]
    assert bytes(server.got) == sent
    assert proxy.carried == len(sent)


async def test_the_end_of_one_side_is_the_end_of_the_other(proxy, connect, server, until):
    _, writer = await connect()
    writer.write(publish(1))
    await until(lambda: server.got, "the message")
    writer.close()
    await until(lambda: server.ended == 1, "the end")
    await until(lambda: proxy.connections == 0, "the proxy's end")


async def test_delayed_bytes_keep_their_order(proxy, connect):
    delays = iter([0.2, 0.0, 0.1])
    proxy.delay = lambda: next(delays, 0.0)
    reader, writer = await connect()
    began = now()
    for mid in (1, 2, 3):
        writer.write(publish(mid))
        await asyncio.sleep(0)
    assert await pubacks(reader, 3) == [1, 2, 3]
    assert now() - began >= 200


async def test_a_cut_resets_both_sides(proxy, connect, server, until):
    reader, writer = await connect()
    writer.write(publish(1))
    await pubacks(reader, 1)
    await proxy.cut()
    with pytest.raises(ConnectionResetError):
        await reader.readexactly(1)
    await until(lambda: server.resets == 1, "the reset")


async def test_a_cut_after_some_bytes_comes_inside_a_packet(proxy, connect, server, until):
    reader, writer = await connect()
    proxy.cut_after = len(publish(1)) + 3
    writer.write(publish(1) + publish(2))
    with pytest.raises((ConnectionResetError, asyncio.IncompleteReadError)):
        await pubacks(reader, 2)
    await until(lambda: server.ended == 1, "the end")
    assert len(server.got) <= len(publish(1)) + 3
    assert proxy.cut_after is None


async def test_a_half_open_connection_swallows(proxy, connect, server, until):
    reader, writer = await connect()
    writer.write(PING)
    await packets.whole(reader)
    proxy.swallow_down = True
    writer.write(publish(1))
    await until(lambda: bytes(server.got).endswith(publish(1)), "what still goes up")
    proxy.swallow_up = True
    writer.write(publish(2))
    proxy.swallow_down = False
    writer.write(publish(3))
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(reader.read(1), 0.1)
    assert bytes(server.got).endswith(publish(1))


async def test_pubacks_are_kept_and_everything_else_goes_on(proxy, connect):
    proxy.keep_pubacks = True
    reader, writer = await connect()
    writer.write(publish(1) + publish(2) + PING)
    first, _ = await packets.whole(reader)
    assert first >> 4 == packets.PINGREQ  # this server's echo
    assert proxy.kept == 2


async def test_pubacks_come_twice_and_in_another_order(proxy, connect):
    proxy.repeat_pubacks = 2
    proxy.turn_pubacks = 6
    reader, writer = await connect()
    writer.write(publish(1) + publish(2) + publish(3))
    assert await pubacks(reader, 6) == [3, 3, 2, 2, 1, 1]


async def test_a_throttled_link_takes_its_time_and_holds_the_sender_back(proxy, connect, server):
    proxy.rate = 20_000
    reader, writer = await connect()
    began = now()
    writer.write(packets.publish("t", bytes(10_000), 1))
    assert await pubacks(reader, 1) == [1]
    assert now() - began >= 400
    assert len(server.got) > 10_000


async def test_refusing_and_listening_again(proxy, connect):
    await proxy.refuse()
    with pytest.raises(ConnectionRefusedError):
        await connect()
    await proxy.start()
    reader, writer = await connect()
    writer.write(publish(1))
    assert await pubacks(reader, 1) == [1]

"""Faults through a real pseudo-terminal and a real TCP connection."""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from pathlib import Path

import pytest

from gateway.simulator import Simulator
from gateway.simulator.wire import crc16

READ = bytes.fromhex("01 03 0000 0002 c40b")


@pytest.fixture
def meter(point):
    return (point("setpoint", "holding", 0, "u32", writable=True, kind="config"),)


async def test_the_line_gives_back_what_is_asked(serial_site, serving, until, meter, port_at):
    simulator = Simulator(serial_site(meter=(1, meter)), faults={"rs485": ["echo"]})
    async with serving(simulator) as path:
        port = port_at(path)
        port.write(READ)
        await until(lambda: port.arrived() == 8 + 9)
        assert port.data.startswith(READ + b"\x01\x03\x04")
        simulator.afflict("rs485", [])
        port.write(READ)
        await until(lambda: port.arrived() == 8 + 9 + 9)
        port.close()


async def test_a_babbling_line_keeps_the_pace_of_the_line(serial_site, serving, until, meter, port_at):
    async with serving(Simulator(serial_site(baud=9600, meter=(1, meter)), faults={"rs485": ["babble"]})) as path:
        port = port_at(path)
        begin = time.monotonic()
        port.write(READ)
        await until(lambda: port.arrived() > 480)
        assert time.monotonic() - begin > 480 / 960 - 0.1
        assert READ[:3] + b"\x04" not in port.data
        port.close()


async def test_babble_may_begin_while_it_runs_and_end(serial_site, serving, until, meter, port_at):
    simulator = Simulator(serial_site(meter=(1, meter)))
    async with serving(simulator) as path:
        port = port_at(path)
        simulator.afflict("rs485", ["babble"])
        await until(lambda: port.arrived() > 200)
        simulator.afflict("rs485", [])
        await asyncio.sleep(0.1)  # what was on its way
        port.write(READ)
        await until(lambda: port.arrived() and port.data[-9:-6] == b"\x01\x03\x04")
        port.close()


async def test_a_port_that_was_unplugged_comes_back_under_another_number(serial_site, serving, until, meter, port_at):
    simulator = Simulator(serial_site(meter=(1, meter)))
    async with serving(simulator) as path:
        before = Path(path).readlink()
        port = port_at(path)
        simulator.afflict("rs485", ["unplug seconds=1"])
        await until(port.gone, "the end of the port")
        assert not os.path.lexists(path)
        port.close()
        await until(lambda: os.path.lexists(path))
        assert Path(path).readlink() != before
        port = port_at(path)
        port.write(READ)
        await until(lambda: port.arrived() == 9)
        port.close()
    assert not os.path.lexists(path)


async def test_a_simulator_can_end_while_its_port_is_gone(serial_site, tcp_site, serving, meter):
    for site in (serial_site(meter=(1, meter)), tcp_site(meter=(1, meter))):
        simulator = Simulator(site, faults={site.buses[0].name: ["unplug seconds=60"]})
        async with serving(simulator) as address:
            await asyncio.sleep(0.05)
            assert not os.path.lexists(address)


async def test_a_reply_in_pieces(serial_site, serving, until, meter, port_at):
    faults = {"meter": ["fragmented piece=3 gap=0.1"]}
    async with serving(Simulator(serial_site(meter=(1, meter)), faults=faults)) as path:
        port, begin, sizes = port_at(path), time.monotonic(), []
        port.write(READ)
        await until(lambda: sizes.append(port.arrived()) or sizes[-1] == 9)
        assert set(sizes) <= {0, 3, 6, 9}
        assert time.monotonic() - begin > 0.2
        port.close()


async def test_a_late_reply_comes_between_those_of_others(serial_site, serving, until, meter, port_at):
    faults = {"one": ["late seconds=0.4"]}
    async with serving(Simulator(serial_site(one=(1, meter), two=(2, meter)), faults=faults)) as path:
        port = port_at(path)
        second = bytes.fromhex("02 03 0000 0002")
        port.write(READ + second + crc16(second))
        await until(lambda: port.arrived() == 18)
        assert (port.data[0], port.data[9]) == (2, 1)
        port.close()


async def connect(address: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    host, _, port = address.rpartition(":")
    return await asyncio.open_connection(host, int(port))


ASK = bytes.fromhex("0001 0000 0006 01 03 0000 0002")


async def test_a_door_closes_and_opens_again(tcp_site, serving, until, meter):
    simulator = Simulator(tcp_site(meter=(1, meter)))
    async with serving(simulator) as address:
        reader, writer = await connect(address)
        writer.write(ASK)
        await reader.readexactly(13)
        simulator.afflict("net", ["unplug seconds=1"])
        with contextlib.suppress(ConnectionResetError):
            assert await reader.read() == b""
        writer.close()
        with pytest.raises(ConnectionRefusedError):
            await connect(address)
        while True:
            try:
                reader, writer = await connect(address)
                break
            except ConnectionRefusedError:
                await asyncio.sleep(0.02)
        writer.write(ASK)
        assert (await reader.readexactly(13))[7] == 3
        writer.close()


async def test_fragments_and_babble_over_tcp(tcp_site, serving, meter):
    simulator = Simulator(tcp_site(meter=(1, meter)), faults={"meter": ["fragmented piece=5 gap=0.05"]})
    async with serving(simulator) as address:
        reader, writer = await connect(address)
        begin = time.monotonic()
        writer.write(ASK)
        await reader.readexactly(13)
        assert time.monotonic() - begin >= 0.1
        simulator.afflict("net", ["babble"])
        begin = time.monotonic()
        await reader.readexactly(480)
        assert time.monotonic() - begin > 0.3
        writer.close()


async def test_a_late_reply_to_a_client_that_has_left_is_dropped(tcp_site, serving, until, meter):
    simulator = Simulator(tcp_site(meter=(1, meter)), faults={"meter": ["slow seconds=0.2"]})
    async with serving(simulator) as address:
        _, writer = await connect(address)
        writer.write(ASK)
        await until(lambda: simulator.answered["meter"])
        writer.transport.abort()
        reader, writer = await connect(address)
        writer.write(ASK)
        assert len(await reader.readexactly(13)) == 13
        writer.close()

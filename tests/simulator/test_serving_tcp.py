"""Peers read a simulated TCP device: pymodbus, mbpoll and plain bytes."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import replace

import pytest
from pymodbus import FramerType
from pymodbus.client import AsyncModbusTcpClient

from drivers.base import sample
from gateway.errors import GatewayError
from gateway.model import TcpPort
from gateway.simulator import Simulator
from gateway.simulator.wire import crc16

FORMS = {"u16": "H", "s16": "h", "u32": "I", "s32": "i", "u64": "Q", "s64": "q", "f32": "f", "f64": "d"}
SWAPPED = ("BA", "BADC", "DCBA", "BADCFEHG", "HGFEDCBA")
LOW_FIRST = ("CDAB", "DCBA", "GHEFCDAB", "HGFEDCBA")


def place(address: str) -> tuple[str, int]:
    host, _, port = address.rpartition(":")
    return host, int(port)


@asynccontextmanager
async def connected(address: str) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    reader, writer = await asyncio.open_connection(*place(address))
    try:
        yield reader, writer
    finally:
        writer.close()
        with suppress(ConnectionResetError):
            await writer.wait_closed()


def read_back(where, registers: list[int], client) -> object:
    """A third opinion about the value in these registers: pymodbus', and struct's."""
    if where.order in SWAPPED:
        registers = [word >> 8 | (word & 0xFF) << 8 for word in registers]
    if where.type in FORMS:
        word_order = "little" if where.order in LOW_FIRST else "big"
        kinds = {kind.value: kind for kind in client.DATATYPE}
        return client.convert_from_registers(registers, kinds[FORMS[where.type], where.count], word_order)
    data = b"".join(word.to_bytes(2, "big") for word in registers)
    if where.type == "string":
        return data.rstrip(b"\0").decode("ascii")
    if where.type == "bcd":
        return int(data.hex())
    if where.type in ("u8hi", "u8lo"):
        return data[where.type == "u8lo"]
    first, many = where.bit if where.type == "bits" else (where.bit, 1)
    return registers[0] >> first & (1 << many) - 1


@pytest.mark.parametrize("framing", ["tcp", "rtu"])
async def test_a_client_reads_the_truth_of_every_type(tcp_site, serving, all_points, hands, framing):
    simulator = Simulator(tcp_site(framing, meter=(7, all_points)), clock=hands.clock())
    async with serving(simulator) as address:
        host, port = place(address)
        client = AsyncModbusTcpClient(host, port=port, framer=FramerType.RTU if framing == "rtu" else FramerType.SOCKET)
        assert await client.connect()
        functions = {
            "holding": client.read_holding_registers,
            "input": client.read_input_registers,
            "coil": client.read_coils,
            "discrete": client.read_discrete_inputs,
        }
        for point in all_points:
            at = point.where
            reply = await functions[at.table](at.at, count=at.count, device_id=7)
            assert not reply.isError(), point.name
            truth = simulator.held("meter", point.name, hands.clock().mono_ms())
            raw = reply.bits[0] if at.table in ("coil", "discrete") else read_back(at, reply.registers, client)
            if at.type == "f32":
                assert struct.pack(">f", raw) == struct.pack(">f", *truth)
            elif at.type == "string":
                assert (raw,) == truth
            else:
                assert (sample(point, raw).value,) == truth, point.name
        client.close()
    assert simulator.answered == {"meter": len(all_points)}


async def test_mbpoll_reads_the_truth(tcp_site, serving, mbpoll, point, hands):
    points = (
        point("v", "input", 10, "u16", unit="V", scale=0.1),
        point("energy", "holding", 20, "f32", unit="m", order="ABCD"),
        point("starts", "holding", 22, "s32", unit="m3", kind="counter", order="CDAB"),
        point("lamp", "coil", 0, "bit", kind="state"),
        point("door", "discrete", 5, "bit", kind="alarm"),
    )
    simulator = Simulator(tcp_site(meter=(3, points)), clock=hands.clock())
    async with serving(simulator) as address:
        host, port = place(address)
        asked = {
            "v": "-t 3 -r 10",
            "energy": "-t 4:float -B -r 20",
            "starts": "-t 4:int -r 22",
            "lamp": "-t 0 -r 0",
            "door": "-t 1 -r 5",
        }
        for name, how in asked.items():
            (text,) = await mbpoll("-a", 3, *how.split(), "-p", port, host)
            (truth,) = simulator.held("meter", name, hands.clock().mono_ms())
            assert float(text) == pytest.approx(float(truth) * 10 if name == "v" else float(truth), rel=1e-5), name


async def test_what_a_client_writes_is_held(tcp_site, serving, point, hands):
    points = (
        point("setpoint", "holding", 0, "f32", order="CDAB", writable=True),
        point("mode", "holding", 2, "bits", bit=(4, 2), writable=True, labels={0: "tắt", 1: "bật"}),
        point("relay", "coil", 0, "bit", writable=True),
        point("temperature", "holding", 3, "s16", unit="Cel", scale=0.1),
    )
    simulator = Simulator(tcp_site(valve=(1, points)), clock=hands.clock())
    async with serving(simulator) as address:
        client = AsyncModbusTcpClient(place(address)[0], port=place(address)[1])
        await client.connect()
        before = simulator.held("valve", "setpoint", hands.clock().mono_ms())
        hands.now += 5
        await client.write_registers(0, [0x3333, 0x4366], device_id=1)
        await client.write_register(2, 0x0010, device_id=1)
        await client.write_coil(0, value=True, device_id=1)
        assert (await client.write_register(3, 1, device_id=1)).exception_code == 2
        hands.now += 5
        simulator.refresh()
        now = hands.clock().mono_ms()
        assert simulator.held("valve", "setpoint", now) == (230.2,)
        assert simulator.held("valve", "mode", now) == ("bật",)
        assert simulator.held("valve", "relay", now) == (True,)
        assert simulator.held("valve", "setpoint", now - 8000) == before
        assert (await client.read_holding_registers(0, count=2, device_id=1)).registers == [0x3333, 0x4366]
        client.close()


async def test_many_requests_at_once_are_answered_in_order(tcp_site, serving, point):
    simulator = Simulator(tcp_site(meter=(1, (point("v", "holding", 0, unit="V"),))))
    async with serving(simulator) as address, connected(address) as (reader, writer):
        writer.write(b"".join(k.to_bytes(2, "big") + bytes.fromhex("0000 0006 01 03 0000 0001") for k in range(5000)))
        data = await reader.readexactly(5000 * 11)
        assert [int.from_bytes(data[i : i + 2], "big") for i in range(0, len(data), 11)] == list(range(5000))


async def test_a_unit_that_does_not_exist(tcp_site, serving, point):
    meter = (1, (point("v", "holding", 0),))
    async with serving(Simulator(tcp_site(meter=meter))) as address, connected(address) as (reader, writer):
        writer.write(bytes.fromhex("0001 0000 0006 09 03 0000 0001"))
        assert (await reader.readexactly(9)).hex(" ") == "00 01 00 00 00 03 09 83 0b"


async def test_a_converter_keeps_silent_about_a_unit_that_does_not_exist(tcp_site, serving, point):
    simulator = Simulator(tcp_site("rtu", meter=(1, (point("v", "holding", 0),))))
    async with serving(simulator) as address, connected(address) as (reader, writer):
        for text in ("09 03 0000 0001", "01 03 0000 0001"):
            frame = bytes.fromhex(text)
            writer.write(frame + crc16(frame))
        assert (await reader.readexactly(7))[:3] == b"\x01\x03\x02"


async def test_who_does_not_speak_modbus_is_left(tcp_site, serving, point):
    simulator = Simulator(tcp_site(meter=(1, (point("v", "holding", 0),))))
    async with serving(simulator) as address, connected(address) as (reader, writer):
        writer.write(b"GET / HTTP/1.1\r\n\r\n")
        assert await reader.read() == b""


@pytest.mark.parametrize("host", ["203.0.113.7", "127.0.0.1"])
async def test_an_address_that_cannot_be_served_is_explained(tcp_site, serving, point, host):
    site = tcp_site(meter=(1, (point("v", "holding", 0),)))
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        bus = replace(site.buses[0], port=TcpPort(host, taken.getsockname()[1]))
        with pytest.raises(GatewayError, match=r"Try 127\.0\.0\.1"):
            async with serving(Simulator(replace(site, buses=(bus,)))):
                pass


def test_what_cannot_be_played_is_explained(tcp_site, point):
    site = tcp_site("dlms", meter=(1, (point("v", "holding", 0),)))
    with pytest.raises(GatewayError, match="dlms"):
        Simulator(site)
    device = replace(site.buses[0].devices[0], driver="mbus")
    with pytest.raises(GatewayError, match="mbus"):
        Simulator(replace(site, buses=(replace(site.buses[0], devices=(device,)),)))

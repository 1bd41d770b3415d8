"""Peers read a simulated serial line: pymodbus, mbpoll and plain bytes on the pseudo-terminal."""

from __future__ import annotations

import asyncio
import fcntl
import select
import struct
import termios
import time
from pathlib import Path

import pytest
from pymodbus import FramerType
from pymodbus.client import AsyncModbusSerialClient

from gateway.errors import GatewayError
from gateway.simulator import Simulator
from gateway.simulator.wire import crc16

READ = bytes.fromhex("01 03 0000 0002 c40b")


@pytest.fixture
def meter(point):
    return (
        point("setpoint", "holding", 0, "u32", writable=True, kind="config"),
        point("flow", "holding", 2, "f32", unit="m3/h"),
        *(point(f"t{i}", "holding", 4 + i, "u16", unit="Cel", scale=0.1) for i in range(40)),
    )


@pytest.mark.parametrize("framing", ["rtu", "ascii"])
async def test_a_client_reads_the_truth(serial_site, serving, all_points, framing):
    # The registers stand still, the line runs on real time: what is read has one right answer.
    simulator = Simulator(serial_site(framing, meter=(7, all_points), other=(8, all_points)), tick=1e9)
    async with serving(simulator) as path:
        client = AsyncModbusSerialClient(path, framer=FramerType(framing), baudrate=115200)
        assert await client.connect()
        floats = [point for point in all_points if (point.where.type, point.where.order) == ("f32", "ABCD")]
        for device, unit in (("meter", 7), ("other", 8)):
            for point in floats:
                read = client.read_input_registers if point.where.table == "input" else client.read_holding_registers
                reply = await read(point.where.at, count=2, device_id=unit)
                (truth,) = simulator.held(device, point.name, int(time.monotonic() * 1000))
                number = client.convert_from_registers(reply.registers, client.DATATYPE.FLOAT32)
                assert struct.pack(">f", number) == struct.pack(">f", truth)
            reply = await client.read_holding_registers(100, count=80, device_id=unit)
            assert len(reply.registers) == 80
        client.close()
    assert simulator.answered == {"meter": 3, "other": 3}
    assert not Path(path).is_symlink()


async def test_mbpoll_reads_the_truth_and_the_port_can_be_opened_again(serial_site, serving, mbpoll, point):
    points = (point("v", "input", 10, unit="V", scale=0.1), point("flow", "holding", 20, "f32", unit="m3/h"))
    simulator = Simulator(serial_site(baud=19200, meter=(3, points)), tick=1e9)
    async with serving(simulator) as path:
        line = ("-a", 3, "-m", "rtu", "-b", 19200, "-P", "none")
        for _ in range(3):
            (text,) = await mbpoll(*line, "-t", "3", "-r", 10, path)
            (truth,) = simulator.held("meter", "v", int(time.monotonic() * 1000))
            assert float(text) == pytest.approx(truth * 10)
            (text,) = await mbpoll(*line, "-t", "4:float", "-B", "-r", 20, path)
            (truth,) = simulator.held("meter", "flow", int(time.monotonic() * 1000))
            assert float(text) == pytest.approx(truth, rel=1e-5)


async def test_no_reply_is_faster_than_the_line(serial_site, serving, until, meter, port_at):
    request = bytes.fromhex("01 03 0000 0028")
    request += crc16(request)
    async with serving(Simulator(serial_site(baud=9600, meter=(1, meter)))) as path:
        port = port_at(path)
        begin = time.monotonic()
        port.write(request)
        await until(lambda: port.arrived() > 0)
        assert time.monotonic() - begin >= (8 + 8) * 10 / 9600 + 0.003
        await until(lambda: port.arrived() == 85)
        assert time.monotonic() - begin >= (8 + 85) * 10 / 9600 + 0.003
        port.close()


async def test_a_slow_device_thinks_longer(serial_site, serving, until, meter, port_at):
    async with serving(Simulator(serial_site(meter=(1, meter)), turnaround={"meter": 0.15})) as path:
        port = port_at(path)
        begin = time.monotonic()
        port.write(READ)
        await until(lambda: port.arrived() == 9)
        assert time.monotonic() - begin >= 0.15
        port.close()


async def test_a_broadcast_is_obeyed_and_nobody_answers(serial_site, serving, until, meter, port_at):
    simulator = Simulator(serial_site(one=(1, meter), two=(2, meter)))
    async with serving(simulator) as path:
        port = port_at(path)
        for frame in ("00 10 0000 0002 04 0000002a", "09 03 0000 0001", "02 03 0000 0002"):
            request = bytes.fromhex(frame)
            port.write(request + crc16(request))
        await until(lambda: port.arrived() >= 9)
        assert port.data[:7].hex(" ") == "02 03 04 00 00 00 2a"
        assert len(port.data) == 9
        port.close()
    assert simulator.held("one", "setpoint", int(time.monotonic() * 1000), slack_ms=0) == (42,)


async def test_a_request_in_crumbs_after_noise(serial_site, serving, until, meter, port_at):
    async with serving(Simulator(serial_site(meter=(1, meter)))) as path:
        port = port_at(path)
        for crumb in (b"\xff\x00", *(bytes((byte,)) for byte in READ)):
            port.write(crumb)
            await asyncio.sleep(0)
        await until(lambda: port.arrived() == 9)
        port.close()


async def test_a_closed_port_forgets_and_does_not_keep_the_machine_busy(serial_site, serving, until, meter, port_at):
    simulator = Simulator(serial_site(meter=(1, meter)), turnaround={"meter": 0.05})
    async with serving(simulator) as path:
        port = port_at(path)
        port.write(READ)
        await until(lambda: simulator.answered["meter"] == 1)
        port.write(READ[:5])
        port.close()  # before the reply came
        watched = simulator._ports["rs485"]._edges.fileno()
        await until(lambda: not select.select([watched], [], [], 0)[0], "a quiet line")
        assert all(not select.select([watched], [], [], 0.001)[0] for _ in range(20))
        port = port_at(path)
        port.write(READ)
        await until(lambda: simulator.answered["meter"] == 2)
        await until(lambda: port.arrived() >= 9)
        assert len(port.data) == 9
        port.close()


async def test_a_lock_does_not_outlive_its_client(serial_site, serving, until, meter, port_at):

    simulator = Simulator(serial_site(meter=(1, meter)))
    async with serving(simulator) as path:
        port = port_at(path)
        fcntl.ioctl(port.fd, termios.TIOCEXCL)
        port.close()
        await until(lambda: not select.select([simulator._ports["rs485"]._edges.fileno()], [], [], 0)[0])
        port = port_at(path)
        TIOCGEXCL = 0x80045440  # ioctl_tty(2)  # noqa: N806 - the kernel's name
        assert int.from_bytes(fcntl.ioctl(port.fd, TIOCGEXCL, b"\0" * 4), "little") == 0
        port.close()


async def test_a_path_that_is_taken_is_refused(serial_site, serving, meter, tmp_path):
    site = serial_site(meter=(1, meter))
    path = Path(site.buses[0].port.port)
    path.write_text("mine", encoding="utf-8")
    with pytest.raises(GatewayError, match="exists already"):
        async with serving(Simulator(site)):
            pass
    assert path.read_text(encoding="utf-8") == "mine"
    path.unlink()
    path.symlink_to("/dev/null")
    with pytest.raises(GatewayError, match="exists already"):
        async with serving(Simulator(site)):
            pass
    path.unlink()
    path.symlink_to(tmp_path / "gone")
    async with serving(Simulator(site)):
        assert path.exists()
    assert not path.is_symlink()


async def test_a_directory_that_is_missing_is_explained(serial_site, serving, meter, tmp_path):
    site = serial_site(meter=(1, meter))
    Path(site.buses[0].port.port).parent.rmdir()
    with pytest.raises(GatewayError, match="for example /tmp"):
        async with serving(Simulator(site)):
            pass
    tmp_path.mkdir()

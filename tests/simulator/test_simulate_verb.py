"""`gateway simulate` as a technician calls it."""

from __future__ import annotations

import asyncio
import json
import shlex
import signal
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import pytest

from gateway.simulator.faults import KINDS

SITE = """
[gateway]
id = "tn-p1-cab-014"
site = "tây-ninh/phường-1"

[uplink]
brokers = ["mqtt://127.0.0.1:1883"]

[[bus]]
name = "rs485-1"
serial = { port = "%s", baud = 19200, format = "8N1" }

  [[bus.device]]
  name = "bom-1"
  driver = "modbus"
  address = 5
  every = "1s"

    [[bus.device.point]]
    name = "flow"
    table = "holding"
    at = 20
    type = "f32"
    unit = "m3/h"

[[bus]]
name = "plc"
tcp = { host = "127.0.0.1", port = %d }

  [[bus.device]]
  name = "bom-2"
  driver = "modbus"
  address = 1
  every = "1s"

    [[bus.device.point]]
    name = "starts"
    table = "input"
    at = 2
    type = "u32"
    order = "CDAB"
    kind = "counter"
"""


@pytest.fixture
def gateway() -> Callable[..., AbstractAsyncContextManager[asyncio.subprocess.Process]]:
    """Run the command; kill it when the test ends."""

    @asynccontextmanager
    async def run(*arguments: object) -> AsyncIterator[asyncio.subprocess.Process]:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "gateway", "simulate"),
            *map(str, arguments),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        try:
            yield process
        finally:
            if process.returncode is None:
                process.kill()
            await process.communicate()

    return run


async def line(process: asyncio.subprocess.Process) -> bytes:
    """The next line that it prints; what it says on stderr when it ends instead."""
    text = await asyncio.wait_for(process.stdout.readline(), 30)
    assert text, (await process.stderr.read()).decode()
    return text


async def test_a_site_file_is_served_and_every_line_can_be_copied(gateway, mbpoll, tmp_path, free_port):
    port, site = tmp_path / "ttyUSB0", tmp_path / "gateway.toml"
    site.write_text(SITE % (port, free_port()), encoding="utf-8")
    async with gateway("--config", site, "--json") as process:
        buses = [json.loads(await line(process)) for _ in range(2)]
        assert [bus["bus"] for bus in buses] == ["rs485-1", "plc"]
        assert buses[0]["address"] == str(port)
        for bus in buses:
            assert bus["read"].startswith("mbpoll -1 -0 ")
            (text,) = await mbpoll(*shlex.split(bus["read"])[3:])
            assert float(text) > 0
        process.send_signal(signal.SIGINT)
        assert await asyncio.wait_for(process.wait(), 30) == 0
    assert not port.is_symlink()


async def test_lines_for_people(gateway, tmp_path, free_port):
    site, tcp = tmp_path / "gateway.toml", free_port()
    site.write_text(SITE % (tmp_path / "ttyUSB0", tcp), encoding="utf-8")
    async with gateway("--config", site) as process:
        lines = [(await line(process)).decode() for _ in range(3)]
        assert lines[0].startswith(f"rs485-1: 1 device on {tmp_path}/ttyUSB0 19200 8N1 (rtu)   read: mbpoll ")
        assert lines[1].startswith(f"plc: 1 device on 127.0.0.1:{tcp} (tcp)   read: mbpoll ")
        assert "Ctrl-C" in lines[2]
        process.send_signal(signal.SIGTERM)
        assert await asyncio.wait_for(process.wait(), 30) == 0


async def test_one_device_of_a_profile(gateway, mbpoll, tmp_path, free_port):
    for where in (("--tcp", f"127.0.0.1:{free_port()}"), ("--serial", tmp_path / "meter", "--baud", 2400)):
        async with gateway("--profile", "eastron-sdm630", "--address", 9, *where, "--json") as process:
            bus = json.loads(await line(process))
            assert bus["units"] == [9]
            assert await mbpoll(*shlex.split(bus["read"])[3:])
            process.send_signal(signal.SIGINT)
            assert await asyncio.wait_for(process.wait(), 30) == 0


@pytest.mark.parametrize(
    ("arguments", "words", "code"),
    [
        (("--tcp", "nonsense", "--profile", "eastron-sdm630"), "HOST:PORT", 2),
        (("--profile", "eastron-sdm360"), "eastron-sdm630", 2),
        (("--profile", "eastron-sdm630", "--address", "0"), "1..247", 2),
        (("--profile", "eastron-sdm630", "--serial", "x", "--baud", "0"), "--baud", 2),
        (("--profile", "eastron-sdm630", "--serial", "/nowhere/x"), "/tmp/", 1),
        (("--profile", "eastron-sdm630", "--fault", "silence"), "NAME: FAULT", 2),
        (("--profile", "eastron-sdm630", "--fault", "simulated: silense"), "did you mean silence?", 2),
        (("--profile", "eastron-sdm630", "--fault", "simulatd: silence"), "did you mean simulated?", 2),
        (("--profile", "eastron-sdm630", "--fault", "simulated: crc"), "TCP carries bytes", 2),
        (("--config", "/nowhere/gateway.toml"), "/nowhere/gateway.toml", 2),
    ],
)
async def test_wrong_usage_is_explained_without_a_traceback(gateway, arguments, words, code):
    async with gateway(*arguments) as process:
        output, error = await asyncio.wait_for(process.communicate(), 30)
        assert words in error.decode()
        assert "Traceback" not in error.decode()
        assert process.returncode == code
        assert not output


async def test_faults_are_given_on_the_command_line(gateway, until, tmp_path, port_at):
    path = str(tmp_path / "meter")
    faults = ("--fault", "simulated: echo", "--fault", "simulated: exception code=6", "--fault", "simulated: noise")
    async with gateway("--profile", "eastron-sdm630", "--serial", path, "--json", *faults) as process:
        await line(process)
        port = port_at(path)
        port.write(bytes.fromhex("01 04 0000 0002 71cb"))
        await until(lambda: port.arrived() == 8 + 3 + 5)
        assert port.data[11:14].hex() == "018406"
        port.close()
        process.send_signal(signal.SIGINT)
        assert await asyncio.wait_for(process.wait(), 30) == 0


async def test_all_faults_are_listed_one_line_each(gateway):
    async with gateway("--faults") as process:
        output, error = await asyncio.wait_for(process.communicate(), 30)
        lines = output.decode().splitlines()
        assert [text.split()[0] for text in lines] == list(KINDS)
        assert "crc rate=1 bits=1 " in output.decode()
        assert (error, process.returncode) == (b"", 0)

"""The plain loop on serial lines: pymodbus' async client as it ships, and aiomqtt, one JSON message per poll.

    python plain_line.py BROKER_PORT BAUD PERIOD FIRST LAST PATH...

PERIOD in seconds, 0: as fast as it goes. Units FIRST..LAST on each line, one task per line. It keeps no silence
between frames and asks a unit that says nothing like any other, because pymodbus does neither for it.
"""

from __future__ import annotations

import asyncio
import sys
import time

import aiomqtt
from plain_loop import publish
from pymodbus.client import AsyncModbusSerialClient
from pymodbus.exceptions import ConnectionException, ModbusIOException


async def poll_line(
    mqtt: aiomqtt.Client, number: int, client: AsyncModbusSerialClient, units: range, period: float
) -> None:
    await client.connect()
    due = time.monotonic()
    while True:
        for unit in units:
            try:
                reply = await client.read_holding_registers(0, count=20, device_id=unit)
            except ModbusIOException:
                continue
            except ConnectionException:
                await asyncio.sleep(1)
                continue
            await publish(mqtt, f"line-{number}-{unit:02}", reply.registers)
        due += period
        if (wait := due - time.monotonic()) > 0:
            await asyncio.sleep(wait)


async def main() -> None:
    broker, baud, period, first, last = int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3]), *map(int, sys.argv[4:6])
    async with (
        aiomqtt.Client("127.0.0.1", broker, protocol=aiomqtt.ProtocolVersion.V5) as mqtt,
        asyncio.TaskGroup() as tasks,
    ):
        for number, path in enumerate(sys.argv[6:], 1):
            client = AsyncModbusSerialClient(path, baudrate=baud, timeout=1)
            tasks.create_task(poll_line(mqtt, number, client, range(first, last + 1), period))


if __name__ == "__main__":
    asyncio.run(main())

"""The plain loop: what one would write by hand. pymodbus' async client and aiomqtt, one JSON message per poll.

    python plain_loop.py BROKER_PORT PERIOD PORT...

PERIOD in seconds, 0: as fast as it goes. No store, no quality, no reconnect: the floor that the agent is held against.
Device U of 20 sits on endpoint (U - 1) * endpoints // 20, one task per endpoint.
"""

from __future__ import annotations

import asyncio
import json
import struct
import sys
import time
from collections.abc import Sequence

import aiomqtt
from pymodbus.client import AsyncModbusTcpClient

NAMES = ("ms", "n", *(f"f{k}" for k in range(4)), *(f"s{j}" for j in range(8)))
DEVICES = 20


async def publish(mqtt: aiomqtt.Client, device: str, registers: Sequence[int]) -> None:
    ts = int(time.time() * 1000)
    raw = struct.unpack(">II4f8h", struct.pack(">20H", *registers))
    values = dict(zip(NAMES, (round(v, 3) if isinstance(v, float) else v for v in raw), strict=True))
    await mqtt.publish(f"b/{device}/data", json.dumps({"ts": ts, **values}), qos=1)


async def poll_endpoint(mqtt: aiomqtt.Client, port: int, units: list[int], period: float) -> None:
    client = AsyncModbusTcpClient("127.0.0.1", port=port, timeout=1)
    await client.connect()
    due = time.monotonic()
    while True:
        for unit in units:
            reply = await client.read_holding_registers(0, count=20, device_id=unit)
            await publish(mqtt, f"dev-{unit:02}", reply.registers)
        due += period
        if (wait := due - time.monotonic()) > 0:
            await asyncio.sleep(wait)


async def main() -> None:
    broker, period, ports = int(sys.argv[1]), float(sys.argv[2]), [int(p) for p in sys.argv[3:]]
    units: list[list[int]] = [[] for _ in ports]
    for u in range(1, DEVICES + 1):
        units[(u - 1) * len(ports) // DEVICES].append(u)
    async with (
        aiomqtt.Client("127.0.0.1", broker, protocol=aiomqtt.ProtocolVersion.V5) as mqtt,
        asyncio.TaskGroup() as tasks,
    ):
        for port, mine in zip(ports, units, strict=True):
            tasks.create_task(poll_endpoint(mqtt, port, mine, period))


if __name__ == "__main__":
    asyncio.run(main())

"""A birth or a health that is larger than the broker's largest packet: it would end every connection."""

from __future__ import annotations

import struct
from typing import Any

from gateway.model import Device

LARGEST = 700


async def test_it_is_not_sent_an_event_says_so_and_the_readings_flow(fake_broker: Any, rig: Any, until: Any) -> None:
    fake_broker.connack_properties = b"\x27" + struct.pack("!I", LARGEST)
    points = [{"name": f"point-{n}", "unit": "V"} for n in range(100)]
    large = Device("meter-1", "modbus", 1, (), birth={"points": points}, cfg="a1b2c3d4")
    gateway = rig(fake_broker.url, devices=(large,))
    await gateway.start()
    await gateway.read(230.2)
    await until(lambda: gateway.store.stats()["pending"] == 0, "the reading")
    await until(lambda: len(fake_broker.kinds("event")) == 2, "two events")
    assert fake_broker.kinds("birth") == fake_broker.kinds("health") == []
    events = [message.body() for message in fake_broker.kinds("event")]
    assert {event["id"] for event in events} == {"too-large", "too-large/meter-1"}
    assert all(event["advice"] for event in events)
    fake_broker.cut()
    await until(lambda: gateway.publisher.counters.connections == 2 and gateway.publisher.online, "the next connection")
    await gateway.read(230.3)
    await until(lambda: gateway.store.stats()["pending"] == 0, "the next reading")
    assert len(fake_broker.kinds("event")) == 2
    assert all(len(message.payload) < LARGEST for message in fake_broker.published)

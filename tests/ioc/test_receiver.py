"""The IOC's end against a real gateway's uplink, and against messages that nobody should send."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from typing import Any, NamedTuple

import msgpack
import pytest

from gateway.ioc.decode import Catalogue
from gateway.ioc.receiver import Arrival, Receiver
from gateway.model import Uplink
from gateway.uplink.mqtt import Session


class Came(NamedTuple):
    topic: str
    payload: bytes


class Wire:
    """A session whose messages are written down beforehand; what is published is kept."""

    def __init__(self, *messages: Came) -> None:
        self.came = messages
        self.published: list[tuple[str, dict[str, Any]]] = []
        self.subscribed: list[str] = []

    async def subscribe(self, *filters: str) -> list[str]:
        self.subscribed += filters
        return []

    async def messages(self) -> AsyncIterator[Came]:
        for message in self.came:
            yield message

    async def publish(self, topic: str, payload: bytes) -> int:
        self.published.append((topic, json.loads(payload)))
        return 0


def event(seq: int, gw: str = "gw-1", **more: Any) -> Came:
    body = {"v": 1, "gw": gw, "epoch": "1-x", "stream": "e", "seq": seq, "ts": 0, "clk": "synced"} | more
    return Came("city/v1/gw-1/up/event", msgpack.packb(body))


async def all_of(receiver: Receiver) -> list[Arrival]:
    return [arrival async for arrival in receiver.arrivals()]


async def test_acknowledges_what_was_handed_over() -> None:
    wire = Wire(event(1), event(2), event(2), event(9))
    receiver = Receiver(wire, ack=True)
    await receiver.subscribe()
    arrivals = await all_of(receiver)
    assert wire.subscribed == ["city/v1/+/up/#"]
    assert [bool(arrival.verdict) for arrival in arrivals] == [True, True, False, True]
    assert wire.published == [("city/v1/gw-1/dn/ack", {"epoch": "1-x", "stream": "e", "ranges": [[1, 2], [9, 9]]})]


async def test_acknowledges_nothing_unless_told() -> None:
    wire = Wire(event(1))
    await all_of(Receiver(wire))
    assert wire.published == []


async def test_what_the_consumer_could_not_store_is_not_acknowledged() -> None:
    wire = Wire(event(1), event(2))
    receiver = Receiver(wire, ack=True)

    async def consume() -> None:
        async with contextlib.aclosing(receiver.arrivals()) as arrivals:
            async for arrival in arrivals:
                if arrival.message.seq == 2:
                    raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        await consume()
    assert [body["ranges"] for _, body in wire.published] == [[[1, 1]]]


async def test_many_gaps_make_several_messages() -> None:
    wire = Wire(*(event(2 * i + 1) for i in range(1500)))
    await all_of(Receiver(wire, ack=True))
    assert [len(body["ranges"]) for _, body in wire.published] == [1000, 500]


@pytest.mark.parametrize(
    "bad",
    [
        Came("city/v1/gw-1/up/telemetry", b"\xc1"),
        Came("city/v1/gw-1/up/health", b"[]"),
        Came("city/v1/gw-1/up/status", b'{"gw": "gw-2"}'),
        Came("city/v1/gw-1/up/birth/m/c", b'{"gw": "gw-1"}'),
        event(1, gw="gw-2"),
        event(0),
    ],
)
async def test_malformed_messages_are_counted(bad: Came) -> None:
    receiver = Receiver(Wire(bad, event(1)))
    arrivals = await all_of(receiver)
    assert receiver.malformed == 1
    assert len(arrivals) == 1


async def test_messages_of_others_are_ignored() -> None:
    others = [
        Came("else/v1/gw-1/up/health", b"{}"),
        Came("city/v1/gw-1/dn/ack", b"{}"),
        Came("city/v1/gw-1/up/birth/m/c", b""),
    ]
    receiver = Receiver(Wire(*others))
    assert await all_of(receiver) == []
    assert receiver.malformed == 0


async def test_dropped_ranges_are_booked() -> None:
    dropped = [{"epoch": "1-x", "stream": "t", "ranges": [[1, 5], [9, 7], "x"]}, 7, {"epoch": 1}]
    receiver = Receiver(Wire(event(1, data={"dropped": dropped}), event(2, data={"dropped": 3}), event(3, data=None)))
    assert len(await all_of(receiver)) == 3
    assert list(receiver.ledger.accounts["gw-1", "1-x", "t"].dropped) == [(1, 5)]


async def test_keeps_the_latest_of_what_gateways_say() -> None:
    def said(kind: str, **body: Any) -> Came:
        return Came(f"city/v1/gw-1/up/{kind}", json.dumps({"v": 1, "gw": "gw-1"} | body).encode())

    entry = {"epoch": "1-x", "ended": "unclean", "pending": [], "highest_on_disk": 4}
    wire = Wire(said("status", online=True), said("health", n=1), said("health", n=2), said("epochs", epochs=[entry]))
    receiver = Receiver(wire)
    kinds = [arrival.kind for arrival in await all_of(receiver)]
    assert kinds == ["status", "health", "health", "epochs"]
    assert receiver.status["gw-1"]["online"] is True
    assert receiver.health["gw-1"]["n"] == 2
    assert receiver.ledger.accounts["gw-1", "1-x", "t"].unknown_above == 4


def test_the_catalogue_knows_units_and_forgets_the_oldest() -> None:
    catalogue = Catalogue(limit=2)
    for i in range(3):
        points = [{"name": "energy", "unit": "kW.h"}, {"name": "bad", "unit": 7}, "nonsense"]
        catalogue.learn(json.dumps({"gw": "g", "device": f"m{i}", "cfg": "c", "points": points}).encode())
    assert len(catalogue) == 2
    assert catalogue.birth("g", "m0", "c") is None
    assert catalogue.birth("g", "m2", "c")["device"] == "m2"
    assert catalogue.unit("g", "m2", "c", "energy") == "kW.h"
    assert catalogue.unit("g", "m2", "c", "energy.total") == "kW.h"
    assert catalogue.unit("g", "m2", "c", "energy.gen") is None
    assert catalogue.unit("g", "m2", "c", "bad") is None
    assert catalogue.unit("g", "m0", "c", "energy") is None


async def test_end_to_end_every_reading_once_and_every_batch_freed(broker: str, gateway: Any, until: Any) -> None:
    agent = gateway(confirm="ioc")
    session = await Session.open(broker, Uplink((broker,)), "ioc")
    receiver = Receiver(session, ack=True)
    await receiver.subscribe()
    values: list[Any] = []

    async def consume() -> None:
        async for arrival in receiver.arrivals():
            if arrival.message and arrival.verdict:
                values.extend(reading.value for reading in arrival.message.readings if reading.point == "voltage_l1")

    task = asyncio.create_task(consume())
    await agent.start()
    for i in range(40):
        await agent.read(float(i))
    await until(lambda: agent.store.stats()["pending"] == 0, "every batch to be freed")
    assert sorted(values) == [float(i) for i in range(40)]
    assert receiver.ledger.missing() == {}
    assert receiver.catalogue.unit("gw-1", "meter-1", "a1b2c3d4", "voltage_l1") == "V"
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    await session.close()

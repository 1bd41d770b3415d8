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
from gateway.ioc.ledger import Verdict
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


class Line(Wire):
    """A session that stays open: a test says what comes next."""

    def __init__(self) -> None:
        super().__init__()
        self.coming: asyncio.Queue[Came] = asyncio.Queue()
        self.code = 0

    async def messages(self) -> AsyncIterator[Came]:
        while True:
            yield await self.coming.get()

    async def publish(self, topic: str, payload: bytes) -> int:
        await super().publish(topic, payload)
        return self.code


class Ioc:
    """A receiver on a line, with a clock that is turned by hand."""

    def __init__(self, **options: Any) -> None:
        self.line, self.now, self.arrivals = Line(), 1000.0, list[Arrival]()
        self.receiver = Receiver(self.line, now=lambda: self.now, **options)
        self.stream = self.receiver.arrivals()

    async def hear(self, *messages: Came) -> None:
        """Let these arrive, each to the end of its handling."""
        for message in messages:
            self.line.coming.put_nowait(message)
            self.arrivals.append(await anext(self.stream))

    async def wait(self, seconds: float) -> list[tuple[str, dict[str, Any]]]:
        """Let time pass, looking every five seconds; returns what was said to gateways."""
        for _ in range(int(seconds // 5)):
            self.now += 5
            await self.receiver.look()
        said, self.line.published = self.line.published, []
        return said


@pytest.fixture
async def ioc() -> AsyncIterator[Any]:
    made = []

    def make(**options: Any) -> Ioc:
        made.append(Ioc(**options))
        return made[-1]

    yield make
    for one in made:
        await one.stream.aclose()


def said(kind: str, gw: str = "gw-1", **body: Any) -> Came:
    return Came(f"city/v1/{gw}/up/{kind}", json.dumps({"v": 1, "gw": gw} | body).encode())


def batch(seq: int, *, clk: str = "synced", boot: str = "b-1", epoch: str = "1-x", **more: Any) -> Came:
    """One reading, 7 ms after t0; t0 is wrong by 50 years."""
    blocks = [["m", "c0ffee00", ["p"], [7], [[0, [230]]], []]]
    body = {"v": 1, "gw": "gw-1", "epoch": epoch, "seq": seq, "boot": boot, "t0": 100, "m0": 5000, "clk": clk}
    return Came("city/v1/gw-1/up/telemetry", json.dumps(body | {"d": blocks} | more).encode())


BIRTH = said("birth/m/c0ffee00", device="m", cfg="c0ffee00", points=[{"name": "p", "unit": "V"}])
ANCHOR = 1_700_000_000_000


def event(seq: int, gw: str = "gw-1", **more: Any) -> Came:
    body = {"v": 1, "gw": gw, "epoch": "1-x", "stream": "e", "seq": seq, "ts": 0, "clk": "synced"} | more
    return Came("city/v1/gw-1/up/event", msgpack.packb(body))


async def all_of(receiver: Receiver) -> list[Arrival]:
    return [arrival async for arrival in receiver.arrivals()]


async def test_who_cannot_speak_any_more_does_not_listen_on() -> None:
    class Broken(Line):
        async def publish(self, topic: str, payload: bytes) -> int:
            raise ZeroDivisionError

    line = Broken()
    listening = asyncio.create_task(all_of(Receiver(line, ack=True)))
    async with asyncio.timeout(20):
        for seq in range(1, 10**6):
            line.coming.put_nowait(event(seq))
            if (await asyncio.wait([listening], timeout=0.05))[0]:
                break
    with pytest.raises(ZeroDivisionError):
        await listening


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
    entry = {"epoch": "1-x", "ended": "unclean", "pending": [], "highest_on_disk": 4}
    wire = Wire(said("status", online=True), said("health", n=1), said("health", n=2), said("epochs", epochs=[entry]))
    receiver = Receiver(wire)
    kinds = [arrival.kind for arrival in await all_of(receiver)]
    assert kinds == ["status", "health", "health", "epochs"]
    assert receiver.status["gw-1"]["online"] is True
    assert receiver.health["gw-1"]["n"] == 2
    assert receiver.ledger.accounts["gw-1", "1-x", "t"].unknown_above == 4


async def test_a_late_will_is_not_believed() -> None:
    def status(online: bool, connection: int) -> Came:
        return said("status", online=online, conn=["1-x", connection])

    receiver = Receiver(Wire(status(True, 1), status(True, 2), status(False, 1)))
    assert len(await all_of(receiver)) == 2
    assert receiver.status["gw-1"]["online"] is True


async def test_asks_for_a_gap_and_hears_that_it_is_lost(ioc: Any) -> None:
    centre = ioc(ask=True)
    await centre.hear(BIRTH, said("status", online=True, conn=["1-x", 1]), batch(1), batch(4), batch(9))
    assert await centre.wait(30) == []
    asked = {"epoch": "1-x", "stream": "t", "ranges": [[2, 3], [5, 8]]}
    assert await centre.wait(30) == [("city/v1/gw-1/dn/resend", asked)]
    await centre.hear(batch(2, hist=True), batch(3, hist=True))
    missing = [{"epoch": "1-x", "stream": "t", "ranges": [[5, 7]]}]
    await centre.hear(event(1, code="not-stored", data={"missing": missing}))
    tally = centre.receiver.gaps.tallies()[-1]
    assert (tally.stream, tally.lost, tally.on_its_way, tally.complete) == ("t", ((5, 7),), ((8, 8),), False)
    said_later = await centre.wait(100)
    assert said_later == [("city/v1/gw-1/dn/resend", asked | {"ranges": [[8, 8]]})]
    await centre.hear(batch(5, hist=True))
    assert centre.receiver.gaps.tallies()[-1].lost == ((6, 7),)


def test_asks_by_itself_as_time_goes_by(virtually: Any) -> None:
    async def one_hour() -> list[tuple[str, dict[str, Any]]]:
        line = Line()
        receiver = Receiver(line, ask=True)
        async with contextlib.aclosing(receiver.arrivals()) as arrivals:
            for message in (BIRTH, batch(1), batch(3), said("epochs", epochs="?")):
                line.coming.put_nowait(message)
                await anext(arrivals)
            await asyncio.sleep(3600)
        return line.published

    asked = ("city/v1/gw-1/dn/resend", {"epoch": "1-x", "stream": "t", "ranges": [[2, 2]]})
    assert virtually(one_hour()) == [asked] * 4


async def test_only_the_answer_to_a_question_tells_what_is_lost(ioc: Any) -> None:
    centre = ioc()
    missing = [{"epoch": "1-x", "stream": "t", "ranges": [[1, 1]]}]
    await centre.hear(batch(2), event(1, code="else", data={"missing": missing}))
    assert centre.receiver.ledger.missing() == {("gw-1", "1-x", "t"): ((1, 1),)}


async def test_asks_nothing_unless_told(ioc: Any) -> None:
    centre = ioc()
    await centre.hear(said("status", online=True, conn=["1-x", 1]), batch(1), batch(4))
    assert await centre.wait(600) == []
    assert centre.receiver.gaps.tallies()[0].unexplained == ((2, 3),)


async def test_counts_what_the_broker_does_not_take(ioc: Any) -> None:
    centre = ioc(ask=True)
    centre.line.code = 0x87
    await centre.hear(BIRTH, batch(1), batch(4))
    await centre.wait(100)
    assert centre.receiver.refused == 2


async def test_many_gaps_make_several_questions(ioc: Any) -> None:
    centre = ioc(ask=True)
    await centre.hear(*(event(2 * n + 1) for n in range(1200)))
    questions = await centre.wait(60)
    assert [len(body["ranges"]) for _, body in questions] == [1000, 199]


async def test_asks_for_a_birth_that_a_batch_needs_once_a_minute(ioc: Any) -> None:
    centre = ioc(ask=True)
    await centre.hear(batch(1), batch(2))
    question = ("city/v1/gw-1/dn/rebirth", {"device": "m", "cfg": "c0ffee00"})
    assert await centre.wait(50) == [question]
    await centre.hear(batch(3))
    assert await centre.wait(5) == []
    assert await centre.wait(60) == []
    await centre.hear(batch(4))
    assert await centre.wait(5) == [question]
    await centre.hear(BIRTH, batch(5))
    assert await centre.wait(120) == []


async def test_an_anchor_corrects_what_comes_later_and_names_what_came_before(ioc: Any) -> None:
    centre = ioc(ack=True)
    await centre.hear(batch(1, clk="unsynced"), batch(2), batch(3, clk="unsynced"), batch(1, epoch="2-y", boot="b-2"))
    assert centre.arrivals[0].message.readings[0].ts == 107
    await centre.hear(said("clock", boot="b-1", anchor=ANCHOR), batch(4, clk="unsynced"))
    clock, late = centre.arrivals[-2:]
    (correction,) = clock.corrections
    assert (correction.gw, correction.boot, correction.anchor) == ("gw-1", "b-1", ANCHOR)
    assert [(b.epoch, b.stream, b.ranges) for b in correction.batches] == [("1-x", "t", ((1, 1), (3, 3)))]
    assert (late.message.clk, late.message.t0, late.verdict) == ("corrected", ANCHOR + 5000, Verdict.NEW)
    assert late.message.readings[0].ts == ANCHOR + 5007
    await centre.hear(said("clock", boot="b-1", anchor=ANCHOR), batch(3, clk="unsynced", hist=True))
    assert centre.arrivals[-2].corrections == ()
    assert not centre.arrivals[-1].verdict


async def test_anchors_of_earlier_boots_mend_what_came_from_them(ioc: Any) -> None:
    centre = ioc()
    await centre.hear(batch(1, clk="unsynced"), batch(1, epoch="2-y", boot="b-2", clk="unsynced"))
    await centre.hear(said("clock", boot="b-3", anchor=ANCHOR, earlier={"b-1": ANCHOR - 9, "b-2": ANCHOR - 5}))
    found = [(c.boot, c.anchor, [b.epoch for b in c.batches]) for c in centre.arrivals[-1].corrections]
    assert found == [("b-1", ANCHOR - 9, ["1-x"]), ("b-2", ANCHOR - 5, ["2-y"])]


async def test_a_correction_of_the_gateway_replaces_what_came_before(ioc: Any) -> None:
    centre = ioc()
    await centre.hear(batch(1, clk="unsynced"), batch(1, clk="corrected", t0=ANCHOR), batch(1, clk="unsynced"))
    assert [arrival.verdict for arrival in centre.arrivals] == [Verdict.NEW, Verdict.BETTER, Verdict.DUPLICATE]
    await centre.hear(said("clock", boot="b-1", anchor=ANCHOR))
    assert centre.arrivals[-1].corrections == ()


@pytest.mark.parametrize("anchor", [None, "1700000000000", 1.7e12, True, 0, -1, 10**15, 2**70])
async def test_a_forged_anchor_is_ignored_and_counted(ioc: Any, anchor: Any) -> None:
    centre = ioc()
    await centre.hear(batch(1, clk="unsynced"))
    centre.line.coming.put_nowait(said("clock", boot="b-1", anchor=anchor))
    centre.line.coming.put_nowait(said("clock", boot=7, anchor=ANCHOR))
    await centre.hear(batch(2, clk="unsynced"))
    assert centre.receiver.malformed == 2
    assert centre.arrivals[-1].message.clk == "unsynced"


async def test_only_the_latest_boots_are_remembered(ioc: Any) -> None:
    centre = ioc()
    await centre.hear(*(said("clock", boot=f"b-{n}", anchor=ANCHOR + n) for n in range(40)))
    await centre.hear(batch(1, boot="b-1", clk="unsynced"), batch(1, boot="b-39", epoch="2-y", clk="unsynced"))
    assert [arrival.message.clk for arrival in centre.arrivals[-2:]] == ["unsynced", "corrected"]


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

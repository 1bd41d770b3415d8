"""A broker that misbehaves: nothing that it has not confirmed is given up, and nothing is sent beyond its limits."""

from __future__ import annotations

import asyncio
import struct
from collections import Counter
from typing import Any

import msgpack
import pytest

from drivers.base import Sample
from gateway.model import Readings
from gateway.uplink.counters import Counters
from gateway.uplink.desk import Pace


def balanced(counters: Counters) -> bool:
    """Whether every durable message that was published has met exactly one end."""
    ends = counters.confirmed + counters.unheard + counters.refused + counters.lost
    return counters.published == ends


async def test_withheld_confirmations_fill_the_window_and_free_nothing(fake_broker: Any, rig: Any, until: Any) -> None:
    fake_broker.answer = lambda message: "withhold" if message.kind == "telemetry" else 0
    gateway = rig(fake_broker.url, window=4)
    await gateway.start()
    await until(lambda: fake_broker.kinds("birth"), "the birth")
    for i in range(20):
        await gateway.read(float(i))
    await until(lambda: len(fake_broker.kinds("telemetry")) == 4, "a full window")
    await gateway.store.commit()
    assert len(fake_broker.kinds("telemetry")) == 4
    assert gateway.store.stats()["acked"] == 0
    fake_broker.answer = lambda message: 0
    fake_broker.cut()
    await until(lambda: gateway.store.stats()["pending"] == 0, "everything to be confirmed")
    assert gateway.publisher.counters.lost == 4
    assert balanced(gateway.publisher.counters)


async def test_a_broker_that_stalls_is_left(fake_broker: Any, rig: Any, until: Any) -> None:
    answers = iter(["withhold"])
    fake_broker.answer = lambda message: next(answers, 0) if message.kind == "telemetry" else 0
    gateway = rig(fake_broker.url, pace=Pace(tick=0.05, speak=0.05, retry_first=0.02, retry_last=0.1, stall=0.2))
    await gateway.start()
    await gateway.read()
    await until(lambda: gateway.store.stats()["pending"] == 0, "the confirmation on the next connection")
    assert gateway.publisher.counters.connections == 2


async def test_a_broker_that_leaves_one_message_out_is_left(fake_broker: Any, rig: Any, until: Any) -> None:
    """It answers all others, so that there always is some progress; the place in the window would be gone for ever."""
    answers = iter(["withhold"])
    fake_broker.answer = lambda message: next(answers, 0) if message.kind == "telemetry" else 0
    gateway = rig(fake_broker.url, pace=Pace(tick=0.05, speak=0.05, retry_first=0.02, retry_last=0.1, stall=0.2))
    await gateway.start()

    async def read_on() -> None:
        while True:
            await gateway.read()
            await asyncio.sleep(0.02)

    reading = asyncio.create_task(read_on())
    await until(lambda: gateway.publisher.counters.connections == 2, "the next connection")
    reading.cancel()
    await until(lambda: gateway.store.stats()["pending"] == 0, "everything")


async def test_receive_maximum_of_one(fake_broker: Any, rig: Any, until: Any) -> None:
    fake_broker.connack_properties = b"\x21" + struct.pack("!H", 1)
    fake_broker.puback_delay = 0.002
    gateway = rig(fake_broker.url)
    await gateway.start()
    for i in range(20):
        await gateway.read(float(i))
    unanswered: Counter[bool] = Counter()

    def one_at_a_time(message: Any) -> int:
        unanswered[len(gateway.publisher._pump._flying) <= 1] += 1
        return 0

    fake_broker.answer = one_at_a_time
    await until(lambda: gateway.store.stats()["pending"] == 0, "everything")
    assert unanswered[False] == 0


@pytest.mark.parametrize("code", [0x80, 0x83, 0x97])
async def test_a_refusal_for_now_keeps_everything(fake_broker: Any, rig: Any, until: Any, code: int) -> None:
    refusing = True
    fake_broker.answer = lambda message: code if refusing and message.kind == "telemetry" else 0
    gateway = rig(fake_broker.url)
    gateway.publisher._desk.holds.first_delay = 0.05
    await gateway.start()
    for i in range(30):
        await gateway.read(float(i))
    await until(lambda: gateway.publisher.counters.refused >= 4, "a refusal and some probes")
    await until(lambda: fake_broker.kinds("event"), "the event that says so")
    assert gateway.store.stats()["acked"] == 0
    events = [message.body() for message in fake_broker.kinds("event")]
    assert [(event["code"], event["state"]) for event in events] == [("refused", "raised")]
    refusing = False
    await until(lambda: gateway.store.stats()["pending"] == 0, "everything")
    events = [message.body() for message in fake_broker.kinds("event")]
    assert [event["state"] for event in events] == ["raised", "cleared"]
    assert balanced(gateway.publisher.counters)


async def test_a_cut_before_the_confirmation_sends_again_under_the_same_key(
    fake_broker: Any, rig: Any, until: Any
) -> None:
    cuts = iter(range(6))
    fake_broker.answer = lambda message: "cut" if message.kind == "telemetry" and next(cuts, None) is not None else 0
    gateway = rig(fake_broker.url)
    await gateway.start()
    for i in range(8):
        await gateway.read(float(i))
    await until(lambda: gateway.store.stats()["pending"] == 0, "everything")
    bodies = [message.body() for message in fake_broker.kinds("telemetry")]
    assert {body["seq"] for body in bodies} == set(range(1, 9))
    assert len({(body["epoch"], body["seq"], bytes(body["d"])) for body in bodies}) == 8
    assert not any(message.dup for message in fake_broker.published), "the library sent something on its own"
    assert balanced(gateway.publisher.counters)


async def test_a_small_packet_limit_makes_parts(fake_broker: Any, rig: Any, until: Any, oracle: Any) -> None:
    fake_broker.connack_properties = b"\x27" + struct.pack("!I", 400)
    gateway = rig(fake_broker.url)
    await gateway.start()
    await until(lambda: fake_broker.kinds("birth"), "the birth")
    for i in range(200):
        samples = [Sample("voltage_l1", i * 1.37 % 10), Sample("state", f"text {i}")]
        await gateway.store.append(Readings("meter-1", "a1b2c3d4", gateway.clock.mono_ms(), samples))
    gateway.store.flush()
    await until(lambda: gateway.store.stats()["pending"] == 0, "everything")
    messages = fake_broker.kinds("telemetry")
    assert all(len(message.payload) + len(message.topic) + len(message.properties) + 10 <= 400 for message in messages)
    parts: dict[int, list[list[int]]] = {}
    texts = []
    for message in messages:
        body = oracle(message.payload)
        if "part" in body:
            parts.setdefault(body["seq"], []).append(body["part"])
        texts += [row[4] for row in body["rows"] if row[2] == "state"]
    assert len(texts) == 200
    assert texts == [f"text {i}" for i in range(200)]
    for found in parts.values():
        assert found == [[i + 1, len(found)] for i in range(len(found))]
    assert parts


async def test_what_fits_into_no_packet_stays_and_blocks_nobody(fake_broker: Any, rig: Any, until: Any) -> None:
    fake_broker.connack_properties = b"\x27" + struct.pack("!I", 1500)
    gateway = rig(fake_broker.url)
    await gateway.start()
    await until(lambda: fake_broker.kinds("birth"), "the birth")
    noise = "".join(chr(0x4E00 + i * 7919 % 20000) for i in range(900))
    await gateway.store.append(Readings("meter-1", "a1b2c3d4", gateway.clock.mono_ms(), [Sample("state", noise)]))
    gateway.store.flush()
    await gateway.read(1.0)
    await until(lambda: gateway.store.stats()["pending"] == 1, "the one that fits")
    assert gateway.publisher.counters.undeliverable == 1
    await until(lambda: [m for m in fake_broker.kinds("event") if m.body()["code"] == "dead-letter"], "the event")
    data = fake_broker.kinds("event")[-1].body()["data"]
    assert data["dropped"] == [{"epoch": gateway.store.epoch, "stream": "t", "ranges": [[1, 1]]}]
    assert "too large" in data["reason"]
    fake_broker.cut()
    await until(lambda: gateway.publisher.counters.connections == 2 and gateway.publisher.online, "the next connection")
    await gateway.read(2.0)
    await until(lambda: gateway.store.stats()["pending"] == 1, "the next one that fits")
    assert gateway.publisher.counters.undeliverable == 1


async def test_unsupported_version_falls_back_to_3_1_1(fake_broker: Any, rig: Any, until: Any) -> None:
    fake_broker.versions = (4,)
    gateway = rig(fake_broker.url)
    await gateway.start()
    await gateway.read(230.2)
    await until(lambda: gateway.store.stats()["pending"] == 0, "the confirmation")
    assert [connect["level"] for connect in fake_broker.connects] == [5, 4]
    status = fake_broker.kinds("status")[-1].body()
    assert status["mqtt"]["version"] == "3.1.1"
    assert status["mqtt"]["refusals_visible"] is False
    assert fake_broker.kinds("telemetry")[0].properties == b""


async def test_connect_carries_what_the_contract_says(fake_broker: Any, rig: Any, until: Any) -> None:
    gateway = rig(fake_broker.url, keepalive=33.0)
    await gateway.start()
    await gateway.read()
    await until(lambda: fake_broker.kinds("telemetry"), "a batch")
    connect = fake_broker.connects[0]
    assert (connect["id"], connect["clean"], connect["keepalive"]) == ("gw-1", False, 33)
    assert b"\x11" + struct.pack("!I", 86400) in connect["properties"]
    will = connect["will"]
    assert (will["topic"], will["retain"]) == ("city/v1/gw-1/up/status", True)
    body = (
        msgpack.unpackb(will["payload"]) if will["payload"][:1] != b"{" else __import__("json").loads(will["payload"])
    )
    assert (body["online"], body["conn"]) == (False, [gateway.store.epoch, 1])
    batch = fake_broker.kinds("telemetry")[0]
    assert (batch.qos, batch.retain) == (1, False)
    assert b"application/msgpack" in batch.properties
    assert b"\x00\x06schema\x00\x02v1" in batch.properties
    assert fake_broker.kinds("birth")[0].retain
    assert set(fake_broker.subscribed) == {
        f"city/v1/gw-1/{name}" for name in ("dn/ack", "dn/resend", "dn/rebirth", "up/status")
    }


async def test_a_refused_birth_stops_nothing(fake_broker: Any, rig: Any, until: Any) -> None:
    fake_broker.answer = lambda message: 0x87 if message.kind == "birth" else 0
    gateway = rig(fake_broker.url)
    await gateway.start()
    await gateway.read()
    await until(lambda: gateway.store.stats()["pending"] == 0, "the reading")


async def test_a_broker_that_is_away_at_first(fake_broker: Any, rig: Any, until: Any) -> None:
    await fake_broker.stop()
    gateway = rig(fake_broker.url)
    await gateway.start()
    await gateway.read()
    await until(lambda: gateway.publisher.counters.failures >= 3, "some failures")
    assert "nobody listens on that port" in gateway.publisher.trouble
    await fake_broker.start()
    await until(lambda: gateway.store.stats()["pending"] == 0, "the reading")
    assert gateway.publisher.trouble == ""


async def test_stop_without_a_connection_is_quick_and_keeps_everything(fake_broker: Any, rig: Any, until: Any) -> None:
    fake_broker.silent = True
    gateway = rig(fake_broker.url)
    await gateway.start()
    await gateway.read()
    await until(lambda: fake_broker.connects, "the attempt")
    await gateway.stop(0.2)
    assert gateway.store.stats()["pending"] == 2


async def test_stop_tries_once_more_at_once(fake_broker: Any, rig: Any, until: Any) -> None:
    await fake_broker.stop()
    gateway = rig(fake_broker.url, pace=Pace(tick=0.05, speak=0.05, retry_first=3600.0, retry_last=3600.0))
    await gateway.start()
    for i in range(300):
        await gateway.read(float(i))
    await gateway.store.commit()  # the backlog is on disk, more than one fetch
    await until(lambda: gateway.publisher.counters.failures == 1, "the first attempt")
    await fake_broker.start()
    await gateway.stop(20.0)
    assert gateway.store.stats()["pending"] == 0
    assert fake_broker.kinds("status")[-1].body()["online"] is False


async def test_stop_gives_up_when_nobody_is_there(fake_broker: Any, rig: Any, until: Any) -> None:
    await fake_broker.stop()
    gateway = rig(fake_broker.url, pace=Pace(tick=0.05, speak=0.05, retry_first=3600.0, retry_last=3600.0))
    await gateway.start()
    await gateway.read()
    await until(lambda: gateway.publisher.counters.failures == 1, "the first attempt")
    await asyncio.wait_for(gateway.stop(3600.0), 20)
    assert gateway.publisher.counters.failures == 2
    assert gateway.store.stats()["pending"] == 2
    await fake_broker.start()


async def test_what_the_ioc_passes_over_is_sent_again_soon(fake_broker: Any, rig: Any, until: Any) -> None:
    """A broker that has just been restarted confirms messages before the IOC has subscribed: they reach nobody."""
    pace = Pace(tick=0.05, speak=0.05, retry_first=0.02, retry_last=0.1, confirm_within=3600.0, overtaken=0.01)
    gateway = rig(fake_broker.url, confirm="ioc", pace=pace)
    await gateway.start()
    await until(lambda: fake_broker.kinds("birth"), "the birth")
    await gateway.read(1.0)
    await until(lambda: gateway.publisher.counters.confirmed == 1, "the first PUBACK")
    now = gateway.clock.monotonic()
    await until(lambda: gateway.clock.monotonic() > now + 0.02, "some time")
    await gateway.read(2.0)
    await until(lambda: gateway.publisher.counters.confirmed == 2, "the second PUBACK")
    body = f'{{"epoch":"{gateway.store.epoch}","stream":"t","ranges":[[2,2]]}}'
    fake_broker.send("city/v1/gw-1/dn/ack", body.encode())
    await until(lambda: len(fake_broker.kinds("telemetry")) == 3, "the first batch again")
    again = fake_broker.kinds("telemetry")[2].body()
    assert (again["seq"], again["hist"]) == (1, True)


async def test_backlog_leaves_room_for_live_readings(fake_broker: Any, rig: Any, until: Any) -> None:
    await fake_broker.stop()
    gateway = rig(fake_broker.url, window=8)
    await gateway.start()
    for i in range(60):
        await gateway.read(float(i))
    await gateway.store.commit()  # the backlog is on disk
    answers = iter([0] * 10)
    fake_broker.answer = lambda message: next(answers, "withhold") if message.kind == "telemetry" else 0
    await fake_broker.start()
    await until(lambda: len(fake_broker.kinds("telemetry")) == 14, "half a window of backlog that is not answered")
    await gateway.read(1000.0)
    await until(lambda: len(fake_broker.kinds("telemetry")) == 15, "the live reading beside it")
    assert [bool(message.body().get("hist")) for message in fake_broker.kinds("telemetry")] == [True] * 14 + [False]


async def test_unconfirmed_batches_are_bounded(fake_broker: Any, rig: Any, until: Any) -> None:
    pace = Pace(tick=0.05, speak=0.05, retry_first=0.02, retry_last=0.1, confirm_within=60.0, unconfirmed=10)
    gateway = rig(fake_broker.url, confirm="ioc", pace=pace)
    await gateway.start()
    await until(lambda: fake_broker.kinds("birth"), "the birth")
    for i in range(30):
        await gateway.read(float(i))
    await until(lambda: gateway.publisher.counters.confirmed == 10, "the limit")
    await gateway.store.commit()
    assert len(fake_broker.kinds("telemetry")) == 10
    body = f'{{"epoch":"{gateway.store.epoch}","stream":"t","ranges":[[1,10]]}}'
    fake_broker.send("city/v1/gw-1/dn/ack", body.encode())
    await until(lambda: len(fake_broker.kinds("telemetry")) == 20, "the next ten")


async def test_after_a_reconnect_everything_unacknowledged_comes_again(fake_broker: Any, rig: Any, until: Any) -> None:
    pace = Pace(tick=0.05, speak=0.05, retry_first=0.02, retry_last=0.1, confirm_within=60.0)
    gateway = rig(fake_broker.url, confirm="ioc", pace=pace)
    await gateway.start()
    await until(lambda: fake_broker.kinds("birth"), "the birth")
    for i in range(5):
        await gateway.read(float(i))
    await until(lambda: gateway.publisher.counters.confirmed == 5, "five PUBACKs")
    fake_broker.cut()
    await until(lambda: len(fake_broker.kinds("telemetry")) == 10, "all five again")
    again = [message.body() for message in fake_broker.kinds("telemetry")[5:]]
    assert [body["seq"] for body in again] == [1, 2, 3, 4, 5]
    assert all(body["hist"] for body in again)


async def test_a_limit_that_the_broker_does_not_name_is_found(mosquitto: Any, rig: Any, ioc: Any, until: Any) -> None:
    """mosquitto's message_size_limit is not in its CONNACK, and its PUBACK 0x95 is none that MQTT 5 knows."""
    broker = mosquitto("allow_anonymous true\nmessage_size_limit 2000\n")
    listener = await ioc(broker.url)
    gateway = rig(broker.url)
    await gateway.start()
    for i in range(3000):
        samples = [Sample("voltage_l1", i * 7919 % 10007 / 10), Sample("state", f"text {i * 31337 % 65536}")]
        await gateway.store.append(Readings("meter-1", "a1b2c3d4", gateway.clock.mono_ms(), samples))
    gateway.store.flush()
    await until(lambda: gateway.store.stats()["pending"] == 0, "everything")
    await until(lambda: len({row[2:] for batch in listener.batches() for row in batch["rows"]}) >= 6000, "all values")
    assert gateway.publisher.counters.undeliverable == 0


async def test_a_broker_that_hangs_up_on_large_packets_gets_smaller_ones(
    fake_broker: Any, rig: Any, until: Any
) -> None:
    def dismiss_large(message: Any) -> int | str:
        if len(message.payload) <= 5000:
            return 0
        fake_broker.dismiss(0x95)
        return "withhold"

    fake_broker.answer = dismiss_large
    gateway = rig(fake_broker.url)
    await gateway.start()
    for i in range(3000):
        samples = [Sample("voltage_l1", i * 7919 % 10007 / 10), Sample("state", f"text {i * 31337 % 65536}")]
        await gateway.store.append(Readings("meter-1", "a1b2c3d4", gateway.clock.mono_ms(), samples))
    gateway.store.flush()
    await until(lambda: gateway.store.stats()["pending"] == 0, "everything")


async def test_results_of_commands_go_to_their_own_topic(fake_broker: Any, rig: Any, until: Any) -> None:
    gateway = rig(fake_broker.url)
    await gateway.start()
    await gateway.store.append_message("c", {"id": "lệnh/7", "state": "succeeded"})
    await until(lambda: fake_broker.kinds("cmd"), "the result")
    message = fake_broker.kinds("cmd")[0]
    assert message.topic == "city/v1/gw-1/up/cmd/lệnh_7"
    assert (message.body()["stream"], message.body()["seq"], message.body()["id"]) == ("c", 1, "lệnh/7")


async def test_a_broker_that_hangs_up_on_reading_the_own_status_is_not_asked_for_ever(
    fake_broker: Any, rig: Any, until: Any
) -> None:
    real = fake_broker.subscribed.__class__.append

    class Strict(list[str]):
        def __iadd__(self, names: list[str]) -> Any:
            for name in names:
                real(self, name)
                if name.endswith("up/status"):
                    fake_broker.cut()
            return self

    fake_broker.subscribed = Strict()
    gateway = rig(fake_broker.url)
    await gateway.start()
    await gateway.read()
    await until(lambda: gateway.store.stats()["pending"] == 0 and gateway.publisher.online, "the reading")
    await until(lambda: gateway.publisher.counters.connections == 4, "three attempts, then none")
    await gateway.read()
    await until(lambda: gateway.store.stats()["pending"] == 0, "the next reading")
    assert gateway.publisher.counters.connections == 4


async def test_a_broker_that_declares_the_gateway_dead_as_it_goes_is_left_at_once(
    fake_broker: Any, rig: Any, until: Any
) -> None:
    """Mosquitto does so when it is stopped: it sends every will, then DISCONNECT. The nap of 60 s must not go on."""
    gateway = rig(fake_broker.url, pace=Pace(tick=0.05, speak=60.0, retry_first=0.02, retry_last=0.05))
    await gateway.start()
    for times in range(1, 21):
        await until(lambda: fake_broker.subscribed.count("city/v1/gw-1/up/status") == times, "the subscription")  # noqa: B023
        await until(lambda: gateway.publisher.online, "the connection")
        fake_broker.send("city/v1/gw-1/up/status", b'{"v":1,"gw":"gw-1","online":false,"conn":["0-x",9]}')
        fake_broker.dismiss(0x8B)


async def test_a_session_that_is_taken_over_again_and_again_is_left_alone(
    fake_broker: Any, rig: Any, until: Any
) -> None:
    gateway = rig(fake_broker.url)
    await gateway.start()
    for n in range(3):
        await until(lambda n=n: len(fake_broker.connects) == n + 1 and gateway.publisher.online, "the connection")
        fake_broker.dismiss(0x8E)
        await until(lambda n=n: gateway.publisher.counters.takeovers == n + 1, "the end")
    await until(lambda: gateway.store._book.seqs["e"] == 1, "the event in the store")
    assert len(fake_broker.connects) == 3
    gateway.publisher._hurry.set()
    await until(lambda: fake_broker.kinds("event"), "the event at the broker")
    assert fake_broker.kinds("event")[0].body()["code"] == "session-takeover"

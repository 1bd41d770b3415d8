"""The uplink against a real broker: what the IOC sees."""

from __future__ import annotations

import json
import socket
from typing import Any

import pytest

from gateway.clock import Clock
from gateway.model import Device
from gateway.uplink.desk import Pace


async def test_explains_itself_before_it_sends(mosquitto: Any, rig: Any, ioc: Any, until: Any) -> None:
    broker = mosquitto()
    listener = await ioc(broker.url)
    gateway = rig(broker.url, health=lambda: {"buses": {"bus-1": {"load": 0.5}}}, health_every=0.1)
    await gateway.start()
    await gateway.read(230.2)
    await until(lambda: listener.of("telemetry") and listener.of("health"), "telemetry and health")

    kinds = [message.topic.split("/up/")[1].split("/")[0] for message in listener.heard]
    assert kinds.index("status") < kinds.index("birth") < kinds.index("telemetry")
    status = json.loads(listener.of("status")[0].payload)
    assert status["online"] is True
    assert status["conn"] == [gateway.store.epoch, 1]
    assert status["mqtt"]["version"] == "5"
    assert status["window"] == pytest.approx(0.7)
    birth = json.loads(listener.of("birth")[0].payload)
    assert (birth["v"], birth["gw"], birth["device"], birth["cfg"]) == (1, "gw-1", "meter-1", "a1b2c3d4")
    assert birth["points"][0] == {"name": "voltage_l1", "unit": "V"}
    clock = json.loads(listener.of("clock")[0].payload)
    assert clock["boot"] == "0123456789ab"
    assert abs(clock["anchor"] - gateway.clock.anchor()) <= 1000
    epochs = json.loads(listener.of("epochs")[0].payload)
    assert epochs["epochs"] == []
    health = json.loads(listener.of("health")[-1].payload)
    assert health["buses"] == {"bus-1": {"load": 0.5}}
    assert health["store"]["epoch"] == gateway.store.epoch
    assert "hours_left" in health["store"]
    batch = listener.batches()[0]
    assert (batch["v"], batch["gw"], batch["seq"], batch["clk"]) == (1, "gw-1", 1, "synced")
    assert [(row[2], row[4], row[5]) for row in batch["rows"]] == [
        ("voltage_l1", 230.2, "good"),
        ("state", "on", "good"),
    ]


async def test_confirmed_batches_are_freed(mosquitto: Any, rig: Any, ioc: Any, until: Any) -> None:
    broker = mosquitto()
    listener = await ioc(broker.url)
    gateway = rig(broker.url)
    await gateway.start()
    await until(lambda: listener.of("birth"), "the birth")
    for i in range(50):
        await gateway.read(float(i))
    await until(lambda: gateway.store.stats()["pending"] == 0, "an empty store")
    await until(lambda: len(listener.values()) == 50, "fifty values")
    counters = gateway.publisher.counters
    assert counters.published == counters.confirmed == counters.settled == 50
    assert [batch["seq"] for batch in listener.batches()] == list(range(1, 51))
    assert not any(batch.get("hist") for batch in listener.batches())


async def test_a_broker_restart_loses_and_doubles_nothing(mosquitto: Any, rig: Any, ioc: Any, until: Any) -> None:
    broker = mosquitto()
    gateway = rig(broker.url)
    await gateway.start()
    listener = await ioc(broker.url)
    for i in range(5):
        await gateway.read(float(i))
    await until(lambda: len(listener.values()) == 5, "the readings before")
    await listener.close()
    broker.stop()
    await until(lambda: not gateway.publisher.online, "the loss to be noticed")
    for i in range(5, 30):
        await gateway.read(float(i))
    before = listener.heard
    broker.start()
    listener = await ioc(broker.url)
    listener.heard[:0] = before
    await until(lambda: len(listener.values()) == 30, "everything")
    assert listener.values() == [float(i) for i in range(30)]
    births = [message for message in listener.of("birth") if not message.retain]
    assert len(births) + len([m for m in listener.of("birth") if m.retain]) >= 1
    late = [batch for batch in listener.batches() if batch.get("hist")]
    seqs = [batch["seq"] for batch in late]
    assert seqs == sorted(seqs)
    await until(lambda: gateway.store.stats()["pending"] == 0, "an empty store")


async def test_nobody_listens(mosquitto: Any, rig: Any, ioc: Any, until: Any) -> None:
    broker = mosquitto()
    gateway = rig(broker.url)
    gateway.publisher._desk.holds.first_delay = 0.05
    await gateway.start()
    for i in range(10):
        await gateway.read(float(i))
    await until(lambda: gateway.publisher.counters.unheard >= 3, "a few probes")
    assert gateway.store.stats()["acked"] == 0
    listener = await ioc(broker.url)
    await until(lambda: len(listener.values()) == 10, "all that was held")
    await until(lambda: gateway.store.stats()["pending_batches"] == 0, "an empty store")
    events = [(event["id"], event["state"]) for event in sorted(listener.events(), key=lambda event: event["seq"])]
    assert events.count(("nobody-listens/t", "raised")) == 1
    assert events.count(("nobody-listens/t", "cleared")) == 1
    assert all(event["advice"] for event in listener.events() if event["state"] == "raised")


async def test_the_iocs_own_acknowledgement_frees(mosquitto: Any, rig: Any, ioc: Any, until: Any) -> None:
    broker = mosquitto()
    listener = await ioc(broker.url)
    gateway = rig(broker.url, confirm="ioc")
    await gateway.start()
    for i in range(4):
        await gateway.read(float(i))
    await until(lambda: gateway.publisher.counters.confirmed >= 4, "four PUBACKs")
    assert gateway.store.stats()["pending"] == 8
    epoch = gateway.store.epoch
    await listener.say("dn/ack", epoch=epoch, stream="t", ranges=[[1, 2], [4, 4]])
    await until(lambda: gateway.store.stats()["pending"] == 2, "one batch left")
    await listener.say("dn/ack", epoch=epoch, stream="t", ranges=[[1, 4], [90, 99]])
    await until(lambda: gateway.store.stats()["pending"] == 0, "an empty store")
    await listener.say("dn/ack", epoch="7-0000000000000000", stream="t", ranges=[[1, 5]])
    await until(lambda: gateway.publisher.counters.acks == 3, "the third message")
    assert gateway.publisher.counters.settled == 4
    assert gateway.publisher.counters.unknown == 3 + 10 + 5


async def test_what_the_ioc_does_not_acknowledge_is_sent_again(mosquitto: Any, rig: Any, ioc: Any, until: Any) -> None:
    broker = mosquitto()
    listener = await ioc(broker.url)
    gateway = rig(broker.url, confirm="ioc")
    await gateway.start()
    await until(lambda: listener.of("birth"), "the birth")
    await gateway.read(1.5)
    await until(lambda: len(listener.batches()) >= 2, "a second copy")
    first, second = listener.batches()[:2]
    assert (first["epoch"], first["seq"]) == (second["epoch"], second["seq"])
    assert "hist" not in first
    assert second["hist"] is True
    assert gateway.publisher.counters.overdue >= 1
    await listener.say("dn/ack", epoch=first["epoch"], stream="t", ranges=[[1, 1]])
    await until(lambda: gateway.store.stats()["pending"] == 0, "an empty store")


async def test_resend(mosquitto: Any, rig: Any, ioc: Any, until: Any) -> None:
    broker = mosquitto()
    listener = await ioc(broker.url)
    gateway = rig(broker.url, confirm="ioc")
    gateway.publisher._pace = type(gateway.publisher._pace)(tick=0.05)
    await gateway.start()
    for i in range(3):
        await gateway.read(float(i))
    await until(lambda: len(listener.batches()) == 3, "three batches")
    await listener.say("dn/resend", epoch=gateway.store.epoch, stream="t", ranges=[[2, 3]])
    await until(lambda: len(listener.batches()) == 5, "two more")
    again = listener.batches()[3:]
    assert sorted(batch["seq"] for batch in again) == [2, 3]
    assert all(batch["hist"] for batch in again)
    assert gateway.publisher.counters.resends == 2


async def test_rebirth(mosquitto: Any, rig: Any, ioc: Any, until: Any) -> None:
    broker = mosquitto()
    listener = await ioc(broker.url)
    gateway = rig(broker.url)
    await gateway.start()
    await until(lambda: len(listener.of("birth")) == 1, "the birth")
    await listener.say("dn/rebirth")
    await until(lambda: len(listener.of("birth")) == 2, "the second birth")
    await listener.say("dn/rebirth", device="meter-1", cfg="a1b2c3d4")
    await until(lambda: len(listener.of("birth")) == 3, "the third birth")
    await listener.say("dn/rebirth", device="meter-9", cfg="00000000")
    await listener.session.publish("city/v1/gw-1/dn/rebirth", b"not a map")
    await until(lambda: gateway.publisher.counters.malformed == 1, "the malformed message")
    assert len(listener.of("birth")) == 3


async def test_a_flood_of_rebirths_is_a_few(fake_broker: Any, rig: Any, until: Any) -> None:
    gateway = rig(fake_broker.url, pace=Pace(tick=0.05, speak=1.0, retry_first=0.02, retry_last=0.1))
    await gateway.start()
    await until(lambda: fake_broker.kinds("birth"), "the birth")
    for n in range(500):
        fake_broker.send("city/v1/gw-1/dn/rebirth", b"{}" if n % 2 else b'{"device": "m%d", "cfg": "c"}' % n)
    await gateway.read(1.0)
    await until(lambda: gateway.publisher.counters.rebirths == 500, "all requests to be heard")
    await until(lambda: gateway.store.stats()["pending"] == 0, "the reading beside them")
    given = len(fake_broker.kinds("birth"))
    assert given <= 3
    fake_broker.send("city/v1/gw-1/dn/rebirth", b"{}")
    await until(lambda: len(fake_broker.kinds("birth")) > given, "the last request, answered a moment later")
    assert len(fake_broker.kinds("birth")) <= 4
    assert not gateway.publisher._voice._rebirths


async def test_two_gateways_with_one_id_do_not_throw_each_other_out_for_ever(
    mosquitto: Any, rig: Any, until: Any
) -> None:
    """mosquitto ends a session that was taken over without a word: the rival is known by its status."""
    broker = mosquitto()
    rigs = [rig(broker.url), rig(broker.url, folder="copy")]
    for one in rigs:
        await one.start()
    gone = lambda: [one for one in rigs if one.publisher._retry.rival and not one.publisher.online]
    await until(gone, "one to notice, and to stay away")
    noticed = gone()[0]
    assert noticed.publisher.counters.takeovers == 3
    assert all(one.publisher.counters.connections <= 8 for one in rigs)
    await until(lambda: noticed.store._book.seqs["e"] >= 1, "the event in its store")


async def test_the_status_of_an_earlier_run_is_no_rival(mosquitto: Any, rig: Any, ioc: Any, until: Any) -> None:
    broker = mosquitto()
    await ioc(broker.url)
    for _ in range(4):
        gateway = rig(broker.url)
        await gateway.start()
        await until(lambda one=gateway: one.publisher.online, "the connection")
        await gateway.read(1.0)
        await until(lambda one=gateway: one.store.stats()["pending"] == 0, "the reading")
        gateway.publisher._session._link.drop("the process was killed")
        await gateway.kill()
        assert gateway.publisher.counters.takeovers == 0


async def test_malformed_messages_are_counted_and_ignored(mosquitto: Any, rig: Any, ioc: Any, until: Any) -> None:
    broker = mosquitto()
    listener = await ioc(broker.url)
    gateway = rig(broker.url)
    await gateway.start()
    bad = [
        b"",
        b"\xc1",
        b"[]",
        b'{"epoch": 1}',
        b'{"epoch": "e", "stream": "t", "ranges": [[2, 1]]}',
        b'{"epoch": "e", "stream": "x", "ranges": []}',
        json.dumps({"epoch": "e", "stream": "t", "ranges": [[1, 1]] * 1025}).encode(),
        b'{"epoch": "' + b"x" * 70000 + b'"}',
    ]
    await until(lambda: gateway.publisher.online, "the connection")
    await until(lambda: listener.of("birth"), "the subscription")
    for payload in bad:
        await listener.session.publish("city/v1/gw-1/dn/ack", payload)
    await until(lambda: gateway.publisher.counters.malformed == len(bad), "all to be counted")
    await gateway.read()
    await until(lambda: listener.values() == [230.2], "the reading")


async def test_stop_sends_what_is_left_and_says_goodbye(mosquitto: Any, rig: Any, ioc: Any, until: Any) -> None:
    broker = mosquitto()
    listener = await ioc(broker.url)
    gateway = rig(broker.url)
    await gateway.start()
    await until(lambda: listener.of("birth"), "the birth")
    for i in range(20):
        await gateway.read(float(i))
    await gateway.stop()
    await until(lambda: len(listener.values()) == 20, "all readings")
    await until(lambda: json.loads(listener.of("status")[-1].payload)["online"] is False, "the goodbye")
    last = json.loads(listener.of("status")[-1].payload)
    assert last["mqtt"]["version"] == "5"  # the agent's own words, not the will
    assert gateway.store.stats()["pending"] == 0


async def test_the_will_fires_and_the_status_comes_back(mosquitto: Any, rig: Any, ioc: Any, until: Any) -> None:
    broker = mosquitto()
    listener = await ioc(broker.url)
    gateway = rig(broker.url)
    await gateway.start()
    await until(lambda: gateway.publisher.online, "the connection")
    gateway.publisher._session._link._client.socket().shutdown(socket.SHUT_RDWR)

    def states() -> list[tuple[bool, int]]:
        bodies = [json.loads(message.payload) for message in listener.of("status")]
        return [(body["online"], body["conn"][1]) for body in bodies]

    await until(lambda: (False, 1) in states() and states()[-1] == (True, 2), "the will, then the new status")


async def test_a_late_death_is_contradicted(mosquitto: Any, rig: Any, ioc: Any, until: Any) -> None:
    broker = mosquitto()
    listener = await ioc(broker.url)
    gateway = rig(broker.url)
    await gateway.start()
    await until(lambda: listener.of("birth"), "the birth")
    count = len(listener.of("status"))
    await listener.session.publish(
        "city/v1/gw-1/up/status", b'{"v":1,"gw":"gw-1","online":false,"conn":["0-x",9]}', retain=True
    )
    await until(lambda: len(listener.of("status")) >= count + 2, "the contradiction")
    assert json.loads(listener.of("status")[-1].payload)["online"] is True


async def test_births_are_not_repeated_while_the_broker_remembers(
    mosquitto: Any, rig: Any, ioc: Any, until: Any
) -> None:
    broker = mosquitto()
    listener = await ioc(broker.url)
    gateway = rig(broker.url)
    await gateway.start()
    await until(lambda: listener.of("birth"), "the birth")
    await gateway.read(1.0)
    await until(lambda: listener.values() == [1.0], "the first reading")
    gateway.publisher._session._link._client.socket().shutdown(socket.SHUT_RDWR)
    await until(lambda: gateway.publisher.counters.connections == 2, "the second connection")
    await gateway.read(2.0)
    await until(lambda: listener.values() == [1.0, 2.0], "the second reading")
    assert len(listener.of("birth")) == 1


async def test_the_backlog_of_an_earlier_run_keeps_its_birth_until_it_is_settled(
    mosquitto: Any, rig: Any, ioc: Any, until: Any
) -> None:
    broker = mosquitto()
    broker.stop()
    old = rig(broker.url)
    await old.start()
    await old.read(1.0)
    await old.read(2.0)
    await old.stop(0.0)
    broker.start()
    listener = await ioc(broker.url)
    new_device = Device(
        "meter-1", "modbus", 1, (), birth={"points": [{"name": "voltage_l1", "unit": "kV"}]}, cfg="ffffffff"
    )
    new = rig(broker.url, devices=(new_device,))
    await new.start()
    await until(lambda: listener.values() == [1.0, 2.0], "the backlog")
    topics = [message.topic.split("/up/")[1] for message in listener.heard]
    assert topics.index("birth/meter-1/a1b2c3d4") < topics.index("telemetry")
    assert "birth/meter-1/ffffffff" in topics
    assert all(batch["hist"] for batch in listener.batches())
    await until(
        lambda: any(m.topic.endswith("a1b2c3d4") and not m.payload for m in listener.heard), "the old birth's end"
    )
    epochs = [json.loads(message.payload)["epochs"] for message in listener.of("epochs")]
    assert [entry["epoch"] for entry in epochs[0]] == [old.store.epoch]
    await until(lambda: json.loads(listener.of("epochs")[-1].payload)["epochs"] == [], "no earlier epoch left")


async def test_times_from_before_the_clock_was_set_are_corrected(
    mosquitto: Any, rig: Any, ioc: Any, until: Any
) -> None:
    synchronised = False
    broker = mosquitto()
    broker.stop()
    clock = Clock("kernel", boot="0123456789ab", synchronised=lambda: synchronised)
    gateway = rig(broker.url, clock=clock)
    await gateway.start()
    await gateway.read(1.0)
    synchronised = True
    assert clock.look()
    await gateway.read(2.0)
    broker.start()
    listener = await ioc(broker.url)
    await until(lambda: listener.values() == [1.0, 2.0], "both readings")
    by_value = {row[4]: (batch, row) for batch in listener.batches() for row in batch["rows"]}
    batch, row = by_value[1.0]
    assert batch["clk"] == "corrected"
    assert abs(row[3] - clock.anchor() - batch["m0"]) < 1000
    assert by_value[2.0][0]["clk"] == "synced"


async def test_the_second_broker_is_used_when_the_first_is_away(mosquitto: Any, rig: Any, ioc: Any, until: Any) -> None:
    first, second = mosquitto(), mosquitto()
    first.stop()
    listener = await ioc(second.url)
    gateway = rig(first.url, second.url)
    await gateway.start()
    await gateway.read(1.0)
    await until(lambda: listener.values() == [1.0], "the reading")
    assert gateway.publisher.counters.failures == 1


async def test_json_form(mosquitto: Any, rig: Any, ioc: Any, until: Any) -> None:
    broker = mosquitto()
    listener = await ioc(broker.url)
    gateway = rig(broker.url, format="native-json")
    await gateway.start()
    await gateway.read(230.2)
    await until(lambda: listener.values() == [230.2], "the reading")
    body = json.loads(listener.of("telemetry")[0].payload)
    assert body["d"][0][:3] == ["meter-1", "a1b2c3d4", ["voltage_l1", "state"]]

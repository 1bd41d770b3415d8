"""A broker that says no: what it means decides what becomes of the batch, and the rest flows."""

from __future__ import annotations

import os
import signal
from typing import Any

import pytest

from gateway.uplink import refusals


def events(broker: Any, code: str) -> list[dict[str, Any]]:
    return [body for message in broker.kinds("event") if (body := message.body())["code"] == code]


def ranges(found: list[dict[str, Any]], key: str = "dropped") -> set[int]:
    """All numbers that these events name."""
    spans = [span for body in found for entry in body["data"][key] for span in entry["ranges"]]
    return {number for first, last in spans for number in range(first, last + 1)}


@pytest.mark.parametrize(
    ("code", "meaning"),
    [
        *((code, "later") for code in (0x80, 0x83, 0x91, 0x97, 0xEE)),
        *((code, "never") for code in (0x90, 0x99)),
        (0x87, "closed"),
    ],
)
def test_every_code_has_a_meaning(code: int, meaning: str) -> None:
    assert refusals.meaning(code) == meaning
    assert refusals.reason(code)


@pytest.mark.parametrize("code", [0x90, 0x99])
async def test_what_will_never_be_taken_is_a_dead_letter_and_the_rest_flows(
    fake_broker: Any, rig: Any, until: Any, code: int
) -> None:
    refused = {3, 4, 5, 9}
    picky = lambda message: code if message.kind == "telemetry" and message.body()["seq"] in refused else 0
    fake_broker.answer = picky
    gateway = rig(fake_broker.url)
    await gateway.start()
    for i in range(12):
        await gateway.read(float(i))
    await until(lambda: gateway.store.stats()["pending_batches"] == 4, "all but the refused ones")
    await until(lambda: ranges(events(fake_broker, "dead-letter")) == refused, "the exact ranges")
    assert gateway.publisher.counters.dead_letters == gateway.store.stats()["parked_batches"] == 4
    assert {body["data"]["reason"] for body in events(fake_broker, "dead-letter")} == {refusals.reason(code)}
    fake_broker.answer = lambda message: 0
    fake_broker.send(
        "city/v1/gw-1/dn/resend", f'{{"epoch":"{gateway.store.epoch}","stream":"t","ranges":[[3,9]]}}'.encode()
    )
    await until(lambda: gateway.store.stats()["pending_batches"] == 0, "the dead letters")


async def test_a_closed_topic_is_not_flooded_and_gives_back_everything_when_it_is_opened(
    fake_broker: Any, rig: Any, until: Any
) -> None:
    fake_broker.answer = lambda message: 0x87 if message.kind == "telemetry" else 0
    gateway = rig(fake_broker.url, window=4)
    gateway.publisher._desk.holds.first_delay = 0.05
    await gateway.start()
    for i in range(30):
        await gateway.read(float(i))
    await until(lambda: gateway.publisher.counters.dead_letters >= 6, "a window, and some probes")
    assert gateway.publisher.counters.dead_letters < 15
    assert [body["state"] for body in events(fake_broker, "not-authorised")] == ["raised"]
    await gateway.store.append_message("e", {"code": "other"})
    await until(lambda: events(fake_broker, "other"), "an event, although telemetry is held")
    await until(lambda: events(fake_broker, "dead-letter"), "the announcement")
    assert ranges(events(fake_broker, "dead-letter")) <= set(range(1, 31))
    fake_broker.answer = lambda message: 0
    await until(lambda: gateway.store.stats()["pending_batches"] == 0, "everything")
    assert {message.body()["seq"] for message in fake_broker.kinds("telemetry")} == set(range(1, 31))
    assert gateway.publisher.counters.revived >= 4
    assert [body["state"] for body in events(fake_broker, "not-authorised")] == ["raised", "cleared"]


async def test_telemetry_flows_although_events_are_refused(fake_broker: Any, rig: Any, until: Any) -> None:
    fake_broker.answer = lambda message: 0x87 if message.kind == "event" else 0
    gateway = rig(fake_broker.url)
    gateway.publisher._desk.holds.first_delay = 0.05
    await gateway.start()
    for i in range(5):
        await gateway.store.append_message("e", {"code": "x", "n": i})
        await gateway.read(float(i))
    await until(lambda: gateway.store.stats()["pending"] == 0, "the readings")
    fake_broker.answer = lambda message: 0
    await until(lambda: gateway.store.stats()["pending_batches"] == 0, "the events too")
    assert events(fake_broker, "dead-letter") == [], "nobody could hear of it, and nothing was dropped"


async def test_an_access_list_that_is_mended(mosquitto: Any, rig: Any, ioc: Any, until: Any, tmp_path: Any) -> None:
    """The same with a real broker, which reads its list again on SIGHUP."""
    acl = tmp_path / "acl"
    acl.write_text("topic read #\ntopic write city/v1/gw-1/up/event\ntopic write city/v1/gw-1/up/status\n")
    acl.chmod(0o600)
    broker = mosquitto(f"allow_anonymous true\nacl_file {acl}\n")
    listener = await ioc(broker.url)
    gateway = rig(broker.url)
    gateway.publisher._desk.holds.first_delay = 0.05
    await gateway.start()
    for i in range(3):
        await gateway.read(float(i))
    await until(lambda: [event for event in listener.events() if event["code"] == "not-authorised"], "the event")
    assert gateway.store.stats()["acked"] == 0
    assert listener.values() == []
    acl.write_text("topic readwrite #\n")
    os.kill(broker._process.pid, signal.SIGHUP)
    await until(lambda: gateway.store.stats()["pending"] == 0, "an empty store")
    await until(lambda: listener.values() == [0.0, 1.0, 2.0], "everything")


async def test_what_is_not_stored_is_said(fake_broker: Any, rig: Any, until: Any) -> None:
    gateway = rig(fake_broker.url)
    await gateway.start()
    for i in range(5):
        await gateway.read(float(i))
    await until(lambda: gateway.store.stats()["pending"] == 0, "everything to be confirmed")
    epoch = gateway.store.epoch
    for _ in range(20):
        ask = f'{{"epoch":"{epoch}","stream":"t","ranges":[[2,3],[5,90]]}}'
        fake_broker.send("city/v1/gw-1/dn/resend", ask.encode())
    await until(lambda: events(fake_broker, "not-stored"), "the answer")
    first = events(fake_broker, "not-stored")[0]
    assert first["data"]["missing"] == [{"epoch": epoch, "stream": "t", "ranges": [[2, 3], [5, 5]]}]
    await until(lambda: gateway.publisher.counters.missing == 60, "all questions")
    assert len(events(fake_broker, "not-stored")) <= 3, "one a second at most"


async def test_the_only_message_of_a_closed_topic_asks_again_and_is_announced_once(
    fake_broker: Any, rig: Any, until: Any
) -> None:
    fake_broker.answer = lambda message: 0x87 if message.kind == "cmd" else 0
    gateway = rig(fake_broker.url)
    gateway.publisher._desk.holds.first_delay = gateway.publisher._desk.holds.last_delay = 0.05
    gateway.publisher._desk.notices._every = 0.1
    await gateway.start()
    await gateway.store.append_message("c", {"id": "7", "state": "succeeded"})
    await until(lambda: len(fake_broker.kinds("cmd")) >= 5, "some probes")
    await until(lambda: events(fake_broker, "dead-letter"), "the announcement")
    count = len(fake_broker.kinds("cmd"))
    await until(lambda: len(fake_broker.kinds("cmd")) >= count + 5, "more probes")
    assert len(events(fake_broker, "dead-letter")) == 1
    fake_broker.answer = lambda message: 0
    await until(lambda: gateway.store.stats()["pending_batches"] == 0, "the result")
    assert gateway.store.stats()["parked_batches"] == 0


async def test_a_restart_gives_dead_letters_another_chance(fake_broker: Any, rig: Any, until: Any) -> None:
    fake_broker.answer = lambda message: 0x99 if message.kind == "telemetry" else 0
    gateway = rig(fake_broker.url)
    await gateway.start()
    for i in range(3):
        await gateway.read(float(i))
    await until(lambda: gateway.publisher.counters.dead_letters == 3, "the dead letters")
    await gateway.stop()
    fake_broker.answer = lambda message: 0
    again = rig(fake_broker.url)
    await again.start()
    await until(lambda: again.store.stats()["pending_batches"] == 0, "everything")
    told = ranges(events(fake_broker, "dead-letter"))
    assert told == {1, 2, 3}, "also what was not told before the end"

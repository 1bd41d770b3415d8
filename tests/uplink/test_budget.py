"""What a metered link may carry."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from gateway.uplink.budget import DAY, SLOT, Budget, connecting, on_wire


def test_packets_cost_more_than_their_content() -> None:
    assert on_wire(100, tls=False) == 100 + 2 * 60
    assert on_wire(100, tls=True) == 100 + 29 + 2 * 60
    assert on_wire(3000, tls=False) == 3000 + 4 * 60
    assert connecting(tls=True) > 5000 > connecting(tls=False)


def test_without_a_cap_nothing_waits_and_all_is_counted() -> None:
    budget = Budget(0, 0)
    budget.spend(10**9, 5.0)
    assert (budget.total, budget.wait(5.0), budget.capped) == (10**9, 0.0, False)
    assert budget.look(5.0, None) == []
    assert not budget.unsaved(5.0)


def test_bytes_per_second_allow_a_debt_that_is_waited_for() -> None:
    budget = Budget(1000, 0)
    now, sent, seconds = 100.0, 0, 600
    while now < 100.0 + seconds:
        if budget.wait(now) == 0:
            budget.spend(7000, now)
            sent += 7000
        now += 0.1
    assert sent <= 1000 * seconds + 8000
    assert sent >= 1000 * seconds - 8000


def test_a_day_slides() -> None:
    """Over any 24 hours no more than the cap and one packet; over a week no less than nearly all of it."""
    budget, sent = Budget(0, 50_000_000), []
    now = 0.0
    while now < 7 * DAY:
        pause = budget.wait(now)
        if pause:
            now += pause
            continue
        budget.spend(100_000, now)
        sent.append(now)
        now += 20.0
    for start in range(0, int(6 * DAY), 3600):
        within = sum(start <= at < start + DAY for at in sent)
        assert within * 100_000 <= 50_100_000
    assert len(sent) * 100_000 > 6.9 * 50_000_000 * DAY / (DAY + SLOT)


def test_the_end_of_the_days_bytes_is_told_once_and_so_is_its_end() -> None:
    budget = Budget(0, 1_000_000)
    budget.spend(400_000, 0.0)
    budget.spend(599_999, 20_000.0)
    assert budget.look(20_000.0, 5e8) == []
    budget.spend(1, 20_000.0)
    [raised] = budget.look(20_000.0, 5e8)
    assert (raised["code"], raised["state"]) == ("budget-used", "raised")
    pause = budget.wait(20_000.0)
    assert pause == DAY + SLOT - 20_000.0
    assert raised["data"]["until"] == int((5e8 + pause) * 1000)
    assert budget.look(20_001.0, None) == []
    [cleared] = budget.look(20_000.0 + pause, None)
    assert cleared["state"] == "cleared"
    assert budget.wait(20_000.0 + pause) == 0


def test_without_a_date_it_says_how_long() -> None:
    budget = Budget(0, 1_000_000)
    budget.spend(2_000_000, 0.0)
    [raised] = budget.look(0.0, None)
    assert raised["data"]["until"] is None
    assert "24.2 h" in raised["text"]


@pytest.mark.parametrize(("boot", "now", "left"), [("a", 50_000.0, 1), ("a", DAY + SLOT, 0), ("b", 7.0, 1)])
def test_a_restart_does_not_refill_the_day(boot: str, now: float, left: int) -> None:
    before = Budget(0, 1_000_000)
    before.spend(1_000_000, 10.0)
    assert before.unsaved(10.0)
    saved = before.saved("a", 20.0)
    assert not before.unsaved(20.0)
    after = Budget(0, 1_000_000)
    after.spend(100, now)
    after.restore(saved, boot, now)
    assert bool(after.wait(now)) == bool(left)
    assert after.used(now) == 1_000_000 * left + 100


def test_what_was_counted_is_saved_now_and_then() -> None:
    budget, saves = Budget(0, 100_000_000), 0
    for second in range(int(DAY)):
        budget.spend(20, float(second))
        if budget.unsaved(float(second)):
            budget.saved("a", float(second))
            saves += 1
    assert saves <= 97


async def test_telemetry_waits_for_its_share_and_the_rest_passes(fake_broker: Any, rig: Any, until: Any) -> None:
    gateway = rig(fake_broker.url, max_per_day=1_000_000, health_every=0.1)
    await gateway.start()
    await until(lambda: fake_broker.kinds("birth"), "the birth")
    gateway.publisher._desk.budget.spend(1_000_000, gateway.clock.monotonic())
    await gateway.read(1.0)
    await gateway.store.append_message("e", {"code": "x"})
    await until(lambda: len(fake_broker.kinds("event")) == 2, "the events")
    assert {message.body()["code"] for message in fake_broker.kinds("event")} == {"x", "budget-used"}
    assert fake_broker.kinds("telemetry") == []
    counted = lambda: fake_broker.kinds("health")[-1].body()["uplink"]
    await until(lambda: counted()["traffic"] > 1_000_000, "the next health")
    health = counted()
    assert health["budget"]["per_day"] == 1_000_000
    assert health["budget"]["wait"] > 0
    await gateway.stop(5.0)
    again = rig(fake_broker.url, max_per_day=1_000_000)
    await again.start()
    await until(lambda: len(fake_broker.connects) == 2, "the next run")
    await asyncio.sleep(0)
    assert again.publisher._desk.budget.wait(again.clock.monotonic()) > 0, "a restart has refilled it"
    assert fake_broker.kinds("telemetry") == []


async def test_bytes_per_second_hold_back_telemetry(fake_broker: Any, rig: Any, until: Any) -> None:
    gateway = rig(fake_broker.url, max_per_second=500)
    await gateway.start()
    await until(lambda: fake_broker.kinds("birth"), "the birth")
    began = gateway.clock.monotonic()
    before = gateway.publisher._desk.budget.total
    for i in range(8):
        await gateway.read(float(i))
    await until(lambda: gateway.store.stats()["pending"] == 0, "everything")
    spent = gateway.publisher._desk.budget.total - before
    last_packet = on_wire(400, tls=False) * 2
    assert spent - last_packet <= 500 * (1 + gateway.clock.monotonic() - began)

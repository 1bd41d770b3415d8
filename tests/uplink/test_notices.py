"""Events on their way into a store that may be full: bounded, and no range is lost."""

from __future__ import annotations

from itertools import pairwise
from math import inf
from typing import Any

import pytest

from gateway.uplink.notices import MOST_EVENTS, Notices

EPOCH = "1-0123456789abcdef"


def all_due(notices: Notices, now: float) -> list[dict[str, Any]]:
    found = []
    while body := notices.due(now):
        found.append(body)
    return found


def numbers(events: list[dict[str, Any]], key: str) -> list[int]:
    spans = [span for body in events for entry in body["data"][key] for span in entry["ranges"]]
    return [number for first, last in spans for number in range(first, last + 1)]


def test_dead_letters_are_told_soon_then_once_a_minute_with_exact_ranges() -> None:
    notices, told, now = Notices(), [], 0.0
    assert notices.rest(now) == inf
    for second in range(600):
        now = float(second)
        if second % 3 == 0:
            notices.dead((EPOCH, "t", second + 1), "not authorised", now)
        told += [(now, body) for body in all_due(notices, now)]
    times = [at for at, _ in told]
    assert times[0] == 1.0
    assert all(later - earlier >= 60 for earlier, later in pairwise(times))
    assert len(times) == 10
    bodies = [body for _, body in told] + notices.last()
    assert sorted(numbers(bodies, "dropped")) == list(range(1, 601, 3))
    assert {body["data"]["reason"] for body in bodies} == {"not authorised"}


def test_reasons_are_told_apart() -> None:
    notices = Notices()
    notices.dead((EPOCH, "t", 1), "not authorised", 0.0)
    notices.dead((EPOCH, "e", 1), "payload format invalid", 0.0)
    assert [body["data"]["reason"] for body in all_due(notices, 5.0)] == ["not authorised", "payload format invalid"]


def test_a_long_list_comes_as_several_events() -> None:
    notices = Notices()
    for seq in range(1, 1000, 2):
        notices.dead((EPOCH, "t", seq), "x", 0.0)
    first = all_due(notices, 1.0)
    assert len(numbers(first, "dropped")) == 200
    assert notices.rest(1.0) == 60.0
    assert sorted(numbers(first + notices.last(), "dropped")) == list(range(1, 1000, 2))


def test_dead_letters_are_not_made_faster_than_they_can_be_told() -> None:
    notices, made = Notices(), 0
    while not notices.full:
        made += 1
        notices.dead((EPOCH, "t", 2 * made), "x", 0.0)
    assert made == 5000
    assert len(numbers(notices.last(), "dropped")) == 5000


def test_a_flood_of_questions_is_one_answer_a_second() -> None:
    notices, told = Notices(), []
    for step in range(1000):
        now = step / 100
        notices.missing(EPOCH, "t", ((1, 2**62), (2**62 + 2 * step, 2**62 + 2 * step)), now)
        told += all_due(notices, now)
    assert len(told) == 10
    assert {body["code"] for body in told} == {"not-stored"}


def test_questions_about_more_than_can_be_told_are_counted() -> None:
    notices = Notices()
    for n in range(20):
        notices.missing(f"{n}-x", "t", tuple((i, i) for i in range(1, 2000, 2)), 0.0)
    assert notices.untold == 20 * 1000 - 5000


def test_transitions_are_bounded_and_the_latest_stay() -> None:
    notices = Notices()
    for n in range(MOST_EVENTS + 10):
        notices.tell({"n": n})
    assert notices.untold == 10
    assert [body["n"] for body in all_due(notices, 0.0)] == list(range(10, MOST_EVENTS + 10))


@pytest.mark.parametrize("count", [0, 3])
def test_the_end_gives_everything(count: int) -> None:
    notices = Notices()
    notices.dead((EPOCH, "t", 1), "x", 0.0)
    all_due(notices, 5.0)
    for seq in range(count):
        notices.dead((EPOCH, "t", seq + 2), "x", 6.0)
    last = notices.last()
    assert len(last) == (count > 0)
    assert numbers(last, "dropped") == list(range(2, 2 + count))


def test_the_end_of_a_quiet_run_gives_nothing() -> None:
    assert Notices().last() == []

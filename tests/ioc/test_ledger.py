"""The ledger against a plain set, and the rules of the contract for one key."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from gateway.ioc.ledger import Ledger, Numbers, Verdict
from gateway.uplink.payload.decode import Message


def message(
    seq: int, *, part: tuple[int, int] | None = None, clk: str = "synced", stream: str = "t", epoch: str = "1-x"
) -> Message:
    return Message("gw-1", epoch, stream, seq, part, "b", 0, 0, clk, hist=False)


def spread(ranges: Any) -> list[int]:
    return [n for first, last in ranges for n in range(first, last + 1)]


@given(st.lists(st.tuples(st.booleans(), st.integers(1, 60), st.integers(0, 5))))
def test_numbers_are_a_set(steps: list[tuple[bool, int, int]]) -> None:
    numbers, model = Numbers(), set[int]()
    for add, first, more in steps:
        if add:
            numbers.add(first, first + more)
            model |= set(range(first, first + more + 1))
        else:
            numbers.remove(first)
            model.discard(first)
        assert spread(numbers) == sorted(model)
        assert len(numbers) == len(model)
        assert all(b + 1 < c for (_, b), (c, _) in zip(list(numbers), list(numbers)[1:], strict=False))
        assert [n for n in range(1, 70) if n in numbers] == sorted(model)
        assert spread(numbers.gaps(50)) == [n for n in range(1, 51) if n not in model]
    assert numbers.highest == max(model, default=0)


@given(st.lists(st.integers(1, 30), max_size=60))
def test_each_number_is_new_once_whatever_the_order(arrived: list[int]) -> None:
    ledger = Ledger()
    new = []
    for seq in arrived:
        verdict = ledger.record(message(seq))
        ledger.committed(message(seq))
        if verdict:
            new.append(seq)
    assert sorted(new) == sorted(set(arrived))
    assert ledger.duplicates == len(arrived) - len(set(arrived))
    key = ("gw-1", "1-x", "t")
    assert spread(ledger.missing().get(key, ())) == [n for n in range(1, max(arrived, default=0)) if n not in arrived]
    acks = ledger.acknowledgements()
    assert [spread(ack.ranges) for ack in acks] == ([sorted(set(arrived))] if arrived else [])
    assert ledger.acknowledgements() == []


def test_streams_and_epochs_have_their_own_numbers() -> None:
    ledger = Ledger()
    for stream in ("t", "e", "c"):
        for epoch in ("1-x", "2-y"):
            assert ledger.record(message(1, stream=stream, epoch=epoch)) is Verdict.NEW
    assert len(ledger.accounts) == 6


def test_what_is_not_committed_is_not_acknowledged() -> None:
    ledger = Ledger()
    ledger.record(message(1))
    ledger.record(message(2))
    ledger.committed(message(2))
    assert [ack.ranges for ack in ledger.acknowledgements()] == [((2, 2),)]


def test_a_duplicate_is_acknowledged_once_more() -> None:
    ledger = Ledger()
    for _ in range(2):
        ledger.record(message(1))
        ledger.committed(message(1))
        assert [ack.ranges for ack in ledger.acknowledgements()] == [((1, 1),)]


def test_corrected_beats_unsynced_and_nothing_else_does() -> None:
    ledger = Ledger()
    assert ledger.record(message(1, clk="unsynced")) is Verdict.NEW
    assert ledger.record(message(1, clk="unsynced")) is Verdict.DUPLICATE
    assert ledger.record(message(1, clk="corrected")) is Verdict.BETTER
    assert ledger.record(message(1, clk="corrected")) is Verdict.DUPLICATE
    assert ledger.record(message(2, clk="synced")) is Verdict.NEW
    assert ledger.record(message(2, clk="corrected")) is Verdict.DUPLICATE
    assert not Verdict.DUPLICATE
    assert Verdict.BETTER


def test_a_batch_in_parts_is_whole_when_all_are_there() -> None:
    ledger = Ledger()
    for i in (3, 1):
        assert ledger.record(message(1, part=(i, 3))) is Verdict.NEW
        ledger.committed(message(1, part=(i, 3)))
    assert ledger.record(message(1, part=(1, 3))) is Verdict.DUPLICATE
    assert ledger.acknowledgements() == []
    assert ledger.record(message(1, part=(2, 3))) is Verdict.NEW
    ledger.committed(message(1, part=(2, 3)))
    assert [ack.ranges for ack in ledger.acknowledgements()] == [((1, 1),)]
    assert ledger.record(message(1)) is Verdict.DUPLICATE
    assert ledger.record(message(1, part=(1, 2))) is Verdict.DUPLICATE


def test_parts_can_be_corrected_too() -> None:
    ledger = Ledger()
    assert ledger.record(message(1, part=(1, 2), clk="unsynced")) is Verdict.NEW
    assert ledger.record(message(1, part=(1, 2), clk="corrected")) is Verdict.BETTER
    assert ledger.record(message(1, part=(2, 2), clk="corrected")) is Verdict.NEW
    assert ledger.record(message(1, part=(2, 2), clk="corrected")) is Verdict.DUPLICATE


def test_batches_that_never_get_whole_do_not_pile_up() -> None:
    ledger = Ledger()
    for seq in range(1, 3000):
        ledger.record(message(seq, part=(1, 2)))
    assert len(ledger._parted) <= 1000


def test_announced_drops_are_not_missing() -> None:
    ledger = Ledger()
    ledger.record(message(10))
    ledger.excuse("gw-1", "1-x", "t", [(1, 4), (6, 9)])
    assert ledger.missing() == {("gw-1", "1-x", "t"): ((5, 5),)}
    ledger.excuse("gw-1", "1-x", "t", [(5, 5)])
    assert ledger.missing() == {}


def test_after_an_unclean_end_nobody_knows_what_came_last() -> None:
    ledger = Ledger()
    ledger.record(message(3))
    account = ledger.accounts["gw-1", "1-x", "t"]
    assert account.unknown_above is None
    entry = {"epoch": "1-x", "ended": "unclean", "pending": [[5, 6]], "highest_on_disk": 6}
    ledger.announce("gw-1", [entry, {"epoch": 7}, {"epoch": "2-y", "ended": "clean", "highest_on_disk": -1}])
    assert account.unknown_above == 6
    assert ledger.missing()["gw-1", "1-x", "t"] == ((1, 2), (4, 6))
    streams = {"t": {"highest_on_disk": 6}, "e": {"highest_on_disk": 2}}
    ledger.announce("gw-1", [entry | {"streams": streams}])
    assert ledger.accounts["gw-1", "1-x", "e"].unknown_above == 2
    assert ledger.accounts["gw-1", "2-y", "t"].unknown_above is None

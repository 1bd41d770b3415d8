"""The ledger: the rules of the contract for one key, and what gateways say about their numbers."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.ioc.ledger import Ledger, Verdict
from gateway.uplink.payload.decode import Message

KEY = ("gw-1", "1-x", "t")


def message(
    seq: int,
    *,
    part: tuple[int, int] | None = None,
    clk: str = "synced",
    stream: str = "t",
    epoch: str = "1-x",
    boot: str = "b",
    hist: bool = False,
) -> Message:
    return Message("gw-1", epoch, stream, seq, part, boot, 0, 0, clk, hist=hist)


def spread(ranges: Any) -> list[int]:
    return [n for first, last in ranges for n in range(first, last + 1)]


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
    assert spread(ledger.missing().get(KEY, ())) == [n for n in range(1, max(arrived, default=0)) if n not in arrived]
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


def named(*ranges: Any, epoch: str = "1-x", stream: str = "t") -> list[Any]:
    return [{"epoch": epoch, "stream": stream, "ranges": [list(pair) for pair in ranges]}]


def test_announced_drops_are_not_missing() -> None:
    ledger = Ledger()
    ledger.record(message(10))
    ledger.drop("gw-1", named((1, 4), (6, 9)))
    assert ledger.missing() == {KEY: ((5, 5),)}
    ledger.drop("gw-1", named((5, 5)))
    assert ledger.missing() == {}


def test_dropped_beats_lost_and_arrived_beats_both() -> None:
    ledger = Ledger()
    ledger.record(message(2))
    ledger.lose("gw-1", named((1, 6)))
    ledger.drop("gw-1", named((2, 3)))
    account = ledger.accounts[KEY]
    assert (list(account.dropped), list(account.lost)) == ([(3, 3)], [(1, 1), (4, 6)])
    ledger.lose("gw-1", named((3, 3)))
    assert (list(account.dropped), list(account.lost)) == ([(3, 3)], [(1, 1), (4, 6)])
    for seq in (3, 5):
        assert ledger.record(message(seq)) is Verdict.NEW
    assert (list(account.dropped), list(account.lost)) == ([], [(1, 1), (4, 4), (6, 6)])
    assert account.whole


@pytest.mark.parametrize(
    "nonsense", [None, 3, "x", [7], [{"epoch": 1}], named((0, 3)), named((9, 7)), named((1, 2**62 + 1))]
)
def test_nonsense_is_no_news(nonsense: Any) -> None:
    ledger = Ledger()
    ledger.drop("gw-1", nonsense)
    ledger.lose("gw-1", nonsense)
    assert ledger.missing() == {}


def test_an_absurd_range_costs_one_entry() -> None:
    ledger = Ledger()
    for seq in (1, 5):
        ledger.record(message(seq))
    ledger.drop("gw-1", named((1, 2**62)))
    account = ledger.accounts[KEY]
    assert list(account.dropped) == [(2, 4), (6, 2**62)]
    assert ledger.record(message(7)) is Verdict.NEW
    ledger.announce("gw-1", [{"epoch": "2-y", "ended": "clean", "pending": [[1, 2**62], ["a", 1]]}])
    assert ledger.missing() == {("gw-1", "2-y", "t"): ((1, 2**62),)}


def test_endless_messages_are_read_so_far() -> None:
    ledger = Ledger()
    ledger.drop("gw-1", [entry for n in range(2000) for entry in named((1, 1), epoch=f"{n}-x")])
    assert len(ledger.accounts) == 1000
    ledger.drop("gw-1", named(*((2 * n, 2 * n) for n in range(1, 20_000)), epoch="z"))
    assert len(list(ledger.accounts["gw-1", "z", "t"].dropped)) == 10_000


def test_after_an_unclean_end_nobody_knows_what_came_last() -> None:
    ledger = Ledger()
    ledger.record(message(3))
    account = ledger.accounts["gw-1", "1-x", "t"]
    assert account.unknown_above is None
    entry = {"epoch": "1-x", "ended": "unclean", "pending": [[5, 6]], "highest_on_disk": 6}
    ledger.announce("gw-1", [entry, {"epoch": 7}, {"epoch": "2-y", "ended": "clean", "highest_on_disk": -1}])
    assert account.unknown_above == 6
    assert ledger.missing()["gw-1", "1-x", "t"] == ((1, 2), (4, 6))
    streams = {"t": {"highest_on_disk": 6}, "e": {"highest_on_disk": 2}, "c": 7}
    ledger.announce("gw-1", [entry | {"streams": streams}])
    assert ledger.accounts["gw-1", "1-x", "e"].unknown_above == 2
    assert ledger.accounts["gw-1", "2-y", "t"].unknown_above is None


def said(epoch: str, connection: int = 1, *, online: bool = True) -> dict[str, Any]:
    return {"online": online, "conn": [epoch, connection]}


def test_a_death_of_an_earlier_connection_is_not_believed() -> None:
    ledger = Ledger()
    assert ledger.status("gw-1", said("1-x"))
    assert ledger.status("gw-1", said("1-x", 2))
    assert not ledger.status("gw-1", said("1-x", 1, online=False))
    assert ledger.presence("gw-1").online
    assert ledger.status("gw-1", said("1-x", 2, online=False))
    assert not ledger.presence("gw-1").online
    assert ledger.status("gw-1", {"online": True, "conn": "?"})
    assert ledger.presence("gw-1").online


def test_an_earlier_epoch_that_is_not_named_any_more_is_settled() -> None:
    ledger = Ledger()
    for epoch in ("1-x", "2-y", "3-z"):
        ledger.record(message(2, epoch=epoch))
    ledger.announce(
        "gw-1", [{"epoch": "1-x", "ended": "unclean"}, {"epoch": "2-y", "ended": "clean", "pending": [[1, 1]]}]
    )
    assert list(ledger.accounts["gw-1", "2-y", "t"].pending) == [(1, 1)]
    ledger.announce("gw-1", [], "3-z")
    assert [account.ended for account in ledger.accounts.values()] == ["unclean", "clean", ""]
    assert not ledger.accounts["gw-1", "2-y", "t"].pending


def test_who_listens_from_now_misses_nothing_of_before() -> None:
    ledger = Ledger(from_now=True)
    earlier = {"epoch": "1-x", "ended": "clean", "pending": [[5, 6]], "highest_on_disk": 9}
    ledger.status("gw-1", said("2-y"))
    ledger.announce("gw-1", [earlier], "2-y")
    assert ledger.missing() == {KEY: ((5, 6),)}
    ledger.record(message(100, epoch="2-y"))
    ledger.record(message(103, epoch="2-y"))
    ledger.record(message(6, hist=True))
    assert ledger.record(message(2)) is Verdict.NEW
    assert ledger.missing() == {KEY: ((5, 5),), ("gw-1", "2-y", "t"): ((101, 102),)}
    ledger.status("gw-1", said("3-z"))
    ledger.record(message(3, epoch="3-z"))
    later = {"epoch": "2-y", "ended": "unclean", "pending": [], "highest_on_disk": 105}
    ledger.announce("gw-1", [earlier | {"pending": [[5, 5]]}, later], "3-z")
    assert ledger.missing() == {
        KEY: ((5, 5),),
        ("gw-1", "2-y", "t"): ((101, 102), (104, 105)),
        ("gw-1", "3-z", "t"): ((1, 2),),
    }
    assert list(ledger.accounts[KEY].before) == [(1, 1), (3, 4), (7, 9)]


def test_an_anchor_corrects_what_has_arrived_of_its_boot() -> None:
    ledger = Ledger()
    for seq in (1, 2, 4):
        ledger.record(message(seq, clk="unsynced"))
    ledger.record(message(1, epoch="2-y", boot="other", clk="unsynced"))
    ledger.record(message(5, part=(1, 2), clk="unsynced"))
    ledger.record(message(3, clk="synced"))
    corrected = ledger.correct("gw-1", "b")
    assert [(batches.epoch, batches.ranges) for batches in corrected] == [("1-x", ((1, 2), (4, 5)))]
    assert ledger.correct("gw-1", "b") == ()
    assert ledger.record(message(1, clk="corrected")) is Verdict.DUPLICATE
    assert ledger.record(message(1, epoch="2-y", boot="other", clk="corrected")) is Verdict.BETTER
    assert ledger.record(message(5, part=(2, 2), clk="corrected")) is Verdict.NEW
    assert ledger.missing() == {}


def test_the_books_can_be_kept() -> None:
    ledger = Ledger(from_now=True)
    ledger.status("gw-1", said("1-x"))
    for seq in (4, 6, 7):
        ledger.record(message(seq, clk="unsynced"))
    ledger.drop("gw-1", named((5, 5)))
    ledger.lose("gw-1", named((9, 10)))
    ledger.announce("gw-1", [{"epoch": "1-x", "ended": "unclean", "highest_on_disk": 12}])
    again = Ledger.load(json.loads(json.dumps(ledger.save())))
    assert again.save() == ledger.save()
    assert again.missing() == ledger.missing() == {KEY: ((8, 8), (11, 12))}
    assert again.record(message(6)) is Verdict.DUPLICATE
    assert again.record(message(7, clk="corrected")) is Verdict.BETTER
    assert again.record(message(8)) is Verdict.NEW


@pytest.mark.parametrize(
    "saved", [{}, {"v": 2}, {"v": 1, "accounts": [["gw-1"]]}, {"v": 1, "accounts": [[1, 2, 3, 4]]}, {"v": 1}]
)
def test_other_papers_are_not_taken_for_books(saved: Any) -> None:
    with pytest.raises(ValueError, match="books"):
        Ledger.load(saved)


def test_books_are_as_long_as_the_gaps_are_many() -> None:
    ledger = Ledger()
    for seq in range(1, 50_001):
        ledger.record(message(seq))
    assert ledger.save()["accounts"] == [[*KEY, "b", "", 0, False, [(1, 50_000)], [], [], [], []]]


def test_runs_of_long_ago_are_forgotten_but_not_their_gaps() -> None:
    ledger = Ledger()
    for run in range(1, 1001):
        epoch = f"{run}-x"
        for seq in (1, 2) if run % 100 else (1, 3):
            ledger.record(message(seq, epoch=epoch))
        pending = [] if (run - 1) % 100 else [[2, 2]]
        earlier = [{"epoch": f"{run - 1}-x", "ended": "unclean", "pending": pending}] if run > 1 else []
        ledger.announce("gw-1", earlier, epoch)
    assert len(ledger.accounts) <= 320
    gaps = {int(epoch.partition("-")[0]) for _, epoch, _ in ledger.missing()}
    assert gaps == set(range(100, 1001, 100))
    assert ledger.record(message(2, epoch="950-x")) == Verdict.DUPLICATE
    assert ledger.record(message(2, epoch="100-x")) == Verdict.NEW

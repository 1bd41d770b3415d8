"""What became of each number: by hand, and against a model that keeps plain sets."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import chain
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.ioc.gaps import ASKS, Gaps, Tally, count
from gateway.ioc.ledger import Batches, Ledger, Verdict
from gateway.uplink.payload.decode import Message

GW, EPOCH = "gw-1", "1-x"
ONLINE = {"online": True, "conn": [EPOCH, 1]}


def message(seq: int, epoch: str = EPOCH, stream: str = "t", *, part: Any = None, hist: bool = False) -> Message:
    return Message(GW, epoch, stream, seq, part, "b", 0, 0, "synced", hist=hist)


def spread(ranges: Any) -> list[int]:
    return [n for first, last in ranges for n in range(first, last + 1)]


class Watch:
    """A ledger with its gaps and a clock that is turned by hand; one gateway, online."""

    def __init__(self, *seqs: int, asks: bool = True) -> None:
        self.ledger, self.now, self.asked = Ledger(), 100.0, list[tuple[float, Batches]]()
        self.gaps = Gaps(self.ledger, asks=asks, grace=30.0)
        self.ledger.status(GW, ONLINE)
        self.arrive(*seqs)
        self.look()

    def arrive(self, *seqs: int, hist: bool = False) -> None:
        for seq in seqs:
            self.ledger.record(message(seq, hist=hist))

    def look(self) -> None:
        self.asked += [(self.now, batches) for batches in self.gaps.look(self.now)]

    def wait(self, seconds: float) -> None:
        """Look every five seconds, as the receiver does."""
        end = self.now + seconds
        while self.now < end:
            self.now = min(end, self.now + 5)
            self.look()

    @property
    def ranges(self) -> list[Any]:
        asked, self.asked = self.asked, []
        return [batches.ranges for _, batches in asked]

    @property
    def tally(self) -> Tally:
        (tally,) = self.gaps.tallies()
        return tally


def test_a_gap_is_on_its_way_until_it_is_old_and_then_asked_for() -> None:
    watch = Watch(1, 5)
    watch.wait(25)
    assert (watch.tally.on_its_way, watch.ranges) == (((2, 4),), [])
    watch.arrive(8)
    watch.wait(5)
    assert watch.ranges == [((2, 4),)]
    assert watch.tally.on_its_way == ((2, 4), (6, 7))
    watch.wait(30)
    assert watch.ranges == [((6, 7),)]
    assert not watch.tally.complete


def test_what_comes_in_time_is_not_asked_for() -> None:
    watch = Watch(1, 3)
    watch.wait(20)
    watch.arrive(2)
    watch.wait(100)
    assert watch.ranges == []
    assert watch.tally.complete
    watch.arrive(5)
    watch.wait(25)
    assert watch.ranges == []


def test_without_an_answer_it_is_asked_a_few_times_in_growing_distance() -> None:
    watch = Watch(1, 3)
    watch.wait(3600)
    assert [now - 100.0 for now, _ in watch.asked] == [30.0, 90.0, 210.0, 450.0]
    assert watch.tally.unexplained == ((2, 2),)
    assert watch.tally.on_its_way == ()
    watch.arrive(2)
    assert watch.tally.complete


def test_one_who_does_not_ask_calls_it_unexplained_when_it_is_old() -> None:
    watch = Watch(1, 3, asks=False)
    assert watch.tally.on_its_way == ((2, 2),)
    watch.wait(40)
    assert (watch.tally.unexplained, watch.asked) == (((2, 2),), [])


def test_part_of_what_was_asked_for_comes() -> None:
    watch = Watch(1, 9)
    watch.wait(30)
    watch.arrive(2, 3, 5, hist=True)
    watch.ledger.lose(GW, [{"epoch": EPOCH, "stream": "t", "ranges": [[8, 8]]}])
    watch.wait(60)
    assert watch.ranges == [((2, 8),), ((4, 4), (6, 7))]
    assert watch.tally.lost == ((8, 8),)


def test_a_new_run_of_the_gateway_is_asked_once_more() -> None:
    watch = Watch(1, 3)
    watch.wait(1800)
    assert len(watch.ranges) == ASKS
    watch.ledger.status(GW, {"online": True, "conn": ["2-y", 1]})
    watch.wait(35)
    assert watch.ranges == [((2, 2),)]


def test_nobody_asks_while_the_gateway_is_offline_or_the_backlog_flows() -> None:
    watch = Watch(1, 50)
    watch.ledger.status(GW, ONLINE | {"online": False})
    watch.wait(600)
    assert watch.tally.on_its_way == ((2, 49),)
    watch.ledger.status(GW, {"online": True, "conn": [EPOCH, 2]})
    for seq in range(2, 40):
        watch.arrive(seq, hist=True)
        watch.wait(20)
    assert watch.ranges == []
    watch.wait(15)
    assert watch.ranges == [((40, 49),)]


def test_nobody_asks_for_what_the_gateway_says_it_will_send() -> None:
    watch = Watch(1, 9)
    entry = {"epoch": EPOCH, "ended": "clean", "pending": [[3, 6]], "highest_on_disk": 9}
    watch.ledger.announce(GW, [entry])
    watch.wait(1000)
    assert set(watch.ranges) == {((2, 2), (7, 8))}
    assert (watch.tally.on_its_way, watch.tally.unexplained) == (((3, 6),), ((2, 2), (7, 8)))
    watch.ledger.announce(GW, [], "2-y")
    watch.wait(5)
    assert watch.ranges == [((3, 6),)]


def test_the_receiver_was_deaf() -> None:
    watch = Watch(1, 3)
    watch.wait(25)
    watch.gaps.deaf()
    watch.wait(25)
    assert watch.ranges == []
    watch.wait(10)
    assert watch.ranges == [((2, 2),)]


def test_many_gaps_are_asked_for_in_portions() -> None:
    watch = Watch(*range(1, 5001, 2))
    watch.wait(30)
    assert [len(ranges) for ranges in watch.ranges] == [1000]
    watch.wait(10)
    assert [len(ranges) for ranges in watch.ranges] == [1000, 500 - 1]


@pytest.mark.parametrize(("ended", "above"), [("", None), ("clean", None), ("unclean", 7)])
def test_after_an_unclean_end_nothing_is_complete(ended: str, above: int | None) -> None:
    watch = Watch(*range(1, 8))
    watch.ledger.announce(GW, [{"epoch": EPOCH, "ended": ended, "pending": [], "highest_on_disk": 7}])
    assert watch.tally.unknown_above == above
    assert watch.tally.complete is (above is None)


# ---- a model


@dataclass
class Model:
    """Plain sets for what has been said about the numbers of one stream of one epoch."""

    arrived: set[int] = field(default_factory=set)
    parts: dict[int, set[int]] = field(default_factory=dict)
    dropped: set[int] = field(default_factory=set)
    gone: set[int] = field(default_factory=set)
    announced: int = 0
    unclean: bool = False

    @property
    def highest(self) -> int:
        return max(self.arrived | self.dropped | self.gone | {self.announced})

    def arrive(self, seq: int) -> bool:
        """Returns whether it is new."""
        new = seq not in self.arrived
        self.arrived.add(seq)
        self.parts.pop(seq, None)
        return new

    def arrive_in_part(self, seq: int, part: int) -> bool:
        if seq in self.arrived or part in self.parts.setdefault(seq, set()):
            return False
        self.parts[seq].add(part)
        if len(self.parts[seq]) == 2:
            self.arrive(seq)
        return True


NUMBERS = st.integers(1, 25)
STEPS = st.one_of(
    st.tuples(st.sampled_from(["arrive", "half", "other half", "late"]), NUMBERS),
    st.tuples(st.sampled_from(["drop", "lose", "end", "pending"]), NUMBERS, st.integers(0, 5)),
    st.tuples(st.sampled_from(["look", "offline", "online", "restart"])),
)


@given(st.lists(STEPS, max_size=60), st.booleans())
def test_the_classes_are_a_partition_whatever_happens(steps: list[Any], asks: bool) -> None:
    ledger = Ledger()
    gaps = Gaps(ledger, asks=asks, grace=30.0)
    models = {"1-x": Model()}
    epoch, now, online, pending = "1-x", 0.0, True, set[int]()
    for name, *numbers in steps:
        seq, more = [*numbers, 0, 0][:2]
        model, ranges = models[epoch], [[seq, seq + more]]
        entries = [{"epoch": epoch, "stream": "t", "ranges": ranges}]
        match name:
            case "arrive" | "late":
                verdict = ledger.record(message(seq, epoch, hist=name == "late"))
                assert bool(verdict) is model.arrive(seq)
            case "half" | "other half":
                part = 1 + (name == "half")
                verdict = ledger.record(message(seq, epoch, part=(part, 2)))
                assert (verdict is Verdict.NEW) is model.arrive_in_part(seq, part)
            case "drop":
                ledger.drop(GW, entries)
                model.dropped |= set(range(seq, seq + more + 1)) - model.arrived
            case "lose":
                ledger.lose(GW, entries)
                model.gone |= set(range(seq, seq + more + 1)) - model.arrived
            case "end":
                ended = "unclean" if more else "clean"
                ledger.announce(GW, [{"epoch": epoch, "ended": ended, "highest_on_disk": seq}])
                model.announced, pending = max(model.announced, seq), set()
                model.unclean = model.unclean or bool(more)
            case "pending":
                ledger.announce(GW, [{"epoch": epoch, "ended": "", "pending": ranges}])
                model.announced, pending = max(model.announced, seq + more), set(range(seq, seq + more + 1))
            case "look":
                now += 10.0
                for batches in gaps.look(now):
                    asked = set(spread(batches.ranges))
                    old = models[batches.epoch]
                    assert asks
                    assert online
                    assert asked.isdisjoint(old.arrived | old.dropped | old.gone)
                    assert batches.epoch != epoch or asked.isdisjoint(pending)
            case "restart":
                epoch = f"{len(models) + 1}-x"
                models[epoch], pending = Model(), set()
                online = ledger.status(GW, {"online": True, "conn": [epoch, 1]})
            case _:
                online = name == "online"
                ledger.status(GW, {"online": online, "conn": [epoch, 1]})
        check(gaps, models)


def check(gaps: Gaps, models: dict[str, Model]) -> None:
    assert gaps.tallies(incomplete=True) == [tally for tally in gaps.tallies() if not tally.complete]
    for tally in gaps.tallies():
        model = models[tally.epoch]
        classes = [tally.arrived, tally.dropped, tally.lost, tally.on_its_way, tally.unexplained, tally.before]
        assert sorted(chain.from_iterable(map(spread, classes))) == list(range(1, model.highest + 1))
        assert set(spread(tally.arrived)) == model.arrived
        assert set(spread(tally.dropped)) == model.dropped - model.arrived
        assert set(spread(tally.lost)) == model.gone - model.dropped - model.arrived
        assert tally.unknown_above == (model.highest if model.unclean else None)
        assert tally.complete is (len(model.arrived) == model.highest and not model.unclean)
        assert tally.highest == sum(map(count, classes))


@given(
    st.lists(st.sampled_from(["broker", "receiver", "dropped", ""]), min_size=1, max_size=80),
    st.sets(st.integers(1, 80)),
)
def test_a_gateway_that_answers_leaves_nothing_unexplained(fates: list[str], kept: set[int]) -> None:
    """Some numbers vanish behind the broker, some were dropped; of the vanished ones some are kept."""
    watch = Watch()
    everything = range(1, len(fates) + 2)
    for seq, fate in zip(everything, [*fates, ""], strict=True):
        if not fate:
            watch.arrive(seq)
        elif fate == "dropped":
            watch.ledger.drop(GW, [{"epoch": EPOCH, "stream": "t", "ranges": [[seq, seq]]}])
    vanished = {seq for seq, fate in zip(everything, fates, strict=False) if fate in ("broker", "receiver")}
    for _ in range(40):
        watch.wait(10)
        for ranges in watch.ranges:
            asked = set(spread(ranges))
            assert asked <= vanished
            watch.arrive(*asked & kept, hist=True)
            missing = [[seq, seq] for seq in sorted(asked - kept)]
            watch.ledger.lose(GW, [{"epoch": EPOCH, "stream": "t", "ranges": missing}])
    tally = watch.tally
    assert (tally.on_its_way, tally.unexplained) == ((), ())
    assert set(spread(tally.lost)) == vanished - kept
    assert set(spread(tally.dropped)) == {seq for seq, fate in enumerate(fates, 1) if fate == "dropped"}
    assert set(spread(tally.arrived)) == set(everything) - set(spread(tally.lost)) - set(spread(tally.dropped))

"""What became of every number of a ledger, how old its gaps are, and which to ask for. Pure: the caller has the clock.

A gap is old when it has been there for the grace time. It is asked for when it is old, its gateway is online and has
sent no backlog for as long, and `up/epochs` does not name it: until then it is on its way.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from math import inf
from typing import NamedTuple

from gateway.ioc.ledger import Account, Batches, Key, Ledger, Presence
from gateway.model import Ranges
from gateway.spans import Spans

GRACE = 30.0
"""Seconds that a gap may be there before anybody asks."""
ASKS = 4
"""How often a gap is asked for: after 1, 3, 7 and 15 grace times. After 31 there was no answer."""
_RANGES = 1000


class Tally(NamedTuple):
    """What became of the numbers from 1 to `highest` of one stream of one epoch: each is in one of the ranges."""

    gw: str
    epoch: str
    stream: str
    highest: int
    arrived: Ranges
    dropped: Ranges
    """The gateway gave them up, and said so."""
    lost: Ranges
    """Asked for, and the gateway has them no more."""
    on_its_way: Ranges
    """On their way: young, or the gateway is offline or still sends its backlog, or they have just been asked for."""
    unexplained: Ranges
    """Old, and nobody has said what became of them, or not asked for."""
    before: Ranges
    """Sent before anybody listened here."""
    unknown_above: int | None
    """The epoch ended unclean: what came above this number nobody knows, at most the loss window."""
    complete: bool
    """Everything that the gateway has stored is here."""


def count(ranges: Ranges) -> int:
    """How many numbers the ranges hold."""
    return sum(last - first + 1 for first, last in ranges)


@dataclass(slots=True)
class Round:
    """Spans that were asked for together, so many times; the next time is `due`."""

    ranges: Ranges
    times: int
    due: float


@dataclass(slots=True)
class Search:
    """Of one account with gaps: what was the highest number when, what was asked, what was asked in vain."""

    marks: deque[tuple[float, int]] = field(default_factory=deque)
    rounds: list[Round] = field(default_factory=list)
    unanswered: Spans = field(default_factory=Spans)
    old: int = 0
    """Gaps up to this number are old."""

    def mark(self, now: float, highest: int, grace: float) -> None:
        """Remember the highest number of now: the gaps below it will be old one grace time later."""
        self.marks.append((now, highest))
        while self.marks and self.marks[0][0] <= now - grace:
            self.old = self.marks.popleft()[1]

    def ask(self, gaps: Spans, now: float, grace: float) -> Ranges:
        """Which of these gaps to ask for now: the new ones, and those that stayed without an answer for long enough."""
        due = [one for one in self.rounds if one.due <= now]
        fresh = Spans(gaps)
        for ranges in (*(one.ranges for one in self.rounds), tuple(self.unanswered)):
            for span in ranges:
                fresh.remove(*span)
        self.rounds = [one for one in self.rounds if one.due > now]
        asked = [Round(tuple(fresh)[:_RANGES], 1, now + 2 * grace)] if fresh else []
        for one in due:
            rest = tuple(span for a, b in one.ranges for span in gaps.overlap(a, b))
            if one.times < ASKS:
                asked += [Round(rest, one.times + 1, now + 2 ** (one.times + 1) * grace)] if rest else []
            else:
                for span in rest:
                    self.unanswered.add(*span)
        self.rounds += asked
        return tuple(span for one in asked for span in one.ranges)


@dataclass(slots=True)
class Calm:
    """Since when a gateway is online and sends no backlog; inf: it is offline."""

    since: float
    conn: tuple[str, int] | None
    backlog: int


class Gaps:
    """The gaps of a ledger. `asks`: somebody sends what `look` returns."""

    def __init__(self, ledger: Ledger, *, asks: bool = True, grace: float = GRACE) -> None:
        self._ledger = ledger
        self._asks = asks
        self._grace = grace
        self._calm: dict[str, Calm] = {}
        self._searches: dict[Key, Search] = {}
        self._now = 0.0

    def deaf(self) -> None:
        """Nothing could be received for a while: every gap gets its grace time once more."""
        self._calm.clear()

    def look(self, now: float) -> list[Batches]:
        """Note what time it is, in seconds of a monotonic clock; returns what to ask for. Call it every few seconds."""
        self._now = now
        for gw, presence in self._ledger.presences.items():
            self._look_at(gw, presence)
        questions = []
        for key, account in self._ledger.accounts.items():
            if account.whole:
                self._searches.pop(key, None)
                continue
            search = self._searches.setdefault(key, Search())
            search.mark(now, account.highest, self._grace)
            if self._asks and self._is_calm(key[0]):
                ranges = search.ask(Spans(_old(account, search)), now, self._grace)
                questions += [Batches(*key, ranges)] if ranges else []
        return questions

    def tallies(self, *, incomplete: bool = False) -> list[Tally]:
        """What became of every number, as of the last look, by gateway, epoch and stream; of all, or the incomplete."""
        accounts = self._ledger.accounts
        wanted = [key for key, account in accounts.items() if not (incomplete and account.complete)]
        return [self._tally(key, accounts[key]) for key in sorted(wanted)]

    def _look_at(self, gw: str, presence: Presence) -> None:
        before = self._calm.get(gw)
        same = before is not None and (before.conn, before.backlog) == (presence.conn, presence.backlog)
        if before is None or not presence.online or not same or before.since == inf:
            since = self._now if presence.online else inf
            self._calm[gw] = Calm(since, presence.conn, presence.backlog)
        if before and before.conn and presence.conn and before.conn[0] != presence.conn[0]:
            for key in [key for key in self._searches if key[0] == gw]:  # a new run: it may know more
                self._searches[key].rounds.clear()
                self._searches[key].unanswered = Spans()

    def _is_calm(self, gw: str) -> bool:
        calm = self._calm.get(gw)
        return calm is not None and calm.since + self._grace <= self._now

    def _tally(self, key: Key, account: Account) -> Tally:
        missing = account.missing()
        unexplained = self._unexplained(key, account)
        on_its_way = Spans(missing)
        for span in unexplained:
            on_its_way.remove(*span)
        return Tally(
            *key,
            account.highest,
            tuple(account.seen),
            tuple(account.dropped),
            tuple(account.lost),
            tuple(on_its_way),
            unexplained,
            tuple(account.before),
            account.unknown_above,
            account.complete,
        )

    def _unexplained(self, key: Key, account: Account) -> Ranges:
        search = self._searches.get(key)
        if search is None or not self._is_calm(key[0]):
            return ()
        old = _old(account, search)
        return _both(old, search.unanswered) if self._asks else old


def _old(account: Account, search: Search) -> Ranges:
    """The old gaps that the gateway does not say it will send."""
    gaps = Spans(account.known.gaps(search.old))
    for span in account.pending:
        gaps.remove(*span)
    return tuple(gaps)


def _both(ranges: Iterable[tuple[int, int]], numbers: Spans) -> Ranges:
    return tuple(span for first, last in ranges for span in numbers.overlap(first, last))

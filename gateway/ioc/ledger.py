"""What has arrived, per gateway, epoch and stream: makes at-least-once exactly once, and sees what is missing. Pure.

Memory grows with the number of gaps, not with the number of messages.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, NamedTuple

from gateway.ioc.decode import Message
from gateway.model import Ranges

_CORRECTED, _UNSYNCED = "corrected", "unsynced"  # values of `clk`
_MAX_PARTED = 1000  # batches of which some parts are still missing
_MAX_SEQ = 2**62


class Verdict(StrEnum):
    """What a message is. DUPLICATE is false: its readings are already there."""

    NEW = "new"
    BETTER = "better"
    """The same batch again, its time corrected: its readings replace the ones before."""
    DUPLICATE = ""


class Acknowledgement(NamedTuple):
    """What to send as `dn/ack`."""

    gw: str
    epoch: str
    stream: str
    ranges: Ranges


class Numbers:
    """A set of positive integers as closed ranges, ascending and never adjacent."""

    __slots__ = ("_firsts", "_lasts")

    def __init__(self) -> None:
        self._firsts: list[int] = []
        self._lasts: list[int] = []

    def add(self, first: int, last: int | None = None) -> None:
        """Add one number, or all from `first` to `last`."""
        last = first if last is None else last
        i = bisect_left(self._lasts, first - 1)
        j = bisect_right(self._firsts, last + 1)
        if i < j:
            first, last = min(first, self._firsts[i]), max(last, self._lasts[j - 1])
        self._firsts[i:j], self._lasts[i:j] = [first], [last]

    def remove(self, number: int) -> None:
        """Take one number out, if it is there."""
        if number in self:
            i = bisect_left(self._lasts, number)
            first, last = self._firsts[i], self._lasts[i]
            rest = [(a, b) for a, b in ((first, number - 1), (number + 1, last)) if a <= b]
            self._firsts[i : i + 1] = [a for a, _ in rest]
            self._lasts[i : i + 1] = [b for _, b in rest]

    def __contains__(self, number: int) -> bool:
        i = bisect_left(self._lasts, number)
        return i < len(self._firsts) and self._firsts[i] <= number

    def __iter__(self) -> Iterator[tuple[int, int]]:
        return iter(zip(self._firsts, self._lasts, strict=True))

    def __len__(self) -> int:
        return sum(last - first + 1 for first, last in self)

    @property
    def highest(self) -> int:
        return self._lasts[-1] if self._lasts else 0

    def gaps(self, end: int) -> Ranges:
        """What is missing from 1 to `end`."""
        missing, next_one = [], 1
        for first, last in self:
            if first > end:
                break
            if first > next_one:
                missing.append((next_one, first - 1))
            next_one = last + 1
        if next_one <= end:
            missing.append((next_one, end))
        return tuple(missing)


@dataclass(slots=True)
class Account:
    """One stream of one epoch. `excused` numbers were announced as dropped; `ended` is "", "clean" or "unclean"."""

    seen: Numbers = field(default_factory=Numbers)
    excused: Numbers = field(default_factory=Numbers)
    unsynced: Numbers = field(default_factory=Numbers)
    to_acknowledge: Numbers = field(default_factory=Numbers)
    ended: str = ""
    announced: int = 0
    """The highest number that the gateway itself has named."""

    def missing(self) -> Ranges:
        """Gaps below the highest number known: dropped without a word, lost, or still on their way."""
        settled = Numbers()
        for first, last in (*self.seen, *self.excused):
            settled.add(first, last)
        return settled.gaps(max(settled.highest, self.announced))

    @property
    def unknown_above(self) -> int | None:
        """After an unclean end nobody knows what came above this number: at most the loss window."""
        return max(self.seen.highest, self.excused.highest, self.announced) if self.ended == "unclean" else None


@dataclass(slots=True)
class Parted:
    """A batch that comes in parts."""

    clk: str
    arrived: set[int] = field(default_factory=set)


class Ledger:
    """The books of all gateways."""

    def __init__(self) -> None:
        self.accounts: dict[tuple[str, str, str], Account] = {}
        self.duplicates = 0
        self._parted: OrderedDict[tuple[str, str, str, int, int], Parted] = OrderedDict()

    def record(self, message: Message) -> Verdict:
        """Enter a message; says whether its readings are to be used."""
        verdict = self._enter(message)
        self.duplicates += verdict is Verdict.DUPLICATE
        return verdict

    def committed(self, message: Message) -> None:
        """The receiver has stored the message: a whole batch is acknowledged next, a duplicate once more."""
        account = self._account(message.gw, message.epoch, message.stream)
        if message.seq in account.seen:
            account.to_acknowledge.add(message.seq)

    def excuse(self, gw: str, epoch: str, stream: str, ranges: Iterable[tuple[int, int]]) -> None:
        """These numbers will never come: the gateway has said that it dropped them."""
        account = self._account(gw, epoch, stream)
        for first, last in ranges:
            account.excused.add(first, last)

    def announce(self, gw: str, epochs: Iterable[Mapping[str, Any]]) -> None:
        """Take in `up/epochs`: how earlier epochs ended and what of them is still to come."""
        for entry in epochs:
            match entry:
                case {"epoch": str(epoch), "ended": str(ended)}:
                    pass
                case _:
                    continue
            streams = entry.get("streams")
            for stream, part in (streams if isinstance(streams, Mapping) else {"t": entry}).items():
                account = self._account(gw, epoch, str(stream))
                account.ended = ended
                high = part.get("highest_on_disk") if isinstance(part, Mapping) else None
                if isinstance(high, int) and 0 <= high <= _MAX_SEQ:
                    account.announced = max(account.announced, high)

    def acknowledgements(self) -> list[Acknowledgement]:
        """What has been committed since the last call."""
        found = []
        for (gw, epoch, stream), account in self.accounts.items():
            if account.to_acknowledge:
                found.append(Acknowledgement(gw, epoch, stream, tuple(account.to_acknowledge)))
                account.to_acknowledge = Numbers()
        return found

    def missing(self) -> dict[tuple[str, str, str], Ranges]:
        """The gaps, by (gateway, epoch, stream); only where there are any."""
        return {key: gaps for key, account in self.accounts.items() if (gaps := account.missing())}

    def _account(self, gw: str, epoch: str, stream: str) -> Account:
        return self.accounts.setdefault((gw, epoch, stream), Account())

    def _enter(self, message: Message) -> Verdict:
        gw, epoch, stream, seq, part = message.key
        account = self._account(gw, epoch, stream)
        better = message.clk == _CORRECTED and seq in account.unsynced
        if seq in account.seen and not better:
            return Verdict.DUPLICATE
        verdict = Verdict.BETTER if better else Verdict.NEW
        if part:
            key = (gw, epoch, stream, seq, part[1])
            parted = self._parted.setdefault(key, Parted(message.clk))
            if message.clk == _CORRECTED and parted.clk == _UNSYNCED:
                self._parted[key] = parted = Parted(message.clk)
                verdict = Verdict.BETTER
            if part[0] in parted.arrived:
                return Verdict.DUPLICATE
            parted.arrived.add(part[0])
            if len(parted.arrived) < part[1]:
                self._forget_parts()
                return verdict
            del self._parted[key]
        account.seen.add(seq)
        if message.clk == _UNSYNCED:
            account.unsynced.add(seq)
        elif better:
            account.unsynced.remove(seq)
        return verdict

    def _forget_parts(self) -> None:
        while len(self._parted) > _MAX_PARTED:
            self._parted.popitem(last=False)

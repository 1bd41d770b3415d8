"""What has arrived, per gateway, epoch and stream: makes at-least-once exactly once, and sees what is missing. Pure.

Memory grows with the number of gaps, not with the number of messages.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from itertools import islice
from typing import Any, NamedTuple, Self

from gateway.ioc.decode import Message
from gateway.model import Ranges
from gateway.spans import Spans

Key = tuple[str, str, str]
"""(gateway, epoch, stream)."""

_CORRECTED, _UNSYNCED = "corrected", "unsynced"  # values of `clk`
_UNCLEAN = "unclean"
_MAX_PARTED = 1000  # batches of which some parts are still missing
_MAX_ACCOUNTS = 300
"""Of one gateway: the last hundred runs. Of those before only what is not closed is kept."""
_MAX_SEQ = 2**62
_MAX_RANGES, _MAX_ENTRIES = 10_000, 1000  # of one message; the agent names at most 200 ranges


class Verdict(StrEnum):
    """What a message is. DUPLICATE is false: its readings are already there."""

    NEW = "new"
    BETTER = "better"
    """The same batch again, its time corrected: its readings replace the ones before."""
    DUPLICATE = ""


class Batches(NamedTuple):
    """Batches by their numbers: what `dn/ack` and `dn/resend` say."""

    gw: str
    epoch: str
    stream: str
    ranges: Ranges


@dataclass(slots=True)
class Account:
    """One stream of one epoch. The sets of numbers are disjoint; `known` is all of them together."""

    boot: str = ""
    ended: str = ""
    """As the gateway says: "", "clean" or "unclean"."""
    announced: int = 0
    """The highest number that the gateway itself has named."""
    seen: Spans = field(default_factory=Spans)
    dropped: Spans = field(default_factory=Spans)
    """The gateway gave them up, and said so."""
    lost: Spans = field(default_factory=Spans)
    """Asked for, and the gateway has them no more."""
    before: Spans = field(default_factory=Spans)
    """Sent before this ledger was there."""
    known: Spans = field(default_factory=Spans)
    pending: Spans = field(default_factory=Spans)
    """The gateway will still send them, it says."""
    unsynced: Spans = field(default_factory=Spans)
    """Of those seen: their times are wrong until they are corrected."""
    introduced: bool = False

    @property
    def highest(self) -> int:
        """The highest number that anything was heard of."""
        return max(self.known.last or 0, self.announced)

    @property
    def whole(self) -> bool:
        """Of every number up to the highest it is known what became of it."""
        return self.known.reaches(self.highest)

    def missing(self) -> Ranges:
        """The numbers below the highest of which nothing is known yet."""
        return self.known.gaps(self.highest)

    @property
    def unknown_above(self) -> int | None:
        """After an unclean end nobody knows what came above this number: at most the loss window."""
        return self.highest if self.ended == _UNCLEAN else None

    @property
    def complete(self) -> bool:
        """Everything that the gateway has stored is here."""
        return self.whole and not (self.dropped or self.lost or self.ended == _UNCLEAN)

    @property
    def closed(self) -> bool:
        """Nothing is to be expected any more."""
        return self.whole and bool(self.ended) and not (self.pending or self.unsynced)

    def arrived(self, seq: int) -> None:
        """A whole batch is there, whatever was said about it before."""
        for numbers in (self.dropped, self.lost, self.before):
            numbers.remove(seq)
        self.seen.add(seq)
        self.known.add(seq)

    def drop(self, first: int, last: int) -> None:
        """The gateway gave these up. What has arrived all the same stays arrived."""
        for a, b in self.seen.gaps(last, first):
            self.lost.remove(a, b)
            self.before.remove(a, b)
            self.dropped.add(a, b)
            self.known.add(a, b)

    def lose(self, first: int, last: int) -> None:
        """The gateway has these no more."""
        for a, b in self.seen.gaps(last, first):
            for c, d in self.dropped.gaps(b, a):
                self.before.remove(c, d)
                self.lost.add(c, d)
                self.known.add(c, d)

    def save(self) -> list[Any]:
        """All of it but `known`, which follows, and `pending`, which the gateway says again."""
        sets = self.seen, self.dropped, self.lost, self.before, self.unsynced
        return [self.boot, self.ended, self.announced, self.introduced, *map(list, sets)]

    def load(self, boot: str, ended: str, announced: int, introduced: bool, *sets: Ranges) -> None:
        self.boot, self.ended, self.announced, self.introduced = boot, ended, announced, introduced
        self.seen, self.dropped, self.lost, self.before, self.unsynced = map(Spans, sets)
        self.known = Spans(span for part in sets[:4] for span in part)

    def ignore(self, ranges: Ranges) -> None:
        """These came before the ledger's time."""
        for gap in ranges:
            for a, b in self.known.gaps(gap[1], gap[0]):
                self.before.add(a, b)
                self.known.add(a, b)


@dataclass(slots=True)
class Parted:
    """A batch that comes in parts."""

    clk: str
    boot: str
    arrived: set[int] = field(default_factory=set)


@dataclass(slots=True)
class Presence:
    """Whether a gateway is there. `conn` is (epoch, connection counter), `joined` the epoch that was met first."""

    online: bool = True
    conn: tuple[str, int] | None = None
    joined: str = ""
    begun: set[str] = field(default_factory=set)
    """Epochs that have begun since."""
    backlog: int = 0
    """Historical messages that have arrived, and were new."""


class Ledger:
    """The books of all gateways.

    `from_now`: whoever listens has no past, so what an epoch sent before its first message here is not missing.
    """

    def __init__(self, *, from_now: bool = False) -> None:
        self.accounts: dict[Key, Account] = {}
        self.presences: dict[str, Presence] = {}
        self.duplicates = 0
        self._from_now = from_now
        self._of: dict[str, list[Key]] = {}
        self._to_acknowledge: dict[Key, Spans] = {}
        self._parted: OrderedDict[tuple[str, str, str, int, int], Parted] = OrderedDict()

    # ---- messages

    def record(self, message: Message) -> Verdict:
        """Enter a message; says whether its readings are to be used."""
        verdict = self._enter(message)
        self.duplicates += verdict is Verdict.DUPLICATE
        self.presence(message.gw).backlog += message.hist and bool(verdict)
        return verdict

    def committed(self, message: Message) -> None:
        """The receiver has stored the message: a whole batch is acknowledged next, a duplicate once more."""
        key = message.gw, message.epoch, message.stream
        if message.seq in self._account(key).seen:
            self._to_acknowledge.setdefault(key, Spans()).add(message.seq)

    def acknowledgements(self) -> list[Batches]:
        """What has been committed since the last call."""
        found = [Batches(*key, tuple(numbers)) for key, numbers in self._to_acknowledge.items()]
        self._to_acknowledge.clear()
        return found

    # ---- what gateways say about their batches

    def status(self, gw: str, body: Mapping[str, Any]) -> bool:
        """Take in `up/status`. False: a death of an earlier connection, which nobody may believe."""
        presence, online = self.presence(gw), body.get("online") is not False
        match body.get("conn"):
            case [str(epoch), int(connection)]:
                conn = epoch, connection
            case _:
                presence.online = online
                return True
        if not online and presence.conn not in (None, conn):
            return False
        presence.online, presence.conn = online, conn
        presence.joined = presence.joined or epoch
        if epoch != presence.joined:
            presence.begun.add(epoch)
        return True

    def announce(self, gw: str, epochs: Iterable[Any], current: str = "") -> None:
        """Take in `up/epochs`: how earlier epochs ended and what of them is still to come.

        Of an earlier epoch that is not named any more all is settled.
        """
        named = set()
        for entry in islice(epochs, _MAX_ENTRIES):
            match entry:
                case {"epoch": str(epoch), "ended": str(ended)}:
                    pass
                case _:
                    continue
            named.add(epoch)
            streams = entry.get("streams")
            for stream, part in islice((streams if isinstance(streams, Mapping) else {"t": entry}).items(), 3):
                self._introduce((gw, epoch, str(stream)), ended, part if isinstance(part, Mapping) else {})
        for key in self._of.get(gw, ()) if current else ():
            if key[1] not in named and key[1] != current:
                account = self.accounts[key]
                account.pending, account.ended = Spans(), account.ended or "clean"

    def drop(self, gw: str, entries: object) -> None:
        """The gateway has given up batches: `data.dropped` of an event, [{epoch, stream, ranges}]."""
        for key, ranges in _entries(gw, entries):
            account = self._account(key)
            for first, last in ranges:
                account.drop(first, last)

    def lose(self, gw: str, entries: object) -> None:
        """The gateway has not these any more: `data.missing` of the event that answers a `dn/resend`."""
        for key, ranges in _entries(gw, entries):
            account = self._account(key)
            for first, last in ranges:
                account.lose(first, last)

    def correct(self, gw: str, boot: str) -> tuple[Batches, ...]:
        """The anchor of a boot is known: its unsynchronised batches count as corrected from now on. Returns them."""
        found: dict[Key, Spans] = {}
        for key in self._of.get(gw, ()):
            account = self.accounts[key]
            if account.boot == boot and account.unsynced:
                found[key], account.unsynced = account.unsynced, Spans()
        for (owner, epoch, stream, seq, _), parted in self._parted.items():
            if owner == gw and parted.boot == boot and parted.clk == _UNSYNCED:
                parted.clk = _CORRECTED
                found.setdefault((gw, epoch, stream), Spans()).add(seq)
        return tuple(Batches(*key, tuple(numbers)) for key, numbers in found.items())

    # ---- kept

    def save(self) -> dict[str, Any]:
        """The books as JSON can hold them, to be kept beside the readings: whoever forgets them asks for everything."""
        return {"v": 1, "accounts": [[*key, *account.save()] for key, account in self.accounts.items()]}

    @classmethod
    def load(cls, saved: Mapping[str, Any]) -> Self:
        """The books again, as `save` gave them; ValueError when they are something else."""
        if saved.get("v") != 1:
            raise ValueError(f"the books are of version {saved.get('v')!r}, this ledger knows version 1")
        ledger = cls()
        try:
            for gw, epoch, stream, *rest in saved["accounts"]:
                ledger._account((gw, epoch, stream)).load(*rest)
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"these are not the books of a ledger: {error!r}") from error
        return ledger

    # ---- what is missing

    def missing(self) -> dict[Key, Ranges]:
        """The gaps of which nothing is known, by (gateway, epoch, stream); only where there are any."""
        return {key: account.missing() for key, account in self.accounts.items() if not account.whole}

    def presence(self, gw: str) -> Presence:
        return self.presences.setdefault(gw, Presence())

    # ---- within

    def _account(self, key: Key) -> Account:
        account = self.accounts.get(key)
        if account is None:
            account = self.accounts[key] = Account()
            keys = self._of.setdefault(key[0], [])
            keys.append(key)
            if len(keys) > _MAX_ACCOUNTS:
                self._forget_oldest(keys)
        return account

    def _forget_oldest(self, keys: list[Key]) -> None:
        """Forget the first account that is closed: nobody sends anything of a run of so long ago."""
        for key in keys[:-1]:
            if self.accounts[key].closed and key not in self._to_acknowledge:
                keys.remove(key)
                del self.accounts[key]
                return

    def _met_late(self, key: Key) -> bool:
        """The epoch has sent something before anybody listened here."""
        return self._from_now and key[1] not in self.presence(key[0]).begun

    def _introduce(self, key: Key, ended: str, part: Mapping[str, Any]) -> None:
        account, high, pending = self._account(key), part.get("highest_on_disk"), part.get("pending")
        account.pending = Spans(_ranges(pending))
        account.ended = account.ended if account.ended == _UNCLEAN else ended
        account.announced = max(account.announced, account.pending.last or 0)
        if isinstance(high, int) and 0 <= high <= _MAX_SEQ:
            account.announced = max(account.announced, high)
        heard_live = bool(account.seen) and key[1] == self.presence(key[0]).joined
        if not account.introduced and self._met_late(key) and not heard_live:
            account.ignore(account.pending.gaps(account.announced))
        account.introduced = True

    def _enter(self, message: Message) -> Verdict:
        key, seq, part = (message.gw, message.epoch, message.stream), message.seq, message.part
        account = self._account(key)
        better = message.clk == _CORRECTED and seq in account.unsynced
        if seq in account.seen and not better:
            return Verdict.DUPLICATE
        if seq > 1 and not account.seen and not account.introduced and self._met_late(key):
            account.ignore(((1, seq - 1),))
        verdict = Verdict.BETTER if better else Verdict.NEW
        if part:
            verdict, whole = self._enter_part(message, part, verdict)
            if not whole:
                return verdict
        account.arrived(seq)
        account.boot = account.boot or message.boot
        if message.clk == _UNSYNCED:
            account.unsynced.add(seq)
        elif better:
            account.unsynced.remove(seq)
        return verdict

    def _enter_part(self, message: Message, part: tuple[int, int], verdict: Verdict) -> tuple[Verdict, bool]:
        """Returns the part's verdict, and whether it makes the batch whole."""
        key = (message.gw, message.epoch, message.stream, message.seq, part[1])
        parted = self._parted.setdefault(key, Parted(message.clk, message.boot))
        if message.clk == _CORRECTED and parted.clk == _UNSYNCED:
            self._parted[key] = parted = Parted(message.clk, message.boot)
            verdict = Verdict.BETTER
        if part[0] in parted.arrived:
            return Verdict.DUPLICATE, False
        parted.arrived.add(part[0])
        if len(parted.arrived) == part[1]:
            del self._parted[key]
            return verdict, True
        while len(self._parted) > _MAX_PARTED:
            self._parted.popitem(last=False)
        return verdict, False


def _entries(gw: str, entries: object) -> Iterable[tuple[Key, Ranges]]:
    """[{epoch, stream, ranges}] of an event; what does not follow the contract is left out."""
    for entry in entries[:_MAX_ENTRIES] if isinstance(entries, list) else ():
        match entry:
            case {"epoch": str(epoch), "stream": str(stream), "ranges": list(ranges)}:
                yield (gw, epoch, stream), _ranges(ranges)


def _ranges(items: object) -> Ranges:
    return tuple(filter(None, map(_range, items[:_MAX_RANGES]))) if isinstance(items, list) else ()


def _range(item: object) -> tuple[int, int] | None:
    match item:
        case [int(first), int(last)] if 1 <= first <= last <= _MAX_SEQ:
            return first, last
    return None

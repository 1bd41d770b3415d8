"""Which batch is where: in memory, on disk, in flight, settled. Pure.

Every batch has one place: `tail` (closed, not committed), `stored` (committed, not settled) or, once settled, `kept` or
`freed` (committed, to be deleted). Beside that a batch is in flight, or waits in a queue, or is parked (not given until
somebody asks for it), or was given up (`losses`). Only what was given can be settled.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import replace
from math import inf
from typing import Any

from gateway.model import Batch
from gateway.spans import Span, Spans
from gateway.store.job import Done, Found, Job, Known
from gateway.store.losses import Losses
from gateway.store.outlet import Outlet
from gateway.store.places import Closed, Count, Queue, inside
from gateway.store.rows import LANES, STREAMS, firsts, lane, parts, row_id
from gateway.store.runs import Runs


class Book:
    """Where every batch of the store is. `strict`: nothing uncommitted is given; `keep`: settled batches stay."""

    def __init__(self, strict: bool, keep: bool) -> None:
        self._strict, self._keep = strict, keep
        self.runs = Runs()
        self.seqs = dict.fromkeys(STREAMS, 0)
        self.tail: dict[int, Closed] = {}
        self.tail_bytes = 0
        self.outlet = Outlet(self.tail)
        self.flight: dict[int, int] = {}
        self.stored, self.kept, self.freed, self._unflagged, self._uncounted = (Spans() for _ in range(5))
        self.losses = Losses()
        self.missing, self._later, self._known = Spans(), Spans(), Known()
        self.recovered, self.appended, self.acked, self.dropped = Count(), Count(), Count(), Count()
        self.held_readings = self.stored_readings = self.committed_readings = self._missing_readings = 0
        self.oldest: int | None = None

    # ---- in and out

    def put(self, batch: Batch, now: float) -> None:
        """Take a batch that has just been closed."""
        identity = row_id(batch.stream, self.runs.number, batch.seq)
        closed = self.tail[identity] = Closed(batch, now)
        self.tail_bytes += closed.size
        self.held_readings += batch.count
        self.appended.batches += 1
        if not self._strict:
            self.outlet.offer(identity)

    def take(self, backlog: bool, without: Collection[str] = ()) -> Batch | None:
        """Give the next batch, but of none of these streams: events and commands, then live, then backlog."""
        found = self.outlet.next(backlog, without)
        if found is None:
            return None
        identity, batch = found
        if batch is None:
            return self._taken(identity)
        self.flight[identity] = batch.count
        return batch

    def _taken(self, identity: int) -> Batch:
        closed = self.tail[identity]
        closed.taken = True
        if closed.stored:
            self._leave(identity)
            self.flight[identity] = closed.batch.count
        return replace(closed.batch, historical=True) if closed.again else closed.batch

    def _leave(self, identity: int) -> Closed:
        closed = self.tail.pop(identity)
        self.tail_bytes -= closed.size
        return closed

    def _forget(self, identity: int) -> Closed:
        """Let a batch go that is not committed, as far as one knows."""
        closed = self._leave(identity)
        if closed.doubtful:
            self.freed.add(identity, identity)
        return closed

    def fetched(self, queue: Queue, whole: list[tuple[int, Batch]], bad: list[tuple[int, int]]) -> None:
        """Rows came from disk; the damaged ones are given up."""
        for identity, readings in bad:
            self._give_up(identity, readings, "store-damaged")
            self.freed.add(identity, identity)
        if not queue.stale:
            queue.chunk.extend(whole)
        queue.stale = False

    # ---- settled, released, asked for again

    def settle(self, first: int, last: int) -> int:
        """Free these rows, as far as this run has given them; returns how many were known."""
        return sum(self._settle(*span) for span in self.outlet.given.overlap(first, last))

    def _settle(self, first: int, last: int) -> int:
        known = 0
        for span in self.missing.overlap(first, last):
            self._later.add(*span)
            known += _size(span)
        again = sum(map(_size, self.kept.overlap(first, last)))
        readings, counted = 0, Spans()
        for identity in inside(self.tail, first, last):
            closed = self.tail[identity]
            if closed.stored:
                self._leave(identity)
                counted.add(identity, identity)
                readings += closed.batch.count
                continue
            known += 1
            if not closed.settled:
                self._settle_closed(identity, closed)
        cut = Spans(self.stored.remove(first, last))
        for identity in inside(self.flight, first, last):
            if identity not in self.missing:
                count = self.flight.pop(identity)
                if identity in cut:
                    counted.add(identity, identity)
                    readings += count
        self._settle_stored(cut, counted, readings)
        self.outlet.remove(first, last)
        return known + again + cut.count

    def _settle_closed(self, identity: int, closed: Closed) -> None:
        self.held_readings -= closed.batch.count
        self.acked.add(closed.batch.count, 1)
        if self._keep:
            closed.settled = True
        else:
            self._forget(identity)

    def _settle_stored(self, cut: Spans, counted: Spans, readings: int) -> None:
        """Count the batches now; readings of rows that were not in memory are counted by the next job."""
        self.acked.add(readings, cut.count)
        self.stored_readings -= readings
        for span in cut:
            (self.kept if self._keep else self.freed).add(*span)
            if self._keep:
                self._unflagged.add(*span)
            self._uncounted.add(*span)
        for span in counted:
            self._uncounted.remove(*span)

    def release(self, identities: Iterable[int] | None) -> None:
        """These, or all, are not in flight any more: they will be given again, as historical."""
        for identity in list(identities) if identities is not None else [*self.tail, *self.flight]:
            closed = self.tail.get(identity)
            if closed and closed.taken and not closed.settled:
                closed.taken, closed.again = False, True
                self.outlet.again(identity)
            if self.flight.pop(identity, None) is not None and (identity in self.stored or identity in self.kept):
                self.outlet.back(identity, identity)

    def resend(self, first: int, last: int) -> Spans:
        """Give these rows again, parked ones too; returns which of them there are."""
        self.unpark(first, last)
        held = [i for i in inside(self.tail, first, last) if not self.tail[i].settled]
        self.release([*held, *inside(self.flight, first, last)])
        kept = self.kept.overlap(first, last)
        for span in kept:
            self.outlet.back(*span)
        return Spans([*((i, i) for i in held), *kept, *self.stored.overlap(first, last)])

    def park(self, identity: int) -> None:
        """Give this row no more until it is asked for: it is of no use to whom it was given."""
        closed = self.tail.get(identity)
        if closed:
            closed.taken = False
        if closed or self.flight.pop(identity, None) is not None:
            self.outlet.park(identity)

    def unpark(self, first: int, last: int) -> int:
        """Give the parked ones of these rows again, as historical; returns how many there are."""
        spans = self.outlet.unpark(first, last)
        for span in spans:
            for identity in inside(self.tail, *span):
                self.tail[identity].again = True
                self.outlet.again(identity)
            for waiting in self.stored.overlap(*span):
                self.outlet.back(*waiting)
        return sum(map(_size, spans))

    # ---- to disk

    def job(self, limit: int, free_now: bool) -> Job:
        """Everything that waits for the disk, rows up to `limit` bytes of data (0: none), oldest first."""
        job = Job(free_now=free_now, lost_changed=self.losses.changed)
        size = 0
        for identity, closed in self.tail.items() if limit else ():
            if not closed.stored:
                size += closed.size
                if job.rows and size > limit:
                    break
                job.rows.append((identity, closed.batch, closed.settled))
        uncommitted = {identity for identity in self.tail if not self.tail[identity].stored}
        job.lost = self.losses.to_write(uncommitted, {row[0] for row in job.rows})
        job.free, job.keep, job.uncounted = list(self.freed), list(self._unflagged), list(self._uncounted)
        job.kept = self.kept.copy()
        job.spared = frozenset(self.flight)
        job.firsts = firsts(self.stored)
        self.losses.changed = False
        return job

    def committed(self, job: Job, done: Done) -> None:
        """The job is on disk: what has changed meanwhile is sorted out here."""
        for identity in [identity for identity, closed in self.tail.items() if closed.stored]:
            self._leave(identity)  # was live for a whole commit, and nobody took it
            self.outlet.on_disk(identity, identity)
        for identity, batch, kept in job.rows:
            self._row_committed(identity, batch, kept)
        if done.freed:
            for span in job.free:
                self.freed.remove(*span)
        for span in job.keep:
            self._unflagged.remove(*span)
        for span in job.uncounted:
            self._uncounted.remove(*span)
        self.acked.readings += done.counted
        self.stored_readings -= done.counted
        for span in done.unkept:
            self.kept.remove(*span)
            self._unflagged.remove(*span)
            self.outlet.remove(*span)
        for identity, readings in done.dropped:
            self._give_up(identity, readings, "store-full")
        self.oldest = done.figures.oldest
        self.outlet.prune()

    def _row_committed(self, identity: int, batch: Batch, kept: bool) -> None:
        self.committed_readings += batch.count
        closed = self.tail.get(identity)
        if closed is None:  # settled or given up while it was written
            self.freed.add(identity, identity)
            return
        if closed.settled:
            self._leave(identity)
            self.kept.add(identity, identity)
            if not kept:
                self._unflagged.add(identity, identity)
            return
        self.stored.add(identity, identity)
        self.held_readings -= batch.count
        self.stored_readings += batch.count
        if self._strict:
            closed.stored = True
            self.outlet.offer(identity)
            return
        self._leave(identity)
        if closed.taken:
            self.flight[identity] = batch.count
        else:
            self.outlet.on_disk(identity, identity)

    def failed(self, job: Job) -> None:
        """The job is not on disk, as far as one knows."""
        self.losses.changed = self.losses.changed or job.lost_changed
        for identity, _, _ in job.rows:
            if identity in self.tail:
                self.tail[identity].doubtful = True
            else:
                self.freed.add(identity, identity)

    # ---- given up

    def _give_up(self, identity: int, readings: int, code: str) -> None:
        """A row is gone from the disk."""
        self.freed.remove(identity, identity)
        if self._uncounted.remove(identity, identity):  # was settled in the meantime
            self.stored_readings -= readings
            self.acked.readings += readings
        self.kept.remove(identity, identity)
        if self.stored.remove(identity, identity):
            self.stored_readings -= readings
            self.dropped.add(readings, 1)
            self.losses.note(code, identity, identity)
        self.outlet.remove(identity, identity)
        self.flight.pop(identity, None)
        if identity in self.tail:
            self._leave(identity)

    def shrink(self, limit: int) -> None:
        """Give up the oldest of the lowest priority until the tail is below `limit` bytes: the disk does not write."""
        if self.tail_bytes < limit:
            return
        self.outlet.prune()
        can_go = [i for i, closed in self.tail.items() if not closed.stored]
        for identity in sorted(can_go, key=lambda i: (self.tail[i].taken, -LANES[parts(i)[0]], i)):
            if self.tail_bytes < limit:
                return
            closed = self._forget(identity)
            self.outlet.remove(identity, identity)
            if not closed.settled:
                self.held_readings -= closed.batch.count
                self.dropped.add(closed.batch.count, 1)
                self.losses.note("store-disk", identity, identity)

    # ---- the database is opened (again)

    def reopening(self) -> Known:
        """Everything on disk is in doubt until it is found again."""
        for identity in [identity for identity, closed in self.tail.items() if closed.stored]:
            self._leave(identity)
        for spans, into in ((self.stored, self.missing), (self._uncounted, self._known.uncounted)):
            for span in spans:
                into.add(*span)
            spans.clear()
        self._missing_readings += self.stored_readings
        self.stored_readings = 0
        self.kept.clear()
        self.outlet.reset()
        self._known.ignore, self._known.kept = self.freed.copy(), self._unflagged.copy()
        for identity in self.tail:
            self._known.ignore.add(identity, identity)
        return self._known

    def absorb(self, found: Found) -> None:
        """Rows were found on disk: recovered from an earlier run, or those that were in doubt."""
        doubted = bool(self.missing)
        self.runs.found(found.runs)
        for first, last in found.pending:
            again = sum(map(_size, self.missing.remove(first, last)))
            self.recovered.batches += _size((first, last)) - again
            self.stored.add(first, last)
            self.outlet.back(first, last)
            for identity in inside(self.flight, first, last):
                self.outlet.hold(identity, identity)
        for span in found.kept:
            self.kept.add(*span)
        self.stored_readings += found.readings
        self.acked.readings += found.counted
        self._missing_readings -= found.counted
        if doubted:
            self._missing_readings -= found.readings
        else:
            self.recovered.readings += found.readings

    def reopened(self) -> None:
        """All that can be found has been found: the rest is lost."""
        for first, last in self.missing:
            self.losses.note("store-damaged", first, last)
            self.outlet.remove(first, last)
            for identity in inside(self.flight, first, last):
                del self.flight[identity]
        # Readings without a batch belong to settled rows whose deletion was on disk although it seemed to fail.
        count = self.dropped if self.missing else self.acked
        count.add(self._missing_readings, self.missing.count)
        self._missing_readings = 0
        self.missing.clear()
        self._known = Known()
        later, self._later = self._later, Spans()
        for span in later:
            self._settle(*span)

    # ---- to look at

    @property
    def waiting_deletes(self) -> int:
        """Settled rows whose deletion, or mark, is still to be written."""
        return self.freed.count + self._unflagged.count

    def waits_since(self, now: float) -> bool:
        """Whether something that was closed by then is not committed."""
        return any(closed.at <= now and not closed.stored for closed in self.tail.values())

    def closed_since(self) -> float:
        """When the oldest batch that is not committed was closed, in monotonic seconds; infinity when there is none."""
        return next((closed.at for closed in self.tail.values() if not closed.stored), inf)

    def is_all(self, job: Job) -> bool:
        """Whether the job leaves no closed batch behind."""
        return len(job.rows) == sum(not closed.stored for closed in self.tail.values())

    def newest(self, stream: str) -> int:
        """Row id of the last closed batch of the stream in this run."""
        return row_id(stream, self.runs.number, self.seqs[stream])

    def oldest_pending(self, stream: str) -> int | None:
        """Row id of the oldest closed batch of the stream that is neither settled nor given up."""
        first, last = lane(stream)
        ids = [identity for identity, closed in self.tail.items() if first <= identity <= last and not closed.settled]
        ids += [span[0] for spans in (self.stored, self.missing) for span in spans.overlap(first, last)[:1]]
        return min(ids, default=None)

    def earlier_epochs(self) -> list[dict[str, Any]]:
        return self.runs.earlier(Spans([*self.stored, *self.missing]))

    def pending(self) -> Count:
        """What is neither settled nor given up, the open batch aside."""
        unsettled = sum(not closed.settled and not closed.stored for closed in self.tail.values())
        readings = self.held_readings + self.stored_readings + self._missing_readings
        return Count(readings, unsettled + self.stored.count + self.missing.count)


def _size(span: Span) -> int:
    return span[1] - span[0] + 1

"""Which batch goes out next, and which were given already: events and commands, then live, then backlog. Pure."""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Mapping
from heapq import heappop, heappush

from gateway.model import Batch
from gateway.spans import Span, Spans
from gateway.store.places import Closed, Queue
from gateway.store.rows import STREAMS, parts


class Outlet:
    """The row ids that wait to be given. `tail` is the book's: what is in memory; `readable`: the disk can be asked.

    `given` are those that went out in this run: nobody can have any other. `parked` are not given until `unpark`.
    """

    def __init__(self, tail: Mapping[int, Closed]) -> None:
        self._tail = tail
        self._live: deque[int] = deque()
        self._queues = {stream: Queue() for stream in STREAMS}
        self.given, self.parked = Spans(), Spans()
        self.readable = True

    def offer(self, identity: int) -> None:
        """A new batch is in the tail."""
        if parts(identity)[0] == "t":
            self._live.append(identity)
        else:
            heappush(self._of(identity).memory, identity)

    def again(self, identity: int) -> None:
        """A batch in the tail was released."""
        heappush(self._of(identity).memory, identity)

    def on_disk(self, first: int, last: int) -> None:
        """Rows just committed: they come after all others."""
        for span in self._unparked(first, last):
            self._of(first).disk.add(*span)

    def back(self, first: int, last: int) -> None:
        """Rows on disk to be given (again), perhaps before those already fetched."""
        for span in self._unparked(first, last):
            self._of(first).back(*span)

    def hold(self, first: int, last: int) -> None:
        """These rows on disk are in flight: they are not to be given now."""
        for queue in self._queues.values():
            queue.disk.remove(first, last)

    def remove(self, first: int, last: int) -> None:
        """These rows are settled or gone."""
        self.hold(first, last)
        self.given.remove(first, last)
        self.parked.remove(first, last)

    def park(self, identity: int) -> None:
        """A row that was given is not to be given again until `unpark`."""
        self.parked.add(identity, identity)

    def unpark(self, first: int, last: int) -> list[Span]:
        """These rows are to be given again: the caller brings back what was parked of them."""
        return self.parked.remove(first, last)

    def reset(self) -> None:
        """Nothing is known of the disk any more."""
        for queue in self._queues.values():
            queue.disk.clear()
            queue.chunk.clear()
            queue.stale = queue.fetching

    def next(self, backlog: bool, without: Collection[str] = ()) -> tuple[int, Batch | None] | None:
        """Take the next row id out; with its batch when that came from disk. Not from these streams."""
        events, commands, telemetry = (self._queues[stream] for stream in STREAMS)
        found: tuple[int, Batch | None] | None = None
        if "e" not in without:
            found = self._next(events)
        if found is None and "c" not in without and ("e" in without or not (self.readable and events.disk)):
            found = self._next(commands)  # they wait for events that are being read; live readings do not
        if found is None and "t" not in without:
            found = self._next_live() or (self._next(telemetry) if backlog else None)
        if found:
            self.given.add(found[0], found[0])
        return found

    def wants(self, backlog: bool, without: Collection[str] = ()) -> list[Queue]:
        """Queues whose next rows should be fetched."""
        wanted = [q for s, q in self._queues.items() if s not in without and (backlog or s != "t")]
        return [q for q in wanted if self.readable and q.disk and not q.chunk and not q.fetching]

    def prune(self) -> None:
        """Forget what has left the tail: nobody may be there to take it for weeks."""
        while self._live and not self._waits(self._live[0]):
            self._live.popleft()
        for queue in self._queues.values():
            while queue.memory and not self._waits(queue.memory[0]):
                heappop(queue.memory)

    def _of(self, identity: int) -> Queue:
        return self._queues[parts(identity)[0]]

    def _unparked(self, first: int, last: int) -> Spans:
        rest = Spans([(first, last)])
        for span in self.parked.overlap(first, last):
            rest.remove(*span)
        return rest

    def _waits(self, identity: int) -> bool:
        closed = self._tail.get(identity)
        return closed is not None and not closed.taken and not closed.settled

    def _next_live(self) -> tuple[int, None] | None:
        while self._live:
            identity = self._live.popleft()
            if self._waits(identity) and not self._tail[identity].again:
                return identity, None
        return None

    def _next(self, queue: Queue) -> tuple[int, Batch | None] | None:
        while queue.memory and not self._waits(queue.memory[0]):
            heappop(queue.memory)
        on_disk = queue.disk.first if self.readable else None
        if queue.memory and (on_disk is None or queue.memory[0] < on_disk):
            return heappop(queue.memory), None
        while queue.chunk:
            identity, batch = queue.chunk.popleft()
            if queue.disk.remove(identity, identity):
                return identity, batch
        return None

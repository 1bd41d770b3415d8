"""The runs of the agent that this store knows: row ids in the contract's words. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from gateway.spans import Span, Spans
from gateway.store.rows import LANES, LAST_SEQ, STREAMS, Run, parts, row_id, run_span


class Runs:
    """Every run by its number; `current` is the one that runs."""

    def __init__(self) -> None:
        self._all: dict[int, Run] = {}
        self._numbers: dict[str, int] = {}
        self.current = Run(0, "")

    @property
    def number(self) -> int:
        return self.current.number

    def start(self, run: Run) -> None:
        self._all[run.number] = self.current = run
        self._numbers[run.epoch] = run.number

    def found(self, runs: Mapping[int, Run]) -> None:
        """These were met on disk; what has not ended and is not the current one, ended unclean."""
        for number, run in runs.items():
            mine = self._all.get(number, run)
            e, c, t = map(max, mine.high, run.high)
            ended = mine.ended or ("" if number == self.number else "unclean")
            self._all[number] = replace(mine, ended=ended, high=(e, c, t))
            self._numbers[mine.epoch] = number

    def knows(self, epoch: str) -> bool:
        return epoch in self._numbers

    def spans(self, epoch: str, stream: str, ranges: Iterable[Span]) -> list[Span]:
        """Row ids of an epoch's sequence numbers; none of an epoch or stream that is not known."""
        number = self._numbers.get(epoch)
        if number is None or stream not in LANES:
            return []
        clipped = ((max(first, 1), min(last, LAST_SEQ)) for first, last in ranges)
        return [(row_id(stream, number, a), row_id(stream, number, b)) for a, b in clipped if a <= b]

    def sequences(self, spans: Iterable[Span]) -> list[dict[str, Any]]:
        """Row ids as [{epoch, stream, ranges}]."""
        found: dict[tuple[str, str], list[list[int]]] = {}
        for first, last in spans:
            stream, number, seq = parts(first)
            if number in self._all:  # else a damaged file has lost its name
                found.setdefault((self._all[number].epoch, stream), []).append([seq, parts(last)[2]])
        return [{"epoch": epoch, "stream": stream, "ranges": ranges} for (epoch, stream), ranges in found.items()]

    def earlier(self, pending: Spans) -> list[dict[str, Any]]:
        """Body of up/epochs: `pending` and `highest_on_disk` are telemetry's, `streams` has those of each stream."""
        body = []
        for number, run in sorted(self._all.items()):
            if number == self.number:
                continue
            streams: dict[str, dict[str, Any]] = {}
            for stream, high in zip(STREAMS, run.high, strict=True):
                waiting = pending.overlap(*run_span(stream, number))
                ranges = [[parts(first)[2], parts(last)[2]] for first, last in waiting]
                streams[stream] = {"pending": ranges, "highest_on_disk": high}
            if run.ended != "clean" or any(entry["pending"] for entry in streams.values()):
                body.append({"epoch": run.epoch, "ended": run.ended, **streams["t"], "streams": streams})
        return body

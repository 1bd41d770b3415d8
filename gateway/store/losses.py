"""What was given up, until it has been announced. Pure."""

from __future__ import annotations

from collections.abc import Container, Mapping

from gateway.spans import Span, Spans


class Losses:
    """Row ids by the code of their loss. `changed`: what stands on disk is out of date.

    What was announced by an event that is not on disk yet must stay there itself, lest a power cut takes both.
    """

    def __init__(self, spans: Mapping[str, Spans] | None = None) -> None:
        self.spans = dict(spans or {})
        self.changed = False
        self._announced: dict[int, tuple[str, Spans]] = {}

    def note(self, code: str, first: int, last: int) -> None:
        """These rows will never be given."""
        self.spans.setdefault(code, Spans()).add(first, last)
        self.changed = True

    def take(self, code: str, most: int) -> Spans:
        """Take out the first ranges of a code, to be announced now."""
        spans = Spans(list(self.spans[code])[:most])
        for span in spans:
            self.spans[code].remove(*span)
        if not self.spans[code]:
            del self.spans[code]
        self.changed = True
        return spans

    def among(self, first: int, last: int) -> list[Span]:
        """Which of these rows were given up, and nobody has been told yet."""
        return [span for spans in self.spans.values() for span in spans.overlap(first, last)]

    def announced(self, event: int, code: str, spans: Spans) -> None:
        """These were taken, and are told by the event with this row id."""
        self._announced[event] = code, spans

    def to_write(self, uncommitted: Container[int], job: Container[int]) -> dict[str, Spans]:
        """Return what is to stand on disk beside the rows of a job; `uncommitted` are the rows in memory alone."""
        self._announced = {event: told for event, told in self._announced.items() if event in uncommitted}
        written = {code: spans.copy() for code, spans in self.spans.items()}
        for code, spans in (told for event, told in self._announced.items() if event not in job):
            for span in spans:
                written.setdefault(code, Spans()).add(*span)
        return written

"""What was given up, until it has been announced. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from gateway.spans import Span, Spans


class Losses:
    """Row ids by the code of their loss. `changed`: what stands on disk is out of date."""

    def __init__(self, spans: Mapping[str, Spans] | None = None) -> None:
        self.spans = dict(spans or {})
        self.changed = False

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

    def copy(self) -> dict[str, Spans]:
        return {code: spans.copy() for code, spans in self.spans.items()}

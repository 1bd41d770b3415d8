"""Sets of integers that are mostly consecutive, kept as closed ranges. Pure."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator

Span = tuple[int, int]
"""A closed range: (first, last)."""


class Spans:
    """A set of integers as closed ranges: ascending, disjoint, never adjacent. Its size is that of its gaps.

    It has no length: list() would take that as a promise of so many ranges.
    """

    __slots__ = ("_count", "_firsts", "_lasts")

    def __init__(self, spans: Iterable[Span] = ()) -> None:
        self._firsts: list[int] = []
        self._lasts: list[int] = []
        self._count = 0
        for first, last in spans:
            self.add(first, last)

    def add(self, first: int, last: int | None = None) -> None:
        """Add one integer, or all from `first` to `last`."""
        last = first if last is None else last
        i = bisect_left(self._lasts, first - 1)
        j = bisect_right(self._firsts, last + 1)
        if i < j:
            first = min(first, self._firsts[i])
            last = max(last, self._lasts[j - 1])
            self._count -= sum(self._lasts[k] - self._firsts[k] + 1 for k in range(i, j))
        self._firsts[i:j] = [first]
        self._lasts[i:j] = [last]
        self._count += last - first + 1

    def remove(self, first: int, last: int | None = None) -> list[Span]:
        """Remove one integer, or all from `first` to `last`; returns what was really there."""
        last = first if last is None else last
        cut = self.overlap(first, last)
        if cut:
            i = bisect_left(self._lasts, first)
            j = bisect_right(self._firsts, last)
            rest = [(a, b) for a, b in ((self._firsts[i], first - 1), (last + 1, self._lasts[j - 1])) if a <= b]
            self._firsts[i:j] = [a for a, _ in rest]
            self._lasts[i:j] = [b for _, b in rest]
            self._count -= sum(b - a + 1 for a, b in cut)
        return cut

    def overlap(self, first: int, last: int) -> list[Span]:
        """Return the part of the set that lies from `first` to `last`."""
        i = bisect_left(self._lasts, first)
        j = bisect_right(self._firsts, last)
        return [(max(first, self._firsts[k]), min(last, self._lasts[k])) for k in range(i, j)]

    def gaps(self, end: int, first: int = 1) -> tuple[Span, ...]:
        """Return what is missing from `first` to `end`."""
        missing = []
        for low, high in self.overlap(first, end):
            if low > first:
                missing.append((first, low - 1))
            first = high + 1
        if first <= end:
            missing.append((first, end))
        return tuple(missing)

    @property
    def count(self) -> int:
        """How many integers there are."""
        return self._count

    @property
    def first(self) -> int | None:
        """The smallest integer, None when empty."""
        return self._firsts[0] if self._firsts else None

    @property
    def last(self) -> int | None:
        """The largest integer, None when empty."""
        return self._lasts[-1] if self._lasts else None

    def reaches(self, end: int) -> bool:
        """Whether every integer from 1 to `end` is in the set."""
        i = bisect_left(self._lasts, 1)
        return end < 1 or (i < len(self._firsts) and self._firsts[i] <= 1 and self._lasts[i] >= end)

    def copy(self) -> Spans:
        return Spans(self)

    def clear(self) -> None:
        self.__init__()  # type: ignore[misc]  # the empty set again

    def __contains__(self, number: int) -> bool:
        i = bisect_left(self._lasts, number)
        return i < len(self._firsts) and self._firsts[i] <= number

    def __iter__(self) -> Iterator[Span]:
        return iter(list(zip(self._firsts, self._lasts, strict=True)))

    def __bool__(self) -> bool:
        return bool(self._firsts)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Spans) and list(self) == list(other)

    __hash__ = None  # type: ignore[assignment]  # a set that changes

    def __repr__(self) -> str:
        return f"Spans({list(self)})"

"""The fields of a request, checked: a client is never trusted."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gateway.errors import Declined

LONGEST = 200
"""Characters of a text in a request."""


def text(request: Mapping[str, Any], key: str) -> str:
    """Return a text. Declined when it is none, empty or too long."""
    value = request.get(key)
    if not isinstance(value, str) or not 0 < len(value) <= LONGEST:
        raise Declined(f"the request needs {key!r}, a text of at most {LONGEST} characters")
    return value


def whole(request: Mapping[str, Any], key: str, low: int, high: int) -> int:
    """Return a whole number from `low` to `high`. Declined when it is none."""
    value = request.get(key)
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise Declined(f"the request needs {key!r}, a whole number in {low}..{high}")
    return value


def names(request: Mapping[str, Any], key: str) -> list[str]:
    """Return a list of names, [] when the request has none. Declined when it is no such list."""
    value = request.get(key) or []
    if not isinstance(value, list) or len(value) > 2000 or not all(isinstance(name, str) for name in value):
        raise Declined(f"{key!r} of the request must be a list of names")
    return value

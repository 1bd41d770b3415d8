"""From when until when a certificate is valid, and how to say that it ends.

The standard library decodes only certificates that came over a connection. The validity stands near the beginning of
one, so a walk over a few DER elements finds it.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

OWN, AUTHORITY, BROKER = "own", "authority", "broker"
DAY = 86_400.0

EXPIRED = (0, "critical")
STAGES = ((1, "critical"), (7, "error"), (14, "warning"), (30, "info"))
WHOSE = {
    OWN: ("This gateway's own certificate (uplink.cert)", "Let the authority issue a new one and put it in its place"),
    AUTHORITY: ("The authority's certificate (uplink.ca)", "Get its new one from the broker's administrator"),
    BROKER: ("The broker's certificate", "Tell the broker's administrator to renew it"),
}
MAX_BYTES = 4 * 2**20
"""Of a file of certificates: a system's whole list of authorities has a quarter of a megabyte."""

_SEQUENCE, _VERSION = 0x30, 0xA0
_UTC_TIME, _GENERALIZED_TIME = 0x17, 0x18
_PEM = re.compile(rb"-----BEGIN (?:X509 |TRUSTED )?CERTIFICATE-----(.*?)-----END ", re.DOTALL)


class Validity(NamedTuple):
    """Seconds since 1970 UTC."""

    begins: float
    ends: float


def validity(der: bytes) -> Validity:
    """Read the validity of one certificate (RFC 5280 section 4.1). ValueError when it is none."""
    try:
        tag, body, _ = _element(der, 0)
        _, to_be_signed, _ = _element(body, 0)
        kind, _, at = _element(to_be_signed, 0)
        skip = 3 if kind == _VERSION else 2  # serial number (unless that was it), signature, issuer
        for _ in range(skip):
            _, _, at = _element(to_be_signed, at)
        kind, times, _ = _element(to_be_signed, at)
        first, begins, at = _element(times, 0)
        second, ends, _ = _element(times, at)
    except IndexError:
        raise ValueError("the certificate is cut off") from None
    if (tag, kind) != (_SEQUENCE, _SEQUENCE):
        raise ValueError("this is no certificate")
    return Validity(_moment(first, begins), _moment(second, ends))


def in_file(path: str) -> list[Validity]:
    """Read every certificate of a file; none when it cannot be read: whoever uses it says why."""
    try:
        with Path(path).open("rb") as file:
            return all_in(file.read(MAX_BYTES))
    except (OSError, ValueError):
        return []


def all_in(pem: bytes) -> list[Validity]:
    """Read every certificate of a PEM file. ValueError when one of them is damaged."""
    try:
        return [validity(base64.b64decode(block, validate=False)) for block in _PEM.findall(pem)]
    except binascii.Error:
        raise ValueError("the file is damaged: this is not base64") from None


def soonest(found: Sequence[Validity], now: float) -> float | None:
    """Return when the first of these that is still valid ends; of those that all have ended, the last."""
    ends = [one.ends for one in found]
    return min((end for end in ends if end > now), default=max(ends, default=None))


def sentence(whose: str, ends: float, now: float) -> tuple[str, str] | None:
    """Say that a certificate expires within 30 days, or has expired, and what to do; None: there is time."""
    days = (ends - now) / DAY
    if days > STAGES[-1][0]:
        return None
    name, advice = WHOSE[whose]
    if days <= 0:
        return f"{name} has expired on {date(ends)}.", f"{advice}: no connection can be made with this one."
    left = "less than a day" if days < 1 else "a day" if days < 2 else f"{int(days)} days"
    return f"{name} expires in {left}, on {date(ends)}.", f"{advice}: after that day no connection can be made."


def date(seconds: float) -> str:
    """Print a moment as a date, in UTC."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d")


def _element(data: bytes, at: int) -> tuple[int, bytes, int]:
    """Return tag and content of the DER element that begins there, and where the next one begins."""
    tag, size = data[at], data[at + 1]
    start = at + 2
    if size & 0x80:
        more = size & 0x7F
        size = int.from_bytes(data[start : start + more])
        start += more
    end = start + size
    if end > len(data):
        raise IndexError
    return tag, data[start:end], end


def _moment(tag: int, text: bytes) -> float:
    """Read a Time: UTCTime until 2049, GeneralizedTime after that (RFC 5280 section 4.1.2.5)."""
    digits = text.decode("ascii")
    if tag == _UTC_TIME and re.fullmatch(r"[0-9]{12}Z", digits):
        digits = ("19" if digits[:2] >= "50" else "20") + digits
    elif tag != _GENERALIZED_TIME or not re.fullmatch(r"[0-9]{14}Z", digits):
        raise ValueError(f"this is no time of a certificate: {digits!r:.30}")
    return datetime.strptime(digits, "%Y%m%d%H%M%SZ").replace(tzinfo=UTC).timestamp()

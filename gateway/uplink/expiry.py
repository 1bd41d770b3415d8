"""Certificates that will expire: told at 30, 14, 7 days and 1 day, louder each time. Pure."""

from __future__ import annotations

from typing import Any

from gateway.certificates import DAY, EXPIRED, STAGES, WHOSE, date, sentence
from gateway.model import event


class Expiry:
    """What has been told of each certificate."""

    def __init__(self) -> None:
        self._told: dict[str, int] = {}

    def look(self, whose: str, ends: float, now: float) -> list[dict[str, Any]]:
        """Compare with the date; returns the events when a threshold was crossed, or the certificate renewed."""
        left = (ends - now) / DAY
        stage = next(((days, severity) for days, severity in STAGES if left <= days), None)
        told = sentence(whose, ends, now)
        if stage is None or told is None:
            return self._renewed(whose, ends)
        days, severity = EXPIRED if left <= 0 else stage
        if self._told.get(whose) == days:
            return []
        self._told[whose] = days
        text, advice = told
        return [_told(whose, text, severity=severity, advice=advice, data={"days": int(left), "ends": int(ends)})]

    def _renewed(self, whose: str, ends: float) -> list[dict[str, Any]]:
        if self._told.pop(whose, None) is None:
            return []
        text = f"{WHOSE[whose][0]} has been renewed: it is valid until {date(ends)}."
        return [_told(whose, text, raised=False, severity="info", data={"ends": int(ends)})]


def _told(whose: str, text: str, **more: Any) -> dict[str, Any]:
    cause = "Certificates are valid for a limited time." if more.get("raised", True) else ""
    body = event("certificate-expires", text, cause=cause, **more)
    body["data"]["certificate"] = whose
    return body | {"id": f"certificate-expires/{whose}"}

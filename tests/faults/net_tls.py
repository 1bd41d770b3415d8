"""N08, N09: certificates that are out of date, of somebody else, or signed by nobody."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from authority import DAY, Authority
from catalogue import Outcome, Round, fault
from processes import free_port
from stage import Stage, stage

HOST = "127.0.0.1"


class Secure:
    """A broker's TLS listener beside its plain one, which is the IOC's; and the certificates of both ends."""

    def __init__(self, folder: Path) -> None:
        self.city, self.stranger = Authority(folder / "city"), Authority(folder / "stranger", "stranger")
        self.port = free_port()
        self.server, self.own = folder / "server", folder / "gateway"
        self.give(self.server, self.city.issue("broker", host=HOST))
        self.give(self.own, self.city.issue("gw-1"))
        self.listener = (
            f"allow_anonymous true\nlistener {self.port} {HOST}\ncafile {self.city.ca}\n"
            f"certfile {self.server}.pem\nkeyfile {self.server}.key\nrequire_certificate true\n"
        )
        self.uplink = {"ca": str(self.city.ca), "cert": f"{self.own}.pem", "key": f"{self.own}.key"}
        self.url = f"mqtts://{HOST}:{self.port}"

    @staticmethod
    def give(place: Path, files: tuple[Path, Path]) -> None:
        """Put a certificate and its key in place."""
        for source, kind in zip(files, ("pem", "key"), strict=True):
            shutil.copy(source, f"{place}.{kind}")


@contextlib.asynccontextmanager
async def secured(folder: Path, **options: Any) -> AsyncIterator[tuple[Stage, Secure]]:
    """A stage whose agent reaches its broker over TLS, with a certificate of its own."""
    tls = Secure(folder / "tls")
    async with stage(
        folder / "stage", every="200ms", broker=tls.listener, url=tls.url, uplink=tls.uplink, **options
    ) as s:
        yield s, tls


async def restart(s: Stage, tls: Secure, files: tuple[Path, Path]) -> None:
    """The broker gets another certificate."""
    await s.broker.stop()
    tls.give(tls.server, files)
    await s.broker.start()


@fault(
    "N08",
    "the broker's certificate is expired, of another host, or signed by an unknown authority",
    "refused, the cause is said; readings wait on disk until the certificate is right",
    times=3,
)
async def broker_is_not_trusted(round_: Round) -> Outcome:
    slowest = 0.0
    async with secured(round_.folder) as (s, tls):
        good = tls.city.issue("broker", host=HOST)
        wrong = [
            (tls.city.issue("broker", host=HOST, starts=-9 * DAY, ends=-DAY, into="expired"), "expired"),
            (tls.city.issue("broker", host="other.example", into="other"), "for another name"),
            (tls.stranger.issue("broker", host=HOST), "not signed by"),
        ]
        await s.start()
        await s.recovered()
        for turn in range(round_.times):
            files, said = wrong[turn % len(wrong)]
            before = s.agent.log().count(said)
            await restart(s, tls, files)
            await s.until(lambda n=before, said=said: s.agent.log().count(said) > n, f'"{said}" in the log')
            await s.polled(5)
            await restart(s, tls, good)
            slowest = max(slowest, await s.recovered())
        await s.stop()
        return await s.outcome(round_.times, recovered=slowest)


@fault(
    "N09",
    "the gateway's own certificate expires",
    "events warn before; the broker refuses, the cause is said; a new file is taken up without a restart",
    times=2,
)
async def own_certificate_expires(round_: Round) -> Outcome:
    slowest = 0.0
    async with secured(round_.folder, pace={"watch": 0.5}) as (s, tls):
        good = tls.city.issue("gw-1", into="renewed")
        soon = tls.city.issue("gw-1", ends=5.5 * DAY, into="soon")
        expired = tls.city.issue("gw-1", starts=-9 * DAY, ends=-DAY, into="expired")
        await s.start()
        await s.recovered()
        for _ in range(round_.times):
            before = s.ledger.raised("certificate-expires")
            tls.give(tls.own, soon)
            await s.until(lambda n=before: s.ledger.raised("certificate-expires") > n, "the warning")
            await s.broker.stop()
            tls.give(tls.own, expired)
            before = s.uplink_troubles()
            await s.broker.start()
            said = lambda n=before: "this gateway's own certificate" in s.agent.log() and s.uplink_troubles() > n
            await s.until(said, "the refusal in the log")
            await s.polled(5)
            tls.give(tls.own, good)
            slowest = max(slowest, await s.recovered())
        await s.stop()
        told = [event for event in s.ledger.events if event["code"] == "certificate-expires"]
        warned = [event["data"]["days"] for event in told if event["state"] == "raised"]
        return await s.outcome(round_.times, recovered=slowest, note=f"days left as warned: {warned}")

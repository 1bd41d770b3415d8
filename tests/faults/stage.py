"""A stage: field devices, the real agent in a process, a broker, and an IOC whose ledger judges what arrived.

async with stage(folder, every="100ms", uplink={"keepalive": "5s"}) as s:
    await s.start()                    # the agent; everything else stands already
    ...                                # inject the fault: s.broker.stop(), s.agent.kill(), ...
    recovered = await s.recovered()    # all of before has arrived, and a live reading of after
    await s.stop()                     # the agent, in order
    return await s.outcome(injected=1, recovered=recovered)
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from catalogue import Outcome
from devices import Answer, Field, now
from ioc import Ioc
from ledger import Ledger, Verdict
from namespace import Namespace
from processes import Agent, Mosquitto, write_site
from proxy import Proxy

GATEWAY = "gw-1"
COMMIT_MS = 1000.0
"""What one commit may take on a busy machine: it comes on top of linger and commit_every."""
SHOWN = 5


@dataclass
class Stage:
    """What stands on it. `kills` are the moments, ms of the monotonic clock, at which the agent ended uncleanly."""

    field: Field
    broker: Mosquitto
    ledger: Ledger
    ioc: Ioc
    agent: Agent
    document: dict[str, Any]
    """The site, as the agent reads it."""
    kills: list[float] = field(default_factory=list)

    @property
    def window(self) -> float:
        """Ms before a kill that may be lost: linger, commit_every and one commit. Strict: what was not yet stored."""
        store = self.document["store"]
        return sum(_seconds(store[key]) for key in ("linger", "commit_every")) * 1000 + COMMIT_MS

    # ---- the agent

    async def start(self, *, polling: bool = True) -> None:
        """Start the agent; with `polling` wait until it has asked every device."""
        before = self.field.given
        self.agent.start()
        if polling:
            await self.until(lambda: self.field.given >= before + self.field.devices, "the agent to poll")

    async def stop(self) -> None:
        """SIGTERM: it hands over what it can and leaves."""
        code = await self.agent.stop()
        if code != 0 or "Traceback" in self.agent.log():
            raise AssertionError(f"{self.agent.log()[-3000:]}\nthe agent ended with {code}")

    async def kill(self) -> None:
        """kill -9."""
        await self.agent.kill()
        self.kills.append(now())

    def uplink_troubles(self) -> int:
        """How often the agent has said that something is wrong with its uplink."""
        return self.agent.log().count("event=uplink")

    # ---- waiting

    async def until(self, condition: Callable[[], Any], what: str, seconds: float = 30.0) -> float:
        """Wait until it holds; how many seconds that took. TimeoutError says what did not come."""
        began = time.monotonic()
        while not condition():
            if time.monotonic() - began > seconds:
                raise TimeoutError(f"{self.agent.log()[-3000:]}\n{what}: not within {seconds:.0f} s")
            await asyncio.sleep(0.02)
        return time.monotonic() - began

    async def polled(self, times: int = 10) -> None:
        """Wait until each device has answered so many times more."""
        wanted = {unit: len(given) + times for unit, given in self.field.answers.items()}
        given = self.field.answers
        await self.until(lambda: all(len(given[unit]) >= n for unit, n in wanted.items()), "answers", 30.0 + times)

    async def recovered(self, seconds: float = 120.0) -> float:
        """Wait until all that is owed now has arrived, and a live reading of each device of after; the time it took."""
        began, owed = time.monotonic(), list(self.owed())
        lively = asyncio.ensure_future(self.lively(seconds))
        await self.until(lambda: not self.ledger.missing(owed), "what was answered before", seconds)
        await lively
        return time.monotonic() - began

    async def lively(self, seconds: float = 60.0) -> float:
        """Wait until a live reading of each device has arrived that is younger than this call; the time it took."""
        moment = now()
        return await self.until(lambda: len(self._live_since(moment)) == self.field.devices, "live readings", seconds)

    async def settled(self, seconds: float = 60.0) -> None:
        """Wait until nothing is owed any more; give up silently: the verdict will say it."""
        with contextlib.suppress(TimeoutError):
            await self.until(lambda: not self.ledger.missing(self.owed()), "everything", seconds)

    def _live_since(self, moment: float) -> set[str]:
        """Devices of which a live reading has come that was answered after that moment."""
        found = set()
        for told in reversed(self.ledger.told):
            if told.live and told.ts - self.ledger.anchor > moment:
                found.add(told.device)
            if len(found) == self.field.devices:
                break
        return found

    # ---- judging

    def owed(self) -> Iterator[Answer]:
        """Answers that the agent has received and must not lose."""
        for given in self.field.answers.values():
            for answer in given:
                late = any(kill - self.window <= answer.ms <= kill for kill in self.kills)
                if answer.taken and not late:
                    yield answer

    def verdict(self) -> Verdict:
        """What the ledger says now."""
        lost = [f"answer {a.count} of device-{a.unit} never arrived" for a in self.ledger.missing(self.owed())]
        lost += self.ledger.gaps(self.kills, self.window)
        wrong = self.ledger.mistaken(self.field.answers) + self.ledger.disorder()
        return Verdict(lost, self.ledger.duplicated(), wrong)

    async def outcome(
        self, injected: int, *, recovered: float | None = None, note: str = "", patience: float = 60.0
    ) -> Outcome:
        """Wait for the rest, then judge."""
        await self.settled(patience)
        verdict = self.verdict()
        said = "; ".join(filter(None, [note, *verdict.lost[:SHOWN], *verdict.wrong[:SHOWN]]))
        return Outcome(injected, len(verdict.lost), verdict.duplicated, len(verdict.wrong), recovered, said)


@contextlib.asynccontextmanager
async def stage(
    folder: Path,
    *,
    devices: int = 3,
    every: str = "200ms",
    uplink: dict[str, Any] | None = None,
    store: dict[str, Any] | None = None,
    broker: str = "allow_anonymous true\n",
    url: str = "",
    pace: dict[str, float] | None = None,
    net: Namespace | None = None,
    acknowledge: bool = False,
) -> AsyncIterator[Stage]:
    """Set a stage up, and clear it. The agent is not started.

    `broker` is added to mosquitto's configuration; `url` is where the agent finds it, a proxy's perhaps; `pace` are
    times of the uplink other than the product's; `net` a network of its own for the agent; `acknowledge`: the IOC
    sends dn/ack (for confirm = "ioc").
    """
    folder.mkdir(parents=True, exist_ok=True)
    field = Field(devices, net.field if net else "127.0.0.1")
    mosquitto = Mosquitto(folder / "broker", broker, net.uplink if net else "127.0.0.1")
    ledger = Ledger()
    ioc = Ioc(mosquitto.host, mosquitto.port, ledger, acknowledge=acknowledge)
    await field.start()
    document = {
        "gateway": {"id": GATEWAY, "site": "quarter"},
        "clock": {"trust": "system"},
        "uplink": {"brokers": [url or mosquitto.url], "insecure": bool(net), **(uplink or {})},
        "store": {"path": str(folder / "store"), "linger": "0.5s", "commit_every": "0.5s", **(store or {})},
        "bus": [field.site(every)],
    }
    agent = Agent(write_site(folder / "gateway.json", document), folder / "agent.log", pace, net.name if net else "")
    try:
        await mosquitto.start()
        await ioc.start()
        yield Stage(field, mosquitto, ledger, ioc, agent, document)
    finally:
        await agent.close()
        await ioc.stop()
        await mosquitto.close()
        await field.stop()


@contextlib.asynccontextmanager
async def behind_a_proxy(folder: Path, **options: Any) -> AsyncIterator[tuple[Stage, Proxy]]:
    """A stage whose agent reaches the broker through a proxy."""
    proxy = Proxy(0)
    await proxy.start()
    try:
        async with stage(folder, url=proxy.url, **options) as s:
            proxy.target = s.broker.port
            yield s, proxy
    finally:
        await proxy.stop()


def _seconds(text: str) -> float:
    """Read the durations that the stages use: "0.5s", "200ms"."""
    return float(text.removesuffix("ms")) / 1000 if text.endswith("ms") else float(text.removesuffix("s"))

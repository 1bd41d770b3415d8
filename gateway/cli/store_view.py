"""How `gateway store status` shows a store: a bar, what waits of each kind, the runs it comes from."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any

from gateway.cli.plan_view import hours_text, size_text
from gateway.cli.store import STREAMS
from gateway.clock import Clock

if TYPE_CHECKING:
    from rich.console import Console

BAR = 40
HIGH, FULL = 0.5, 0.9
"""Shares of the cap from which the bar is yellow, and red."""
MOST_EPOCHS = 12
ENDED = {
    "runs": "runs now",
    "clean": "clean stop",
    "unclean": "power cut or kill",
    "": "not known",
}
ASIDE = {
    "corrupt": "damaged, moved aside: what could be read was brought over. `gateway store verify --file` looks at it",
    "newer": "of a later version, moved aside: export it with the `gateway` of that version, then import",
}


def show(told: dict[str, Any], console: Console | None = None) -> None:
    """Draw the store."""
    from rich.console import Console
    from rich.text import Text

    console = console or Console(highlight=False)
    title = " · ".join(filter(None, (told["gateway"], told["site"])))
    console.print(Text.assemble(("store of ", ""), (title, "bold"), (f"   {told['file']}", "dim")), soft_wrap=True)
    _bar(console, told)
    _streams(console, told)
    _epochs(console, told["epochs"])
    _agent(console, told)
    for one in told["aside"]:
        kind = ASIDE[one["file"].rpartition(".")[2].partition("-")[0]]
        console.print(Text.assemble((f"{one['file']} ({size_text(one['bytes'])}): ", "yellow"), kind), soft_wrap=True)
    console.print(Text(told["loss"], "dim"), soft_wrap=True)


def _bar(console: Console, told: dict[str, Any]) -> None:
    from rich.text import Text

    share = min(1.0, told["used_bytes"] / told["cap_bytes"])
    style = "red" if share >= FULL else "yellow" if share >= HIGH else "green"
    filled = round(share * BAR)
    text = Text.assemble(("█" * filled, style), ("░" * (BAR - filled), "dim"))
    text.append(f" {size_text(told['used_bytes'])} of {size_text(told['cap_bytes'])} ({share:.0%})", "bold")
    console.print(text)
    if told["hours_left"] is not None:
        left, rate = hours_text(told["hours_left"]), told["stored_per_s"]
        console.print(f"room for an outage of {left} more, at {rate:.1f} values per second")


def _streams(console: Console, told: dict[str, Any]) -> None:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    for name in ("", "wait", "batches", "oldest", "age", "kept batches"):
        table.add_column(name, justify="left" if name in ("", "oldest") else "right", no_wrap=True)
    now = Clock("system").wall()
    for stream, name in STREAMS.items():
        waits, kept = told["streams"][stream]["waiting"], told["streams"][stream]["kept"]
        number = waits["readings"] if stream == "t" else waits["batches"]
        since, age = times(waits["oldest"], now)
        style = "" if waits["batches"] or kept["batches"] else "dim"
        table.add_row(name, count(number), count(waits["batches"]), since, age, count(kept["batches"]), style=style)
    console.print(table)


def count(number: int) -> str:
    """Print a number so that its thousands are seen."""
    return f"{number:,}".replace(",", " ")


def times(at: int | None, now: float) -> tuple[str, str]:
    """Local date and time of a reading, and its age; "-" where there is none."""
    if at is None:
        return "-", "-"
    local = datetime.fromtimestamp(at / 1000).astimezone()
    return f"{local:%Y-%m-%d %H:%M:%S}", age_text(now - at / 1000)


def age_text(seconds: float) -> str:
    """Print an age in its two largest units."""
    if seconds < -1:
        return "in the future: was the clock wrong?"
    whole = int(max(0.0, seconds))
    for size, unit, small, rest in ((86400, "d", 3600, "h"), (3600, "h", 60, "min"), (60, "min", 1, "s")):
        if whole >= size:
            return f"{whole // size} {unit} {whole % size // small} {rest}"
    return f"{whole} s"


def _epochs(console: Console, epochs: list[dict[str, Any]]) -> None:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    for name in ("run of the agent", "ended", "readings wait", "batches"):
        table.add_column(name, justify="right" if name in ("readings wait", "batches") else "left", overflow="fold")
    for one in epochs[-MOST_EPOCHS:]:
        style = "yellow" if one["ended"] == "unclean" else "green" if one["ended"] == "runs" else ""
        batches = sum(one["waiting"].values())
        table.add_row(one["epoch"], ENDED[one["ended"]], count(one["readings"]), count(batches), style=style)
    console.print(table)
    if len(epochs) > MOST_EPOCHS:
        console.print(f"and {len(epochs) - MOST_EPOCHS} earlier ones (--json shows all)")


def _agent(console: Console, told: dict[str, Any]) -> None:
    from rich.text import Text

    agent = told["agent"]
    if agent is None:
        silence = f" ({told['agent_silence']})" if told["agent_silence"] else ""
        words = "could not be asked" if silence else "does not run"
        console.print(Text.assemble(("the agent ", ""), (words, "yellow"), f"{silence}: this is what the disk holds"))
        return
    text = f"the agent runs: {count(agent['uncommitted'])} readings only in memory, "
    text += f"{agent['in_flight']} batches on their way"
    if parked := agent.get("parked_batches"):
        text += f", {parked} parked (the broker refuses them)"
    console.print(text, soft_wrap=True)
    if agent["trouble"]:
        console.print(Text(f"the disk is in trouble: {agent['trouble']}", "bold red"), soft_wrap=True)

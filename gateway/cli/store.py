"""`gateway store`: what waits for the IOC, whether it is sound, and how it travels on a stick."""

from __future__ import annotations

import argparse
import asyncio
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gateway.cli import add_config

if TYPE_CHECKING:
    from gateway.model import Site
    from gateway.store.look import Held, Survey

EXAMPLE = "gateway store status      or: gateway store export /media/usb"
_EXAMPLES = {
    "status": "gateway store status",
    "verify": "gateway store verify --file gateway.db.corrupt-1",
    "export": "gateway store export /media/usb",
    "import": "gateway store import /media/usb/*.gwb",
}
STREAMS = {"t": "readings", "e": "events", "c": "commands"}
"""Stream -> what people call it."""


def arguments(parser: argparse.ArgumentParser) -> None:
    verbs = parser.add_subparsers(dest="store_verb", metavar="VERB", required=True)
    _verb(verbs, "status", "what waits, since when, and for how long there is room; the agent goes on")
    verify = _verb(verbs, "verify", "look for damage: every page and every batch; the agent goes on")
    export = _verb(verbs, "export", "write what waits to files for the IOC, e.g. on a USB stick; the agent goes on")
    export.add_argument("folder", type=Path, metavar="DIR", help="an existing folder, e.g. where the stick is mounted")
    export.add_argument("--kept", action="store_true", help="also what the IOC has confirmed and keep_acked keeps")
    for verb in (verify, export):
        verb.add_argument("--file", type=Path, help="another store's file, e.g. one that was moved aside")
    taking = _verb(verbs, "import", "take exported files in; the agent must be stopped, and sends them when it runs")
    taking.add_argument("files", nargs="+", type=Path, metavar="FILE", help="files of `gateway store export`")


def _verb(verbs: Any, name: str, text: str) -> argparse.ArgumentParser:
    epilog = f"example: {_EXAMPLES[name]}"
    parser: argparse.ArgumentParser = verbs.add_parser(name, help=text, description=f"{text}.", epilog=epilog)
    add_config(parser)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    return parser


def main(args: argparse.Namespace) -> int:
    from gateway.cli import store_files

    if args.store_verb == "status":
        return status(args)
    files = {"verify": store_files.verify, "export": store_files.export, "import": store_files.take_in}
    return files[args.store_verb](args)


def status(args: argparse.Namespace) -> int:
    """Show the store. GatewayError when there is none, or it cannot be read."""
    from gateway.settings import load

    told = status_of(load(args.config))
    if args.json:
        print(json.dumps(told, ensure_ascii=False))
    else:
        from gateway.cli.store_view import show

        show(told)
    return 0


def status_of(site: Site) -> dict[str, Any]:
    """Return what the disk holds and, when the agent runs, what it says of its memory."""
    from gateway.settings import loss_sentence, loss_window
    from gateway.store.capacity import hours, stored_per_second
    from gateway.store.look import file_of, survey

    found = survey(file_of(site.store))
    agent, silence = asyncio.run(_agent(site))
    rate = stored_per_second(site)
    return {
        "gateway": site.gateway,
        "site": site.site,
        "file": str(found.path),
        "used_bytes": found.used,
        "disk_bytes": found.on_disk,
        "cap_bytes": site.store.max_size,
        "stored_per_s": rate,
        "hours_left": hours(site.store, rate, found.used),
        "hours_in_all": hours(site.store, rate),
        "waiting": _held(found.waiting()),
        "streams": {
            stream: {"waiting": _held(found.waiting(stream)), "kept": _held(found.kept(stream))} for stream in STREAMS
        },
        "epochs": _epochs(found, agent["epoch"] if agent else "", unknown=bool(silence)),
        "aside": [{"file": path.name, "bytes": path.stat().st_size} for path in found.aside],
        "loss_window_s": loss_window(site),
        "loss": loss_sentence(site),
        "agent": agent,
        "agent_silence": silence,
    }


def _held(held: Held) -> dict[str, Any]:
    return {"batches": held.batches, "readings": held.readings, "oldest": held.since}


def _epochs(found: Survey, now: str, *, unknown: bool) -> list[dict[str, Any]]:
    """Every run that the store knows: how it ended ("" when nobody could tell), and the batches of it that wait."""
    return [
        {
            "epoch": run.epoch,
            "ended": "runs" if run.epoch == now else run.ended or ("" if unknown else "unclean"),
            "waiting": {stream: found.waiting(stream, run.number).batches for stream in STREAMS},
            "readings": found.waiting(None, run.number).readings,
        }
        for run in found.runs
    ]


async def _agent(site: Site) -> tuple[dict[str, Any] | None, str]:
    """What the running agent says of its store; None and why not when it says nothing ("": none runs)."""
    from gateway.control import caller
    from gateway.errors import GatewayError

    try:
        path = await caller.find(site)
        if path is None:
            return None, ""
        async for message in caller.connect(path, {"do": "store"}):
            if "store" in message:
                return message["store"], ""
            return None, str(message.get("error"))
    except (GatewayError, OSError) as error:
        return None, str(error)
    return None, "it said nothing"

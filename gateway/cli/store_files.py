"""`gateway store verify`, `export` and `import`: a store's file, and the files that travel."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Any

from gateway.cli.plan_view import size_text
from gateway.cli.progress import bar
from gateway.errors import GatewayError

if TYPE_CHECKING:
    from gateway.ioc.batch_file import Record
    from gateway.model import Site
    from gateway.store.exporting import Written
    from gateway.store.importing import Incoming
    from gateway.uplink.payload.batch_file import Head

MOST_NAMED = 20
"""Damaged batches that are named one by one."""


def file_of(args: argparse.Namespace) -> Path:
    """The store that is meant: --file as it stands, or beside the site's store; else the site's own."""
    from gateway.settings import load
    from gateway.store import look

    if args.file and (args.file.exists() or args.file.is_absolute()):
        return Path(args.file)
    own = look.file_of(load(args.config).store)
    return own.with_name(args.file.name) if args.file else own


# ---- verify ----------------------------------------------------------------------------------------------------------


def verify(args: argparse.Namespace) -> int:
    """Look for damage; 1 when there is any."""
    from gateway.store import look, verifying

    path = file_of(args)
    with look.reading(path) as db:
        with bar("looking at every page", None):
            lines = verifying.structure(db)
        names = {} if lines else look.runs(db)
        sound = readings = 0
        damaged = []
        with bar("looking at every batch", verifying.data_bytes(db)) as tell:
            for found in verifying.batches(db, path, broken=bool(lines)):
                tell(found.bytes)
                if found.whole:
                    sound, readings = sound + 1, readings + found.readings
                else:
                    epoch = names[found.run].epoch if found.run in names else str(found.run)
                    damaged.append({"epoch": epoch, "stream": found.stream, "seq": found.seq})
    told = {"file": str(path), "sound": not lines and not damaged, "batches": sound, "readings": readings}
    told |= {"damaged": damaged, "structure": lines}
    if args.json:
        print(json.dumps(told, ensure_ascii=False))
    else:
        _verdict(path, told)
    return 0 if told["sound"] else 1


def _verdict(path: Path, told: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.text import Text

    console = Console(highlight=False, soft_wrap=True)
    if told["sound"]:
        text = f": every page and the checksums of {told['batches']} batches ({told['readings']} readings)"
        console.print(Text.assemble((f"{path} is sound", "bold green"), text))
        return
    console.print(Text(f"{path} is damaged", "bold red"))
    for line in told["structure"]:
        console.print(Text(f"  {line}"))
    for one in told["damaged"][:MOST_NAMED]:
        console.print(f"  batch {one['seq']} of stream {one['stream']}, epoch {one['epoch']}: the checksum is wrong")
    if (more := len(told["damaged"]) - MOST_NAMED) > 0:
        console.print(f"  and {more} more (--json names all)")
    console.print(f"{told['batches']} batches ({told['readings']} readings) are whole.")
    if ".corrupt-" in path.name:
        console.print(
            "  The agent has brought over what is whole when it moved this file aside. To be sure of that, carry"
        )
        console.print(f"  it to the IOC as well: gateway store export DIR --file {quote(path.name)}")
    else:
        console.print(
            "  The agent gives damaged batches up by itself, and reports which. Where pages are damaged, restart"
        )
        console.print("  it (sudo systemctl restart gateway): it brings over what is whole into a fresh store.")
    console.print("  Flash loses data after power cuts and at the end of its life: check the supply, replace the card.")


# ---- export ----------------------------------------------------------------------------------------------------------


def export(args: argparse.Namespace) -> int:
    """Write what waits to files; 1 when damaged batches are left out. GatewayError when the folder cannot take them."""
    from gateway.settings import load
    from gateway.store import look
    from gateway.store.exporting import Outgoing

    site: Site = load(args.config)
    path = file_of(args)
    written: list[Written] = []
    with look.reading(path) as db:
        outgoing = Outgoing(db, site.gateway, site.uplink.prefix, args.kept)
        outgoing.check(args.folder, path)
        try:
            with bar("writing", outgoing.size) as tell:
                written.extend(outgoing.write(args.folder, tell))  # keeps what came before an error
        finally:
            _exported(written, args)
    if not written and not args.json:
        print("Nothing waits: there was nothing to write.")
    return 1 if any(one.damaged for one in written) else 0


def _exported(written: Sequence[Written], args: argparse.Namespace) -> None:
    if args.json:
        files = [{**asdict(one.head), **_figures(one)} for one in written]
        print(json.dumps({"files": files}, ensure_ascii=False))
        return
    for one in written:
        if one.batches:
            what = f"{one.readings} readings" if one.head.stream == "t" else f"{one.batches} messages"
            print(f"{one.path}: {what}, {size_text(one.size)}")
        if one.damaged:
            print(f"  {one.damaged} batches are damaged and were left out: gateway store verify names them")
    whole = [one for one in written if one.batches]
    if not whole:
        return
    readings = sum(one.readings for one in whole)
    print(f"{readings} readings in {len(whole)} {'file' if len(whole) == 1 else 'files'}. At the IOC:")
    print(f"  gateway ioc read {quote(str(args.folder))}/*.gwb --json")
    print("They still wait here, and are sent when the broker is back: the IOC tells copies by their numbers.")


def _figures(one: Written) -> dict[str, Any]:
    return {
        "file": str(one.path) if one.batches else None,
        "batches": one.batches,
        "readings": one.readings,
        "bytes": one.size,
        "damaged": one.damaged,
    }


# ---- import ----------------------------------------------------------------------------------------------------------


def take_in(args: argparse.Namespace) -> int:
    """Take exported files into the store; 1 when one of them is damaged, after taking what is whole."""
    from gateway.settings import load
    from gateway.store.importing import Incoming

    site: Site = load(args.config)
    incoming = Incoming(site.store, site.gateway)
    told: list[dict[str, Any]] = []
    try:
        for path in args.files:  # refuse all before taking any
            with _file(path) as (head, _):
                _refuse(path, incoming, head)
        with bar("importing", sum(path.stat().st_size for path in args.files)) as tell:
            for path in args.files:
                _take(path, incoming, tell, told)
    finally:
        incoming.close()
        _imported(told, args)
    return 1 if any(one["trouble"] or one["wrong"] for one in told) else 0


@contextmanager
def _file(path: Path, tell: Callable[[int], None] | None = None) -> Iterator[tuple[Head, Iterator[Record]]]:
    """Open an exported file. GatewayError when it is none."""
    from gateway.ioc.batch_file import CHUNK, opened

    try:
        with path.open("rb") as file:

            def chunks() -> Iterator[bytes]:
                while chunk := file.read(CHUNK):
                    yield chunk
                    if tell:
                        tell(len(chunk))

            yield opened(chunks())
    except OSError as error:
        raise GatewayError(f"{path} cannot be read: {error.strerror}. Is the stick plugged in and mounted?") from error
    except ValueError as error:
        raise GatewayError(f"{path}: {error}") from error


def _refuse(path: Path, incoming: Incoming, head: Head) -> None:
    try:
        incoming.check(head)
    except GatewayError as error:
        raise GatewayError(f"{path}: {error}") from None


def _take(path: Path, incoming: Incoming, tell: Callable[[int], None], told: list[dict[str, Any]]) -> None:
    """Take one file in, and tell of it as far as that went; what is wrong with it stands in `trouble`."""
    from gateway.store.importing import Taken

    with _file(path, tell) as (head, records):
        one = {"file": str(path), "epoch": head.epoch, "stream": head.stream, **asdict(Taken()), "trouble": ""}
        told.append(one)
        try:
            for so_far in incoming.take(head, records):
                one |= asdict(so_far)
        except ValueError as error:
            one["trouble"] = str(error)


def _imported(told: Sequence[dict[str, Any]], args: argparse.Namespace) -> None:
    if args.json:
        print(json.dumps({"files": told}, ensure_ascii=False))
        return
    for one in told:
        known = f", {one['known']} batches were there already" if one["known"] else ""
        print(f"{one['file']}: {one['new']} batches ({one['readings']} readings) imported{known}")
        if one["wrong"]:
            print(f"gateway: {one['file']}: {one['wrong']} messages are not what a gateway writes", file=sys.stderr)
        if one["trouble"]:
            print(f"gateway: {one['file']}: {one['trouble']}", file=sys.stderr)
    if any(one["new"] for one in told):
        print("Start the agent (sudo systemctl start gateway): it sends them as backlog.")

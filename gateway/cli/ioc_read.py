"""`gateway ioc read`: what files from a gateway's stick hold, in the form of `gateway ioc tail`."""

from __future__ import annotations

import argparse
import contextlib
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from gateway.cli.ioc_view import Printer, printer_of
from gateway.ioc.batch_file import CHUNK, messages
from gateway.ioc.decode import Catalogue, Message
from gateway.ioc.ledger import Ledger


@dataclass
class Reader:
    """Prints the readings of files, each batch once. `others` are events and results of commands."""

    printer: Printer
    ledger: Ledger = field(default_factory=Ledger)
    catalogue: Catalogue = field(default_factory=Catalogue)
    batches: int = 0
    others: int = 0

    def read(self, path: Path) -> str:
        """Print one file; returns why it could not be read to its end, "" when it could. What is whole is printed."""
        try:
            file = path.open("rb")
        except OSError as error:
            return f"{path} cannot be read: {error.strerror}. Is the stick plugged in and mounted?"
        with file:
            try:
                for message in messages(_chunks(file), self.catalogue):
                    if self.ledger.record(message):
                        self._show(message)
            except ValueError as error:
                return f"{path}: {error}"
            finally:
                self.printer.flush()
        return ""

    def _show(self, message: Message) -> None:
        self.batches += message.stream == "t"
        self.others += message.stream != "t"
        for block in message.blocks:
            for reading in message.readings_of(block):
                self.printer.show(reading, self.catalogue.unit(reading.gw, reading.device, block.cfg, reading.point))
                self.printer.shown += 1


def _chunks(file: BinaryIO) -> Iterator[bytes]:
    """The file bit by bit; a stick that is pulled out ends it as a file that is cut short."""
    with contextlib.suppress(OSError):
        while chunk := file.read(CHUNK):
            yield chunk


def read(args: argparse.Namespace) -> int:
    """Print all files; 1 when one of them is damaged or foreign."""
    printer = printer_of(as_json=args.json)
    reader = Reader(printer)
    with printer:
        troubles = list(filter(None, map(reader.read, args.files)))
    copies = f"; {reader.ledger.duplicates} batches were there twice" if reader.ledger.duplicates else ""
    others = f" (and {reader.others} events and results of commands)" if reader.others else ""
    print(f"{printer.shown} readings in {reader.batches} batches{others}{copies}", file=sys.stderr)
    for trouble in troubles:
        print(f"gateway: {trouble}", file=sys.stderr)
    return 1 if troubles else 0

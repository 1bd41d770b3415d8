"""Where `gateway trace` puts what it sees: lines for people, JSON lines, a capture file."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Any, Protocol, Self

from gateway import __version__
from gateway.control.pcap import Capture
from gateway.errors import GatewayError

Message = Mapping[str, Any]


class Sink(Protocol):
    """Takes what is traced: first {"bus", "framing"}, then exchanges."""

    def begin(self, head: Message) -> None: ...

    def take(self, exchange: Message) -> None: ...


class JsonLines:
    """One object a line."""

    def begin(self, head: Message) -> None: ...

    def take(self, exchange: Message) -> None:
        print(json.dumps(exchange, ensure_ascii=False), flush=True)


class Lines:
    """One line for each exchange; more for its bytes and for those that were no answer."""

    def __init__(self, *, raw: bool) -> None:
        from rich.console import Console

        self._console = Console(highlight=False, soft_wrap=True)
        self._raw = raw

    def begin(self, head: Message) -> None:
        if sys.stdout.isatty():
            self._console.print(f"[dim]{head['bus']} ({head['framing']}): Ctrl-C ends it")

    def take(self, exchange: Message) -> None:
        from rich.text import Text

        if exchange["left_out"]:
            self._console.print(
                Text(f"... {exchange['left_out']} exchanges left out: this reader is too slow", "yellow")
            )
        when = datetime.fromtimestamp(exchange["ts"] / 1000).astimezone()
        refused = exchange["answer"].startswith("exception ")
        text = Text.assemble(
            (f"{when:%H:%M:%S}.{when.microsecond // 1000:03d} ", "dim"),
            (f"{exchange['took_ms']:7.1f} ms ", "dim"),
            (exchange["device"], "bold"),
            f"  {exchange['asks']}",
        )
        if exchange["error"]:
            error = exchange["error"].partition(": ")[0] if exchange["heard"] else exchange["error"]
            text.append(f"  {error}", "bold red")
        elif exchange["answer"]:
            text.append(f"  {exchange['answer']}", "bold yellow" if refused else "green")
        if self._raw:
            text.append(f"\n{'':15}-> {exchange['request']}\n{'':15}<- {exchange['reply'] or '(nothing)'}")
        if exchange["heard"]:
            text.append(f"\n{'':15}!! heard, and no answer: {exchange['heard']}", "bold red")
        self._console.print(text)


class CaptureFile:
    """A pcapng file that grows with every exchange. GatewayError when it cannot be written."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._capture: Capture | None = None
        self._size = 0
        try:
            self._file = path.open("wb", buffering=0)
        except OSError as error:
            raise self._trouble(error) from None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def begin(self, head: Message) -> None:
        self._capture = Capture(head["bus"], head["framing"], f"gateway {__version__}")
        self._write(self._capture.head)

    def take(self, exchange: Message) -> None:
        assert self._capture is not None, "the head of a trace comes first"
        self._write(self._capture.packets(exchange))

    def _write(self, blocks: bytes) -> None:
        """Write all of it or nothing: half a block would make the whole file unreadable."""
        whole = self._size
        try:
            written = self._file.write(blocks)
            if written != len(blocks):
                raise OSError(28, os.strerror(28))
        except OSError as error:
            with suppress(OSError):  # what is no file on a disk cannot be cut
                self._file.truncate(whole)
            raise self._trouble(error) from None
        self._size += len(blocks)

    def _trouble(self, error: OSError) -> GatewayError:
        return GatewayError(
            f"The capture {self._path} cannot be written: {error.strerror}. What was captured before is in the file. "
            "Choose a file on a disk that has room and that you may write, for example /tmp/line.pcapng."
        )

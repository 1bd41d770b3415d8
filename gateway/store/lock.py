"""One agent per store: a lock file that also remembers how often an agent has started here."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
from pathlib import Path

from gateway.errors import GatewayError

NAME = "gateway.lock"
_READ = 256  # the file holds two short lines


class Lock:
    """The lock of a store's folder, held until it is released or the process ends.

    `starts` is the number of starts that the file remembers: it outlives a damaged database.
    """

    def __init__(self, folder: Path) -> None:
        self._file = _opened(folder)
        text = os.pread(self._file, _READ, 0).decode("ascii", "replace").split()
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(self._file)
            pid = f" (process {text[1]})" if len(text) > 1 else ""
            raise GatewayError(
                f"Another gateway agent{pid} already uses the store in {folder}. Two agents cannot share one store. "
                f"Stop the other one (systemctl stop gateway), or give this one its own [store] path."
            ) from error
        self.starts = int(text[3]) if len(text) > 3 and text[3].isdigit() else 0
        self.started(self.starts)

    def started(self, number: int) -> None:
        """Write down who holds the lock and the number of this start."""
        self.starts = number
        line = f"pid {os.getpid()}\nstarts {number}\n"
        with contextlib.suppress(OSError):  # a disk that fails is noticed, and reported, by the database
            os.pwrite(self._file, line.ljust(64).encode(), 0)  # always as long: needs no new space on a full disk
            os.fdatasync(self._file)

    def release(self) -> None:
        os.close(self._file)


def _opened(folder: Path) -> int:
    """Open the lock file; creates missing folders. GatewayError when that cannot be.

    A disk that was mounted read-only after a fault, where an agent ran before, stops no service: it can be locked.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        return os.open(folder / NAME, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640)
    except OSError as error:
        if error.errno == errno.EROFS:
            with contextlib.suppress(OSError):
                return os.open(folder / NAME, os.O_RDONLY | os.O_CLOEXEC)
        raise GatewayError(
            f"The store's folder {folder} cannot be used: {error.strerror or error}. Probably the folder belongs to "
            f"another user, or its disk is full or mounted read-only. Create it for the agent's user "
            f"(sudo install -d -o gateway -g gateway {folder}), or set another [store] path."
        ) from error

"""A disk in a process of its own: one file in user space, for a loop device, whose power can be cut.

    python platter.py IMAGE FOLDER      serves FOLDER/disk with the image's content

It sees every write and every flush. Commands on stdin: `arm N HOW SEED FILE` cuts the power after N more writes: FILE
then holds what was flushed, and of the rest nothing (lost), all (there) or some sectors of 512 bytes (torn). Says
`cut NANOSECONDS` when that is done, in monotonic time.
"""

from __future__ import annotations

import errno
import os
import random
import stat
import sys
import threading
import time
from pathlib import Path

import mfusepy
from recording import File, Step, apply

NAME = "disk"


class Disk(mfusepy.Operations):
    """The file's content, what of it is flushed, and what was written since."""

    use_ns = True

    def __init__(self, image: bytes) -> None:
        self._now = bytearray(image)
        self._file = File(bytearray(image))
        self._lock = threading.Lock()
        self._armed: tuple[int, str, int, Path] | None = None

    def listen(self) -> None:
        for line in sys.stdin:
            _, count, how, seed, path = line.split()
            with self._lock:
                self._armed = int(count), how, int(seed), Path(path)

    def getattr(self, path: str, fh: int | None = None) -> dict[str, int]:
        if path == "/":
            return {"st_mode": stat.S_IFDIR | 0o755, "st_nlink": 2}
        if path == f"/{NAME}":
            return {"st_mode": stat.S_IFREG | 0o600, "st_nlink": 1, "st_size": len(self._now)}
        raise mfusepy.FuseOSError(errno.ENOENT)

    def readdir(self, path: str, fh: int) -> list[str]:
        return [".", "..", NAME]

    def read(self, path: str, size: int, offset: int, fh: int) -> bytes:
        return bytes(self._now[offset : offset + size])

    def write(self, path: str, data: bytes, offset: int, fh: int) -> int:
        step = Step("write", at=offset, data=bytes(data))
        with self._lock:
            apply(self._now, step)
            self._file.since.append(step)
            if self._armed is not None:
                self._count_down(*self._armed)
        return len(data)

    def fsync(self, path: str, datasync: int, fh: int) -> int:
        with self._lock:
            self._file.sync()
        return 0

    def _count_down(self, count: int, how: str, seed: int, path: Path) -> None:
        if count > 1:
            self._armed = count - 1, how, seed, path
            return
        self._armed = None
        now = time.monotonic_ns()
        path.write_bytes(self._file.after(how, random.Random(seed)))
        os.write(1, f"cut {now}\n".encode())


if __name__ == "__main__":
    disk = Disk(Path(sys.argv[1]).read_bytes())
    threading.Thread(target=disk.listen, daemon=True).start()
    mfusepy.FUSE(disk, sys.argv[2], foreground=True, nothreads=True, big_writes=True)

"""Records what a process writes to a folder, and rebuilds the folder as a power cut at any step would leave it.

What a disk promises is taken as little as it is: before `fsync` or `fdatasync` of a file nothing of it need be there,
in no order, torn between any two sectors of 512 bytes. New, renamed and deleted names are durable after `fsync` of the
folder; before that any number of them, in their order (as a journal of metadata keeps it), may have happened.
SQLite's `-shm` is left out: it is rebuilt by the first who opens the database.
"""

from __future__ import annotations

import random
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from catalogue import NotHere

ROOT = Path(__file__).resolve().parents[2]
SECTOR = 512
CALLS = "openat,pwrite64,write,ftruncate,unlink,rename,fdatasync,fsync"
THERE, LOST, TORN = "there", "lost", "torn"
"""What of the unsynced writes is on the disk after the cut: all, nothing, some sectors."""

_LINE = re.compile(r"^(\d+) +(?:<\.\.\. (\w+) resumed>|(\w+)\()(.*)$", re.DOTALL)
_END = re.compile(r"\) += (-?\d+)(?:<[^>]*>)?[^)]*$", re.DOTALL)
_TEXT = re.compile(r'"((?:\\x[0-9a-f]{2})*)"')
_FILE = re.compile(r"^(\d+)<([^>]*)>")


class Step(NamedTuple):
    """One call that succeeded. `kind` is make, write, cut, sync, unlink, rename, or say: `data` is what was said."""

    kind: str
    name: str = ""
    at: int = 0
    data: bytes = b""
    target: str = ""


def traced(script: Path, *arguments: str, options: Sequence[str]) -> subprocess.CompletedProcess[bytes]:
    """Run one of our scripts under strace. NotHere when that is not possible."""
    if shutil.which("strace") is None:
        raise NotHere("strace is not installed")
    done = subprocess.run(
        ["strace", "-f", "-qq", "--seccomp-bpf", *options, sys.executable, str(script), *arguments],
        capture_output=True,
        cwd=ROOT,
        env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin:/usr/sbin:/sbin"},
        check=False,
        timeout=300,
    )
    if done.stderr.startswith(b"strace:"):
        raise NotHere(f"strace does not work here: {done.stderr.decode(errors='replace').splitlines()[0]}")
    return done


def record(folder: Path, script: Path, *arguments: str, log: Path) -> tuple[list[Step], str]:
    """Run the script and return its steps on the files of the folder in their order, and what it wrote to stderr."""
    options = ["-y", "-xx", "-s", "1000000", "-e", f"trace={CALLS}", "-o", str(log)]
    done = traced(script, *arguments, options=options)
    steps = list(read(log.read_text("latin-1"), folder))
    log.unlink()
    return steps, done.stderr.decode(errors="replace")


def read(text: str, folder: Path) -> Iterator[Step]:
    """The steps in a log of strace, each where it was complete: until then it is not promised to anybody."""
    begun: dict[str, str] = {}
    for line in text.splitlines():
        matched = _LINE.match(line)
        if matched is None:
            continue
        process, resumed, call, rest = matched.groups()
        if rest.endswith("<unfinished ...>"):
            begun[process] = rest.removesuffix("<unfinished ...>")
            continue
        ended = _END.search(rest)
        if ended is None or ended[1].startswith("-"):
            continue
        arguments = begun.pop(process, "") * bool(resumed) + rest[: ended.start()]
        step = _step(resumed or call, arguments, folder)
        if step is not None and not step.name.endswith("-shm"):
            yield step


def _step(call: str, arguments: str, folder: Path) -> Step | None:
    texts = [_bytes(found) for found in _TEXT.findall(arguments)]
    if call == "openat":
        name = _inside(texts[0].decode(errors="replace"), folder)
        return Step("make", name) if name and "O_CREAT" in arguments else None
    if call in ("unlink", "rename"):
        name, *target = [_inside(path.decode(errors="replace"), folder) for path in texts]
        return Step(call, name, target=target[0] if target else "") if name else None
    found = _FILE.match(arguments)
    if found is None:
        return None
    if call == "write":
        return Step("say", data=texts[0]) if found[1] == "1" else None
    path = _bytes(found[2]).decode(errors="replace")
    if Path(path) == folder:
        return Step("sync")
    name = _inside(path, folder)
    if not name:
        return None
    numbers = re.findall(r", (\d+)", arguments)
    if call == "pwrite64":
        return Step("write", name, int(numbers[-1]), texts[0])
    return Step("cut", name, int(numbers[-1])) if call == "ftruncate" else Step("sync", name)


def _bytes(text: str) -> bytes:
    return bytes.fromhex(text.replace("\\x", ""))


def _inside(path: str, folder: Path) -> str:
    return Path(path).name if Path(path).parent == folder else ""


@dataclass
class File:
    """What is durable of a file, and what has been done to it since."""

    durable: bytearray = field(default_factory=bytearray)
    since: list[Step] = field(default_factory=list)

    def sync(self) -> None:
        for step in self.since:
            apply(self.durable, step)
        self.since.clear()

    def after(self, how: str, chance: random.Random) -> bytes:
        """The file after the cut."""
        content = bytearray(self.durable)
        if how != LOST:
            share = 1.0 if how == THERE else chance.choice((0.1, 0.5, 0.9))
            for step in self.since:
                for piece in sectors(step) if how == TORN else [step]:
                    if share == 1.0 or chance.random() < share:
                        apply(content, piece)
        return bytes(content)


def apply(content: bytearray, step: Step) -> None:
    if step.kind == "cut":
        content[step.at :] = bytes(max(0, step.at - len(content)))
    else:
        content.extend(bytes(max(0, step.at - len(content))))
        content[step.at : step.at + len(step.data)] = step.data


def sectors(step: Step) -> Iterator[Step]:
    """Tear a write between the sectors of the disk."""
    if step.kind != "write":
        yield step
        return
    at, end = step.at, step.at + len(step.data)
    while at < end:
        until = min(end, at - at % SECTOR + SECTOR)
        yield Step("write", step.name, at, step.data[at - step.at : until - step.at])
        at = until


class Folder:
    """A folder on a disk whose power may be cut after any step."""

    def __init__(self, files: dict[str, bytes]) -> None:
        self._durable = {name: File(bytearray(content)) for name, content in files.items()}
        self._names = dict(self._durable)
        self._since: list[dict[str, File]] = []

    def do(self, step: Step) -> None:
        if step.kind == "make" and step.name not in self._names:
            self._rename({**self._names, step.name: File()})
        elif step.kind in ("unlink", "rename"):
            names = {name: file for name, file in self._names.items() if name != step.name}
            if step.target:
                names[step.target] = self._names[step.name]
            self._rename(names)
        elif step.kind in ("write", "cut"):
            self._names[step.name].since.append(step)
        elif step.kind == "sync" and step.name:
            self._names[step.name].sync()
        elif step.kind == "sync":
            self._durable = self._names
            self._since.clear()

    def _rename(self, names: dict[str, File]) -> None:
        self._names = names
        self._since.append(names)

    def after(self, how: str, chance: random.Random) -> dict[str, bytes]:
        """The files after a cut here."""
        names = {THERE: self._names, LOST: self._durable}.get(how)
        if names is None:
            names = chance.choice([self._durable, *self._since])
        return {name: file.after(how, chance) for name, file in names.items()}


def rebuild(folder: Path, files: dict[str, bytes]) -> None:
    """Make the folder hold these files and nothing else."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for name, content in files.items():
        (folder / name).write_bytes(content)


def files_of(folder: Path) -> dict[str, bytes]:
    """What a folder holds, as a disk keeps it that has been written out."""
    paths = folder.iterdir() if folder.exists() else ()
    return {path.name: path.read_bytes() for path in paths if not path.name.endswith("-shm")}

"""The desk's door: a Unix socket, one JSON object a line in both directions.

A request {"v": 1, "id": N, "do": operation, ...} is answered with lines {"id": N, ...} and {"id": N, "end": true}.
"""

from __future__ import annotations

import asyncio
import contextlib
import grp
import json
import os
import socket
import struct
from collections.abc import Mapping
from contextlib import aclosing
from pathlib import Path
from typing import Any

from gateway.control.desk import Desk
from gateway.errors import GatewayError
from gateway.log import logger
from gateway.model import Site

VERSION = 1
LINE = 65536
"""Bytes of the longest line, in both directions."""
MOST_CLIENTS = 16
MOST_AT_ONCE = 8
"""Operations of one client at the same time."""
LONGEST_PATH = 107
"""Bytes of a socket's path (unix(7): 108 with the NUL behind it)."""
NAME = "control.sock"
GROUP = "gateway"
AUDITED = ("write", "scan")

_PEER = struct.Struct("3i")
"""struct ucred: pid, uid, gid (unix(7), SO_PEERCRED)."""
_TARGET = ("bus", "device", "point", "value", "unit", "dry")


def path_of(site: Site) -> Path:
    """Where the agent of a site has its socket: in systemd's runtime directory, or beside its store."""
    runtime = os.environ.get("RUNTIME_DIRECTORY", "").partition(":")[0]
    return Path(runtime or site.store.path) / NAME


async def serve(desk: Desk, path: Path) -> None:
    """Let clients in until cancelled. GatewayError when there cannot be a socket."""
    listener = listen(path)
    door = _Door(desk)
    server = await asyncio.start_unix_server(door.visit, sock=listener, limit=LINE)
    try:
        await asyncio.Event().wait()
    finally:
        server.close()
        path.unlink(missing_ok=True)  # noqa: ASYNC240  # a file in memory, and the agent is stopping
        for visitor in door.visitors:
            visitor.cancel()


def listen(path: Path) -> socket.socket:
    """Bind the socket for its group, in the place of one that nobody serves any more. GatewayError."""
    if len(os.fsencode(path)) > LONGEST_PATH:
        raise GatewayError(
            f"the socket {path} has a path of more than {LONGEST_PATH} bytes, which Linux does not allow: "
            "give the store a shorter [store] path"
        )
    listener = socket.socket(socket.AF_UNIX)
    try:
        if _is_served(path):
            raise GatewayError(f"another agent answers at {path}: stop it first (systemctl stop gateway)")
        path.unlink(missing_ok=True)
        listener.bind(os.fspath(path))
        with contextlib.suppress(KeyError, OSError):  # no such group, or not ours to give: then the owner alone
            os.chown(path, -1, grp.getgrnam(GROUP).gr_gid)
        path.chmod(0o660)  # before it listens: until now nobody could connect
        listener.listen()
        listener.setblocking(False)
    except OSError as error:
        listener.close()
        raise GatewayError(f"the socket {path} cannot be made: {error.strerror or error}") from None
    except GatewayError:
        listener.close()
        raise
    return listener


def _is_served(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(os.fspath(path))
        except OSError:
            return False
    return True


class _Door:
    """All clients that are connected now."""

    def __init__(self, desk: Desk) -> None:
        self.visitors: set[asyncio.Task[None]] = set()
        self._desk = desk

    async def visit(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one client until it leaves; what it has asked for ends with it."""
        me = asyncio.current_task()
        assert me is not None, "a client is served by a task of its own"
        visitor = _Visitor(self._desk, writer)
        try:
            if len(self.visitors) >= MOST_CLIENTS:
                await visitor.refuse(None, f"{MOST_CLIENTS} others are connected already: try again in a moment")
                return
            self.visitors.add(me)
            await visitor.listen(reader)
        except (ConnectionError, asyncio.CancelledError):  # it has gone, or the agent stops
            pass
        finally:
            self.visitors.discard(me)
            writer.close()


class _Visitor:
    """One client."""

    def __init__(self, desk: Desk, writer: asyncio.StreamWriter) -> None:
        self._desk = desk
        self._writer = writer
        self._running: set[asyncio.Task[None]] = set()
        peer = writer.get_extra_info("socket").getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _PEER.size)
        self._pid, self._uid, _ = _PEER.unpack(peer)

    async def listen(self, reader: asyncio.StreamReader) -> None:
        """Do what the client asks for, line by line, until it leaves."""
        async with asyncio.TaskGroup() as group:
            with contextlib.suppress(ConnectionError):  # it has gone
                await self._start(reader, group)
            for task in self._running:
                task.cancel()

    async def _start(self, reader: asyncio.StreamReader, group: asyncio.TaskGroup) -> None:
        while line := await self._line(reader):
            request, wrong = parsed(line)
            if not wrong and len(self._running) >= MOST_AT_ONCE:
                wrong = f"{MOST_AT_ONCE} operations run already: wait for one to end"
            if wrong:
                await self.refuse(request.get("id"), wrong)
                continue
            task = group.create_task(self._do(request))
            self._running.add(task)
            task.add_done_callback(self._running.discard)

    async def refuse(self, number: object, text: str) -> None:
        """Tell the client why nothing is done."""
        await self._send({"id": number, "error": text, "code": 2})
        await self._send({"id": number, "end": True})

    async def _line(self, reader: asyncio.StreamReader) -> bytes:
        """Return the next line; b"" when the client has gone, or does not keep to the length of a line."""
        try:
            line = await reader.readline()
        except ValueError:
            await self.refuse(None, f"a line is longer than {LINE} bytes: the connection is closed")
            return b""
        return line if line.endswith(b"\n") else b""

    async def _do(self, request: Mapping[str, Any]) -> None:
        number = request["id"]
        if request.get("do") in AUDITED:
            target = {key: str(request[key])[:64] for key in _TARGET if key in request}
            logger.info("asked at the socket", do=request["do"], uid=self._uid, pid=self._pid, **target)
        with contextlib.suppress(ConnectionError):  # the client has gone: its next line, which is none, ends the rest
            async with aclosing(self._desk.do(request)) as messages:
                async for message in messages:
                    await self._send({**message, "id": number})
            await self._send({"id": number, "end": True})

    async def _send(self, message: Mapping[str, Any]) -> None:
        """Send a line; waits while the client does not read."""
        self._writer.write(json.dumps(message).encode() + b"\n")
        await self._writer.drain()


def parsed(line: bytes) -> tuple[dict[str, Any], str]:
    """Return the request in a line, and why it is none ("" when it is one)."""
    try:
        request = json.loads(line)
    except (ValueError, RecursionError):
        return {}, 'this is not JSON: send {"v": 1, "id": 1, "do": "hello"} and a line feed'
    if not isinstance(request, dict) or not isinstance(request.get("id"), int):
        return {}, 'a request is one object with a number as its "id"'
    if request.get("v") != VERSION:
        return request, f"this agent speaks version {VERSION}: use the `gateway` of its version"
    return request, ""

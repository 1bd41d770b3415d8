"""The other side of the desk's door: finds the running agent of a site and asks it."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from pathlib import Path
from typing import Any

from gateway.control.door import LINE, LONGEST_PATH, NAME, VERSION, path_of
from gateway.errors import GatewayError
from gateway.model import Site

RUNTIME = Path("/run/gateway") / NAME
GREETING = 3.0
"""Seconds within which a living agent says who it is."""


async def find(site: Site) -> Path | None:
    """Return the socket of the agent that runs this site; None when there is none. GatewayError when it is not ours."""
    forbidden: Path | None = None
    for path in dict.fromkeys((path_of(site), RUNTIME, Path(site.store.path) / NAME)):
        try:
            async with asyncio.timeout(GREETING), aclosing(connect(path, {"do": "hello"})) as messages:
                async for message in messages:
                    if "error" in message:
                        raise GatewayError(f"the agent at {path} says: {message['error']}")
                    if message.get("gateway") == site.gateway:
                        return path
        except PermissionError:
            forbidden = path
        except TimeoutError:
            raise GatewayError(
                f"the agent at {path} does not say a word: `systemctl status gateway` tells how it is"
            ) from None
        except OSError:
            continue
    if forbidden is not None:
        raise GatewayError(
            f"an agent runs, and this user may not talk to it at {forbidden}: add the user to its group "
            f"(`sudo usermod -aG gateway $USER`) and log in again"
        )
    return None


async def connect(path: Path, request: Mapping[str, Any]) -> AsyncGenerator[dict[str, Any], None]:
    """Ask at a socket, on a connection of its own that ends with the iterator. OSError when nobody listens."""
    if len(os.fsencode(path)) > LONGEST_PATH:
        return
    reader, writer = await asyncio.open_unix_connection(path, limit=LINE)
    try:
        writer.write(json.dumps({**request, "v": VERSION, "id": 1}).encode() + b"\n")
        while line := await reader.readline():
            message: dict[str, Any] = json.loads(line)
            if message.get("end"):
                return
            message.pop("id", None)
            yield message
    except ConnectionError:
        pass
    except ValueError as error:
        raise GatewayError(f"the agent at {path} speaks another language than this `gateway`: {error}") from None
    finally:
        writer.close()
    raise GatewayError(f"the agent at {path} has gone in the middle: `systemctl status gateway` tells how it is")

"""One TCP connection to an endpoint: Modbus TCP, Modbus Security (TLS on both sides), or serial frames over TCP."""

from __future__ import annotations

import asyncio
import socket
import ssl
from pathlib import Path

from drivers.base import BadFrame, BusError, Exchange, Line, NoReply
from gateway.clock import Clock
from gateway.errors import LinkError
from gateway.field.link import KEEP, QUIET_GAP, Inbox, Reply, babbles
from gateway.model import TcpPort, Tls

CONNECT_TIMEOUT = 5.0
HANDSHAKE_TIMEOUT = 4.5
"""Of these, for TLS: less than all, so that a port that takes the connection and says nothing is known by it."""
KEEPALIVE = ((socket.TCP_KEEPIDLE, 30), (socket.TCP_KEEPINTVL, 10), (socket.TCP_KEEPCNT, 3))
"""A host that went away without a word is noticed within a minute (tcp(7))."""
_OTHER_TIME, _OTHER_NAME = (9, 10), (62, 64)
"""X509_V_ERR_ not yet valid, expired; host name, address (openssl/x509_vfy.h)."""


class TcpLink(asyncio.BufferedProtocol):
    """`numbered`: the framing has transaction numbers, so a late reply is known as such and no gap is needed."""

    def __init__(self, port: TcpPort, clock: Clock, *, numbered: bool) -> None:
        self.busy = 0.0
        self._port = port
        self._name = f"{port.host}:{port.port}"
        self._clock = clock
        self._now = clock.monotonic
        self._numbered = numbered
        self.free_at = 0.0
        self._into = memoryview(bytearray(KEEP))
        self._transport: asyncio.Transport | None = None
        self._inbox: Inbox | None = None
        self._lost = f"{self._name} is not connected"

    async def open(self) -> None:
        loop = asyncio.get_running_loop()
        port = self._port
        try:
            context = await loop.run_in_executor(None, tls_context, port.tls) if port.tls else None
            patience = HANDSHAKE_TIMEOUT if context else None
            self._inbox = Inbox(self._clock, self._name, may_echo=not self._numbered)
            async with asyncio.timeout(CONNECT_TIMEOUT):
                transport, _ = await loop.create_connection(
                    lambda: self, port.host, port.port, ssl=context, ssl_handshake_timeout=patience
                )
            connection = transport.get_extra_info("socket")
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            for option, value in KEEPALIVE:
                connection.setsockopt(socket.IPPROTO_TCP, option, value)
        except OSError as error:  # ssl.SSLError is one, TimeoutError too
            raise LinkError(explain_tcp(port, error)) from None

    def close(self) -> None:
        if self._transport is not None:
            self._transport.abort()
            self._transport = None

    async def exchange(self, step: Exchange, timeout: float, quiet_gap: float = QUIET_GAP) -> Reply:
        began = self._now()
        if (rest := self.free_at - began) > 0:
            await asyncio.sleep(rest)
        transport, inbox = self._transport, self._inbox
        if transport is None or inbox is None:
            raise LinkError(self._lost)
        transport.write(step.request)
        if step.find is None:
            self.free_at = self._now() + step.min_wait
            return Reply(b"", self._now())
        sent = self._now()
        deadline = sent + max(timeout, step.min_wait)
        try:
            return await inbox.reply(step, sent, deadline, 0.0)
        except (NoReply, BadFrame):
            if not self._numbered:
                self.free_at = self._now() + quiet_gap
            raise
        finally:
            self.busy += self._now() - began

    async def pause(self, seconds: float) -> None:
        await asyncio.sleep(seconds)

    def set_line(self, line: Line | None) -> None:
        if line is not None:
            raise BusError(f"{self._name} is no serial line: speed and format are set at the converter itself")

    def strays(self) -> bytes:
        return self._inbox.strays if self._inbox else b""

    def errors(self) -> dict[str, int]:
        return {}

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002  # asyncio's own would take 256 KiB for each reply
        return self._into

    def buffer_updated(self, nbytes: int) -> None:
        if self._inbox is not None and not self._inbox.feed(self._into[:nbytes]):
            self._lose(babbles(self._name))

    def connection_lost(self, exc: Exception | None) -> None:
        if self._transport is None or self._inbox is None:
            return
        if self._port.tls and not self._inbox.last:  # with TLS 1.3 the far end judges our certificate afterwards
            self._lose(explain_tls(self._port, exc))
        else:
            self._lose(f"{self._name} has closed the connection" + (f" ({exc})" if exc else ""))

    def _lose(self, text: str) -> None:
        """The connection cannot be used any more: end it, and tell whoever waits."""
        self.close()
        self._lost = text
        if self._inbox is not None:
            self._inbox.fail(LinkError(text))


def tls_context(tls: Tls) -> ssl.SSLContext:
    """TLS with certificates on both sides (Modbus/TCP Security V36, section 6). LinkError for a file of no use."""
    for key, path in (("ca", tls.ca), ("cert", tls.cert), ("key", tls.key)):
        try:
            Path(path).open("rb").close()  # OpenSSL would not say which of them it could not read
        except OSError as error:
            text = f"`tls.{key}` cannot be read: {error.strerror}: {path}"
            raise LinkError(f"{text}; correct the path, or let the agent's user read it") from None
    try:
        context = ssl.create_default_context(cafile=tls.ca)
    except ssl.SSLError:
        raise LinkError(f"`tls.ca` holds no certificate: {tls.ca}; it is that of the authority, as PEM text") from None
    try:
        context.load_cert_chain(tls.cert, tls.key, password="")  # or OpenSSL would ask whoever sits at the terminal
    except ssl.SSLError as error:
        reason = f" ({error.reason})" if error.reason else ""
        raise LinkError(
            f"`tls.cert` and `tls.key` cannot be used{reason}: {tls.cert} has to be a certificate and {tls.key} "
            "the key that belongs to it, both as PEM text, the key without a password"
        ) from None
    return context


def explain_tcp(port: TcpPort, error: Exception) -> str:
    """Say why an endpoint cannot be reached, and what to do."""
    name = f"{port.host}:{port.port}"
    if isinstance(error, TimeoutError):
        return f"{name} does not answer: check power, cable and address; `ping {port.host}` tells if the host is there"
    if isinstance(error, ConnectionRefusedError):
        usual = "Modbus Security uses 802" if port.tls else "Modbus TCP uses 502"
        return f"{name} refuses: the host is there, but nothing listens on port {port.port}; {usual}"
    if isinstance(error, socket.gaierror):
        return f"the name {port.host} is unknown: check the spelling, or write the address as numbers"
    if port.tls and isinstance(error, ssl.SSLError | ConnectionError):
        return explain_tls(port, error)
    return f"{name} cannot be reached: {error}"


def explain_tls(port: TcpPort, error: Exception | None) -> str:
    """Say why TLS fails with an endpoint that takes connections, and what to do. None: it has closed without a word."""
    name = f"{port.host}:{port.port}"
    reason = (error.reason or "") if isinstance(error, ssl.SSLError) else ""
    if isinstance(error, ssl.SSLCertVerificationError):
        shows = f"{name} shows a certificate"
        if error.verify_code in _OTHER_NAME:
            return f"{shows} for another name than {port.host}: write a name or address that stands in it as `host`"
        if error.verify_code in _OTHER_TIME:
            return f"{shows} that does not hold now ({error.verify_message}): is this gateway's clock right?"
        return (
            f"{shows} that `tls.ca` does not vouch for ({error.verify_message}): write the file of the authority that "
            "signed it"
        )
    if "ALERT_UNKNOWN_CA" in reason or "CERTIFICATE" in reason:
        trust = "let it trust the authority that signed `tls.cert`"
        return f"{name} refuses this gateway's certificate ({reason}): {trust}"
    secured = f"is {port.port} its port of Modbus Security (802 as a rule), not that of Modbus TCP without TLS?"
    if reason:
        return f"{name} does not agree on TLS ({reason}): {secured}"
    if isinstance(error, ConnectionAbortedError):
        return f"{name} takes the connection, but does not speak TLS: {secured}"
    return f"{name} hangs up before its first answer: does it trust the authority that signed `tls.cert`, and {secured}"

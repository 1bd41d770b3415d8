"""How the broker is reached: its address, the certificates, the password. Read when a connection is made."""

from __future__ import annotations

import socket
import ssl
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

from gateway import certificates
from gateway.certificates import Validity, validity
from gateway.errors import UplinkError
from gateway.model import Uplink
from gateway.uplink import trouble

_MAX_PASSWORD = 4096
_PEEK_WITHIN = 3.0


class Endpoint(NamedTuple):
    """Where a broker is."""

    host: str
    port: int
    tls: bool


def endpoint(url: str) -> Endpoint:
    """Read "mqtts://host[:8883]" or "mqtt://host[:1883]"."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError as error:
        raise UplinkError(f"The broker's address {url!r} cannot be read: {error}. {trouble.ADDRESS}") from error
    if parts.scheme not in ("mqtt", "mqtts") or not host:
        raise UplinkError(f"The broker's address {url!r} is not one. {trouble.ADDRESS}")
    tls = parts.scheme == "mqtts"
    return Endpoint(host, port or (8883 if tls else 1883), tls)


def tls_context(access: Uplink) -> ssl.SSLContext:
    """Verify the broker against uplink.ca, show this gateway's certificate."""
    try:
        context = ssl.create_default_context(cafile=access.ca or None)
        if access.cert:
            context.load_cert_chain(access.cert, access.key or None)
    except OSError as error:  # ssl.SSLError is one
        raise trouble.bad_certificate_files(access, error) from error
    context.sslsocket_class = _TlsSocket
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context


def suspected(error: Exception | None, address: tuple[str, int], host: str, access: Uplink) -> Validity | None:
    """From when until when the certificate is valid that a failure points at: the broker's, or this gateway's own.

    None when it points at neither, or there is nothing to read.
    """
    try:
        if isinstance(error, ssl.SSLCertVerificationError):
            return validity(_shown_at(*address, host)) if error.verify_code in trouble.OUT_OF_DATE else None
        if isinstance(error, (ssl.SSLError, ConnectionResetError)) and access.cert:
            return certificates.in_file(access.cert)[0]
    except (OSError, ValueError, IndexError):
        pass
    return None


def _shown_at(address: str, port: int, host: str) -> bytes:
    """The certificate that is shown there, unverified: only to say what its dates are. Nothing is sent."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.sslsocket_class = _TlsSocket
    with (
        socket.create_connection((address, port), timeout=_PEEK_WITHIN) as line,
        context.wrap_socket(line, server_hostname=host) as shown,
    ):
        return shown.getpeercert(binary_form=True) or b""


def password(path: str) -> str | None:
    """The content of the password file without its line end; None without a file."""
    if not path:
        return None
    try:
        with Path(path).open("rb") as file:
            secret = file.read(_MAX_PASSWORD + 1)
        if len(secret) > _MAX_PASSWORD:
            raise UplinkError(f"The password file {path} has more than {_MAX_PASSWORD} bytes: it is not a password.")
        return secret.decode().rstrip("\r\n")
    except (OSError, UnicodeDecodeError) as error:
        raise trouble.bad_password_file(path, error) from error


class _TlsSocket(ssl.SSLSocket):
    """Closes itself when the handshake fails: the MQTT client would leave it to the garbage collector."""

    def do_handshake(self, block: bool = False) -> None:
        try:
            super().do_handshake(block)
        except OSError:
            self.close()
            raise

"""What to tell a person when the broker cannot be used: what happened, the probable cause, what to do next. Pure."""

from __future__ import annotations

import socket
import ssl
from typing import NamedTuple

from gateway.certificates import Validity, date
from gateway.clock import UNSYNCED, Clock
from gateway.errors import UplinkError
from gateway.model import Uplink

ADDRESS = "Write mqtts://host:8883 (TLS) or mqtt://host:1883 (plain), in uplink.brokers of the site file."

SILENT = (
    "The broker did not answer a ping. Probably it hangs, or the connection was cut without a word (mobile network, "
    "firewall). The agent connects again."
)
_EXPIRED, _NOT_YET, _WRONG_HOST, _STRANGER = 10, 9, {62, 64}, {18, 19, 20, 21}  # X509_V_ERR_* of OpenSSL
OUT_OF_DATE = (_EXPIRED, _NOT_YET)

_REFUSALS = {  # MQTT 5 section 3.2.2.2
    0x84: ("it speaks neither MQTT 5 nor 3.1.1", "Check that the address is that of an MQTT broker."),
    0x85: ("it does not accept the client id", "Let the broker's administrator admit this gateway's id."),
    0x86: ("the user name or the password is wrong", "Check uplink.username and the content of uplink.password_file."),
    0x87: (
        "this gateway is not authorised there",
        "Let the broker's administrator admit this gateway (certificate, user name, client id).",
    ),
    0x88: ("it is not available now", "Nothing needs to be done here: the agent tries again."),
    0x89: ("it is busy", "Nothing needs to be done here: the agent tries again."),
    0x8A: ("it has banned this client", "Ask the broker's administrator why."),
    0x97: ("a quota is used up", "Ask the broker's administrator to raise it."),
    0x9F: ("there were too many connections in a short time", "Nothing needs to be done here: the agent tries again."),
}


class _Dates(NamedTuple):
    """What is known when a certificate is not valid: the gateway's date, whether it is trusted, the certificate's."""

    now: float
    trusted: bool
    certificate: Validity | None

    def is_outside(self) -> bool:
        """Whether the certificate is known not to be valid today."""
        found = self.certificate
        return self.trusted and found is not None and not found.begins <= self.now <= found.ends

    def said(self) -> str:
        """The dates of the certificate, where they are known, to be put behind what is said of it."""
        found = self.certificate
        return f" (valid from {date(found.begins)} to {date(found.ends)})" if found else ""


def refused(url: str, code: int, name: str, access: Uplink) -> UplinkError:
    """The broker answered CONNECT with a refusal."""
    cause, advice = _REFUSALS.get(code, (name, "Ask the broker's administrator for the reason in its log."))
    if code in (0x86, 0x87) and not access.username:
        advice += " No uplink.username is configured."
    return UplinkError(f"The broker {url} refuses the connection: {cause}. {advice}")


def unreachable(
    url: str, error: Exception | None, access: Uplink, clock: Clock | None = None, suspect: Validity | None = None
) -> UplinkError:
    """No connection came about; `error` is what the socket or TLS said, None for silence.

    `clock`, and the dates of the certificate that the failure points at, tell a wrong date from an old certificate.
    """
    if isinstance(error, UplinkError):
        return error
    known = _Dates(clock.wall(), clock.state != UNSYNCED, suspect) if clock else None
    return UplinkError(f"The broker {url} cannot be reached: {_cause(url, error, access, known)}")


def _cause(url: str, error: Exception | None, access: Uplink, known: _Dates | None) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        if error.verify_code in OUT_OF_DATE:
            return _out_of_date(expired=error.verify_code == _EXPIRED, known=known)
        return _distrust(error, access)
    if isinstance(error, (ssl.SSLError, ConnectionResetError)) and known and known.is_outside():
        return (
            f"it hung up. Probably it refuses this gateway's own certificate, {access.cert}{known.said()}: today is "
            f"{date(known.now)}. Let the authority issue a new one and put it there; the agent takes it up by itself."
        )
    if isinstance(error, ssl.SSLError):
        said = getattr(error, "reason", None) or error
        return (
            f"the TLS handshake failed ({said}). Probably the port does not speak TLS, or the broker "
            "does not accept this gateway's certificate. Check the port (8883 is usual for mqtts://), uplink.cert and "
            "uplink.key."
        )
    if isinstance(error, (socket.gaierror, UnicodeError)):
        return (
            "its name cannot be resolved. Probably the name is misspelt, or there is no DNS on this network. Check the "
            "name, then the network: does another name resolve?"
        )
    if isinstance(error, ConnectionRefusedError):
        return (
            "the machine answers, but nobody listens on that port. Probably the broker is down or the port is wrong. "
            "Check the port with the broker's administrator."
        )
    if isinstance(error, ConnectionResetError):
        return (
            "it closed the connection before it accepted it. Probably the port is not MQTT's, TLS is expected "
            "(mqtts://), or the broker wants another client certificate. Check port, scheme and certificate."
        )
    if error is None or isinstance(error, TimeoutError):
        return (
            "there was no answer in time. Probably there is no way to it: no mobile signal, a firewall, a wrong "
            "address. Check the network, then the address and port."
        )
    return f"{error}. Check the network of this gateway, then {url}."


def _out_of_date(*, expired: bool, known: _Dates | None) -> str:
    """The broker's certificate, or that of its authority, is not valid at the gateway's date."""
    said = f"its certificate {'has expired' if expired else 'is not valid yet'}"
    if known is None:
        return (
            f"{said}, or this machine's clock is wrong. Compare the date, then let the broker's certificate be renewed."
        )
    said += known.said()
    today = f"this gateway's clock says {date(known.now)}"
    if not known.trusted:
        return (
            f"{said}, and {today} but has not been set since the start. Probably the clock is wrong, not the "
            "certificate. Let the gateway reach a time server, or set its clock; the agent tries again by itself."
        )
    if expired:
        return f"{said}, and {today}. Let the broker's certificate, or that of its authority, be renewed."
    return f"{said}, and {today}. Check this date; if it is right, the certificate was issued with a wrong one."


def _distrust(error: ssl.SSLCertVerificationError, access: Uplink) -> str:
    if error.verify_code in _WRONG_HOST:
        return (
            "its certificate is for another name. Write the name that stands in the certificate into uplink.brokers, "
            "or let the certificate be issued for this one."
        )
    if error.verify_code not in _STRANGER:
        return (
            f"its certificate, or that of its authority, breaks a rule: {error.verify_message}. Newer systems are "
            "stricter than older ones. Let the certificate be issued anew, with the extensions that RFC 5280 asks for."
        )
    signer = f"uplink.ca ({access.ca})" if access.ca else "the machine's own list of authorities (uplink.ca is not set)"
    return (
        f"its certificate is not signed by {signer}: {error.verify_message}. Get the authority's certificate from the "
        "broker's administrator and name it in uplink.ca."
    )


def ended(reason: str) -> str:
    """An open connection has ended; `reason` is what the broker gave in its DISCONNECT."""
    if "taken over" in reason.lower():
        return (
            "The broker ended the connection: another client has connected with this gateway's id. Look for a second "
            "gateway with the same gateway.id."
        )
    if reason:
        return f"The broker ended the connection: {reason}."
    return "The connection to the broker was lost."


def bad_certificate_files(access: Uplink, error: Exception) -> UplinkError:
    """The files for TLS cannot be used."""
    files = ", ".join(
        f"{name} = {path}" for name, path in (("ca", access.ca), ("cert", access.cert), ("key", access.key)) if path
    )
    return UplinkError(
        f"The files for TLS cannot be used ({files}): {error}. Probably one is missing, not readable for this user, "
        "not PEM, or certificate and key do not belong together."
    )


def bad_password_file(path: str, error: Exception) -> UplinkError:
    """The password cannot be read."""
    return UplinkError(f"The password file {path} cannot be read: {error}. Check that it exists and who may read it.")

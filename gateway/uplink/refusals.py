"""What a broker means when it does not take a message. Pure."""

from __future__ import annotations

LATER, NEVER, CLOSED = "later", "never", "closed"
"""Try again later; this batch will never be taken; this topic is closed to this gateway."""

_ANSWERS = {  # PUBACK reason codes, MQTT 5 section 3.4.2.1
    0x80: (LATER, "unspecified error"),
    0x83: (LATER, "implementation specific error"),
    0x87: (CLOSED, "not authorised"),
    0x90: (NEVER, "topic name invalid"),
    0x91: (LATER, "packet identifier in use"),
    0x97: (LATER, "quota exceeded"),
    0x99: (NEVER, "payload format invalid"),
}


def meaning(code: int) -> str:
    """Return LATER, NEVER or CLOSED; a code that is not known keeps everything: LATER."""
    return _ANSWERS.get(code, (LATER, ""))[0]


def reason(code: int) -> str:
    """Return the specification's words for a code."""
    return _ANSWERS.get(code, ("", f"reason 0x{code:02x}"))[1]

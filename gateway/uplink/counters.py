"""What the uplink counts since the agent's start."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class Counters:
    """Identity: published = confirmed + unheard + refused + lost + in flight (messages of the durable streams)."""

    connections: int = 0
    failures: int = 0
    """Attempts to connect that failed."""
    published: int = 0
    confirmed: int = 0
    """PUBACK 0x00."""
    unheard: int = 0
    """PUBACK 0x10: nobody has subscribed."""
    refused: int = 0
    """PUBACK 0x80 and above."""
    lost: int = 0
    """The connection ended before the PUBACK."""
    settled: int = 0
    """Batches that the store was told to free."""
    acks: int = 0
    """dn/ack messages."""
    unknown: int = 0
    """Spans in dn/ack that were not waiting: duplicates, or of another epoch."""
    resends: int = 0
    """Batches that dn/resend brought back."""
    overdue: int = 0
    """Batches sent again because the IOC did not acknowledge them in time."""
    dead_letters: int = 0
    """Batches that were refused for good: they stay on disk, and are not sent."""
    undeliverable: int = 0
    """Those of them that no packet of this broker can carry."""
    revived: int = 0
    """Dead letters that were sent again because their topic was opened."""
    missing: int = 0
    """Spans in dn/resend that are not stored."""
    takeovers: int = 0
    """Connections that another client with the same id has ended."""
    malformed: int = 0
    """Messages on dn/* that do not follow the contract."""
    discarded: int = 0
    """Messages on dn/* that came faster than they were read."""
    rebirths: int = 0
    """Requests on dn/rebirth."""

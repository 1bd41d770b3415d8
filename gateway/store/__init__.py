"""The durable store: readings stay here until the IOC has them."""

from gateway.store.store import Store

__all__ = ["Store"]

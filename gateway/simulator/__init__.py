"""Field devices that answer like real ones."""

from gateway.simulator.simulator import Simulator

__all__ = ["Simulator"]

"""An edge gateway agent for smart-city field devices."""

__version__ = "0.1.0"

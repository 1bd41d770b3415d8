"""Packages, signatures and flashing of field devices over the buses that the gateway owns."""

"""What a gateway is told: the site file and the profiles, checked and merged. Pure, but for reading the named files."""

from __future__ import annotations

from gateway.settings.build import device_from_profile
from gateway.settings.machine import certificate_notes
from gateway.settings.notes import loss_sentence, loss_window, notes
from gateway.settings.profile import profile_names, raw_profile
from gateway.settings.recognise import Factory, Signature, factories, signatures
from gateway.settings.site import check, load

__all__ = [
    "Factory",
    "Signature",
    "certificate_notes",
    "check",
    "device_from_profile",
    "factories",
    "load",
    "loss_sentence",
    "loss_window",
    "notes",
    "profile_names",
    "raw_profile",
    "signatures",
]

"""Errors, named by what happens next. Those between gateway and device stand in drivers.base."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple


class GatewayError(Exception):
    """A foreseeable failure: its text says what happened, what probably caused it and what to do next."""


class Problem(NamedTuple):
    """One thing wrong with a configuration.

    `path` is the dotted place in the document ("bus[0].device[1].address"), `line` the 1-based line or 0 when it has
    none, `machine` is true when the file may be right and this machine does not fit it (a port that is missing).
    """

    file: str
    path: str
    line: int
    text: str
    advice: str = ""
    machine: bool = False

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}" if self.line else self.file
        where = f" {self.path}:" if self.path else ""
        advice = f"\n    {self.advice}" if self.advice else ""
        return f"{place}:{where} {self.text}{advice}"


class ConfigError(GatewayError):
    """Refuse the whole new configuration, list every problem, keep the old one."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(str(problem) for problem in self.problems))


class LinkError(GatewayError):
    """The port cannot be used: close it, back off, try again. Only this bus is concerned."""


class StoreDamaged(GatewayError):
    """The database cannot be trusted: move it aside, start fresh, raise an alarm."""


class UplinkError(GatewayError):
    """The broker cannot be used now: reconnect with jitter; nothing is lost."""


class Declined(GatewayError):
    """Nothing was done, because it makes no sense as it was asked: ask for something else (exit code 2)."""

"""Reading a site file: load for the agent, check for people."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pydantic import ValidationError

from gateway.errors import ConfigError, Problem
from gateway.model import Site
from gateway.settings import build
from gateway.settings.document import Document, read
from gateway.settings.explain import explain
from gateway.settings.machine import machine_problems
from gateway.settings.profile import SHIPPED, Catalogue
from gateway.settings.rules import rules
from gateway.settings.tables import SiteTable, StoreTable


def load(path: Path, *, profile_dirs: Sequence[Path] | None = None) -> Site:
    """Read and check a site file. ConfigError with every problem; what this machine lacks is none.

    `profile_dirs`: where profiles are looked for, in order; default: the shipped ones, then profiles/ in the store.
    """
    return _site(read(path), profile_dirs)


def check(path: Path, *, profile_dirs: Sequence[Path] | None = None) -> tuple[Site | None, list[Problem]]:
    """Return the Site (None when the file is wrong) and every problem, those of this machine too, by line."""
    try:
        document = read(path)
        site = _site(document, profile_dirs)
    except ConfigError as error:
        return None, list(error.problems)
    return site, _sorted(document, list(machine_problems(document, site)))


def _site(document: Document, profile_dirs: Sequence[Path] | None) -> Site:
    catalogue = Catalogue(_profile_dirs(document) if profile_dirs is None else profile_dirs)
    problems: list[Problem] = []
    try:
        table = SiteTable.model_validate(document.data)
    except ValidationError as error:
        problems = explain(document, SiteTable, error)
    places = {problem.path for problem in problems}
    problems += [problem for problem in rules(document, catalogue) if problem.path not in places]
    if problems:
        raise ConfigError(_sorted(document, problems))
    return build.site(table, document.sha256, catalogue)


def _profile_dirs(document: Document) -> list[Path]:
    store = document.table("store").get("path", StoreTable().path)
    return [SHIPPED, Path(store) / "profiles"] if isinstance(store, str) and store.startswith("/") else [SHIPPED]


def _sorted(document: Document, problems: list[Problem]) -> list[Problem]:
    """By line; those in profiles, which are other files, after the site file's own. Each once."""
    return sorted(
        dict.fromkeys(problems), key=lambda problem: (problem.file != document.file, problem.file, problem.line)
    )

"""A progress bar with the time left; plain lines where there is no terminal."""

from __future__ import annotations

import time
from collections.abc import Sequence

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn


class Bar:
    """Knows the planned seconds of every step; the time left is what is planned of the steps still to come."""

    def __init__(self, planned: Sequence[float]) -> None:
        self._planned = list(planned)
        self._done = 0.0
        self._began = time.monotonic()
        self._current = 0.0
        self._drawn = 0.0
        self._total = sum(planned)
        self._console = Console()
        self._rich: Progress | None = None
        self._task = TaskID(0)
        if self._console.is_terminal:
            columns = (
                BarColumn(),
                TextColumn("{task.percentage:3.0f} %  {task.fields[left]} left  {task.description}"),
            )
            self._rich = Progress(*columns, console=self._console, auto_refresh=False)
            self._task = self._rich.add_task("", total=self._total, left="")
            self._rich.start()

    def begin(self, label: str) -> None:
        """The next step starts."""
        self._done += self._current
        self._current = self._planned.pop(0)
        self._began = time.monotonic()
        if self._rich:
            self._rich.update(self._task, description=label)
        else:
            self._console.print(f"{_clock(self._total - self._done)} left  {label}", soft_wrap=True)
        self._draw()

    def say(self, text: str) -> None:
        (self._rich.console if self._rich else self._console).print(text, soft_wrap=True, markup=False, highlight=False)

    def sleep(self, seconds: float) -> None:
        """Sleeps and keeps the bar alive: twice a second, so that drawing does not show in what is measured."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            if time.monotonic() - self._drawn > 0.5:
                self._draw()
            time.sleep(min(left, 0.5))

    def _draw(self) -> None:
        self._drawn = time.monotonic()
        if self._rich:
            done = self._done + min(self._current, self._drawn - self._began)
            self._rich.update(self._task, completed=done, left=_clock(self._total - done))
            self._rich.refresh()

    def stop(self) -> None:
        if self._rich:
            self._rich.stop()


def _clock(seconds: float) -> str:
    return f"{int(seconds) // 60:2}:{int(seconds) % 60:02}"

"""Which births to ask for: those that a batch names and nobody has seen. Pure: the caller has the clock."""

from __future__ import annotations

from math import inf

from gateway.ioc.decode import Catalogue, Message

_EVERY = 60.0
_MAX = 10_000


class Births:
    """The births that are missing in a catalogue."""

    def __init__(self, catalogue: Catalogue) -> None:
        self._catalogue = catalogue
        self._asked: dict[tuple[str, str, str], float] = {}

    def need(self, message: Message) -> None:
        """A batch has come that its births have to explain."""
        for block in message.blocks:
            key = message.gw, block.device, block.cfg
            if self._catalogue.birth(*key) is None and len(self._asked) < _MAX:
                self._asked.setdefault(key, -inf)

    def look(self, now: float) -> list[tuple[str, str, str]]:
        """What to ask for now, as (gateway, device, cfg): each once a minute, as long as batches name it."""
        questions = []
        for key, asked in list(self._asked.items()):
            if self._catalogue.birth(*key) is not None or -inf < asked <= now - _EVERY:
                del self._asked[key]
            elif asked == -inf:
                self._asked[key] = now
                questions.append(key)
        return questions

"""The agent's log: one line per event on stderr, for journald and for eyes."""

from __future__ import annotations

import logging
import sys

# structlog imports rich wherever it is installed, which costs the agent 5 MB and 30 ms for colours it never prints.
_RICH_IS_LOADED = "rich" in sys.modules
if not _RICH_IS_LOADED:
    sys.modules["rich"] = None  # type: ignore[assignment]
import structlog  # noqa: E402  (after the guard above)

if not _RICH_IS_LOADED:
    del sys.modules["rich"]


def set_up(level: int = logging.INFO) -> None:
    """Send structlog and the libraries' warnings to stderr, one line each, key=value."""
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.LogfmtRenderer(key_order=["timestamp", "level", "event"]),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
    form = "level=%(levelname)s logger=%(name)s %(message)s"
    logging.basicConfig(level=logging.ERROR, stream=sys.stderr, format=form)
    logging.getLogger("mqtt").addFilter(_is_news)


def _is_news(record: logging.LogRecord) -> bool:
    """Of the MQTT library: not that a connection has ended. The uplink says that with its cause, once per outage."""
    return not str(record.msg).startswith("failed to receive on socket")


logger: structlog.stdlib.BoundLogger = structlog.get_logger()

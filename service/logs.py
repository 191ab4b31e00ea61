"""Logs on stderr: lines for people, or one JSON object per line for machines."""

import logging
import sys
from datetime import UTC, datetime

import orjson

_FIELDS = ("request_id", "method", "route", "status", "ms", "model", "version")
"""What a record of a request carries beside its words."""


class JsonFormatter(logging.Formatter):
    """One JSON object per record."""

    def format(self, record: logging.LogRecord) -> str:
        """The record's line."""
        content = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        content |= {name: getattr(record, name) for name in _FIELDS if hasattr(record, name)}
        if record.exc_info:
            content["error"] = self.formatException(record.exc_info)
        return orjson.dumps(content, default=str).decode()


def set_up(*, level: str, style: str) -> None:
    """Send everything of `level` and above to stderr; `style` is text or json."""
    handler = logging.StreamHandler(sys.stderr)
    text = logging.Formatter("%(asctime)s %(levelname)s %(message)s")
    handler.setFormatter(JsonFormatter() if style == "json" else text)
    logging.basicConfig(level=level.upper(), handlers=[handler])

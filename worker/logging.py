"""The worker's own log: structlog, one constant message plus fields; Celery's lines go the same way."""

import logging
import sys
from typing import Any

import structlog
from celery.exceptions import CPendingDeprecationWarning

from worker.settings import WorkerSettings


def configure_logging(settings: WorkerSettings) -> None:
    """Configure logging to stderr: text for people, or one JSON object a line."""
    level = logging.getLevelNamesMapping()[settings.log_level]
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
    ]
    renderer: structlog.typing.Processor = (
        structlog.processors.JSONRenderer()
        if settings.log_format == "json"
        else structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())
    )
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *shared,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[_on_one_line, *shared],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    # One line per launch or connection from Celery says nothing that ours do not; the pool's tell arguments.
    for name in ("worker.strategy", "worker.consumer.connection", "pool"):
        logging.getLogger(f"celery.{name}").setLevel(max(level, logging.WARNING))
    for name in ("app.trace", "worker.consumer.consumer"):
        logging.getLogger(f"celery.{name}").setLevel(max(level, logging.ERROR))
    # Nine lines about a default of Celery 6 with each lost connection. Celery sets its own filter after this.
    logging.getLogger("py.warnings").addFilter(
        lambda told: CPendingDeprecationWarning.__name__ not in told.getMessage()
    )


def _on_one_line(logger: Any, method: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
    """Put an event on one line: Celery's begin and end with empty ones. Tracebacks are no part of them."""
    return {**event, "event": " ".join(str(event["event"]).split())}

"""The program's own log: one JSON object a line on stderr; on a terminal, lines for people. Not the audit log."""

import logging
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import structlog

SECRET_WORDS = frozenset({"password", "token", "code", "secret", "authorization", "seed"})


def set_up_logs(level: str) -> None:
    # structlog loads rich where it is installed, 4 MB, for tracebacks of a kind that is not shown here
    rich = sys.modules.get("rich")
    sys.modules["rich"] = None  # type: ignore[assignment]  # how importing is told that there is none
    import structlog  # noqa: PLC0415  # as said above

    del sys.modules["rich"]
    if rich:
        sys.modules["rich"] = rich
    shared: list[structlog.typing.Processor] = [
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.ExtraAdder(),
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _without_secrets,
    ]
    show: structlog.typing.Processor = (
        structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)
        if sys.stderr.isatty()
        else structlog.processors.JSONRenderer()
    )
    render: list[structlog.typing.Processor] = [structlog.stdlib.ProcessorFormatter.remove_processors_meta]
    if not sys.stderr.isatty():
        render.append(structlog.processors.format_exc_info)
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(structlog.stdlib.ProcessorFormatter(foreign_pre_chain=shared, processors=[*render, show]))
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(level.upper())
    # the HTTP client says every address that it asks, and in debug every header that comes back
    for chatty in ("uvicorn", "alembic", "httpx2", "httpcore2"):
        logging.getLogger(chatty).setLevel(max(logging.WARNING, root.level))


def _without_secrets(_logger: object, _method: str, line: "structlog.typing.EventDict") -> "structlog.typing.EventDict":
    """A second net: our own code passes secrets as `Secret`, which never shows itself."""
    return {name: "***" if name in SECRET_WORDS else value for name, value in line.items()}

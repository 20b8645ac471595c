"""The program's own log: one JSON object a line, and no secret in it whoever logs it."""

import json
import logging
from collections.abc import Iterator

import pytest

from jitgate.app.logs import set_up_logs
from jitgate.core.secret import Secret


@pytest.fixture
def logger() -> Iterator[logging.Logger]:
    root = logging.getLogger()
    before = root.handlers, root.level
    yield logging.getLogger("jitgate.test")
    root.handlers, root.level = before


def lines(capsys: pytest.CaptureFixture[str]) -> list[dict[str, object]]:
    return [json.loads(line) for line in capsys.readouterr().err.splitlines()]


def test_each_line_is_one_object(logger: logging.Logger, capsys: pytest.CaptureFixture[str]):
    set_up_logs("info")
    logger.info("serving\nand more", extra={"port": 8443})
    logger.debug("not said")
    try:
        int("bad")
    except ValueError:
        logger.exception("a crash")
    first, second = lines(capsys)
    assert (first["event"], first["port"], first["level"]) == ("serving\nand more", 8443, "info")
    assert "ValueError: invalid literal" in str(second["exception"])


def test_a_secret_that_slips_in_is_not_shown(logger: logging.Logger, capsys: pytest.CaptureFixture[str]):
    set_up_logs("debug")
    value = "hunter2"
    logger.info("one", extra={"password": value, "token": value, "code": value, "seed": value, "authorization": value})
    logger.info("two %s", Secret(value))
    logger.info("three", extra={"thing": Secret(value)})
    assert value not in json.dumps(lines(capsys))


def test_chatty_libraries_are_heard_only_when_they_warn(logger: logging.Logger, capsys: pytest.CaptureFixture[str]):
    set_up_logs("debug")
    logging.getLogger("uvicorn.error").info("chat")
    logging.getLogger("alembic.runtime").info("chat")
    logging.getLogger("uvicorn.error").warning("heard")
    logger.debug("heard too")
    assert [line["event"] for line in lines(capsys)] == ["heard", "heard too"]

"""What `serve` does before it serves."""

import resource
from collections.abc import Iterator

import pytest

from jitgate.app.serve import DESCRIPTORS, take_descriptors


@pytest.fixture
def limits() -> Iterator[tuple[int, int]]:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    yield before
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


def test_it_takes_the_descriptors_that_its_connections_need(limits: tuple[int, int]):
    _, hard = limits
    resource.setrlimit(resource.RLIMIT_NOFILE, (512, hard))  # as a program is started
    take_descriptors()
    assert resource.getrlimit(resource.RLIMIT_NOFILE) == (min(DESCRIPTORS, hard), hard)
    take_descriptors()
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    take_descriptors()  # never lowered
    assert resource.getrlimit(resource.RLIMIT_NOFILE) == (hard, hard)


def test_fewer_than_needed_are_said(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture):
    monkeypatch.setattr(resource, "getrlimit", lambda _: (1024, 2048))
    taken: list[tuple[int, int]] = []
    monkeypatch.setattr(resource, "setrlimit", lambda _, limit: taken.append(limit))
    take_descriptors()
    assert taken == [(2048, 2048)]
    assert "few files" in caplog.text
    assert "LimitNOFILE" in vars(caplog.records[0])["hint"]

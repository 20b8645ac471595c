"""`jitgate demo` leaves nothing, however it ends."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

import pytest

from jitgate.app.commands import demo


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_closed_terminal_ends_it_like_any_other_stop(monkeypatch: pytest.MonkeyPatch, number: signal.Signals):
    taken_down: list[Path] = []

    @contextmanager
    def world(folder: Path, *, dex: bool, trusted: bool) -> Iterator[None]:
        assert not dex
        assert not trusted
        try:
            yield
        finally:
            taken_down.append(folder)

    monkeypatch.setattr(demo, "open_world", world)
    monkeypatch.setattr(demo, "joined_hosts", lambda _: nullcontext())
    monkeypatch.setattr(demo, "tour", lambda _: signal.raise_signal(number))
    before = {each: signal.getsignal(each) for each in (signal.SIGTERM, signal.SIGHUP)}
    signal.signal(number, lambda *_: None)  # or it would end the tests
    try:
        with pytest.raises(SystemExit) as caught:
            demo.demo.main([], standalone_mode=False)
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)
    assert caught.value.code == 128 + number
    assert len(taken_down) == 1
    assert not taken_down[0].exists()

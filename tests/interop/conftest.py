"""What these tests share; loaded only by those that ask for it."""

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.dex import Provider
    from tests.interop.plain import Plain
    from tests.people import Person


@pytest.fixture(scope="module")
def plain_alice(programs: Mapping[str, Path]) -> "Iterator[Person]":
    from tests.interop.plain import open_plain  # noqa: PLC0415  # loading it takes seconds

    assert programs
    with open_plain() as (_, alice):
        yield alice


@pytest.fixture(params=["tunnel", "direct"])
def plain(plain_alice: "Person", request: pytest.FixtureRequest) -> "Plain":
    """Plain ssh with nothing fetched yet, or something left from the test before: both have to work."""
    from tests.interop.plain import Plain  # noqa: PLC0415  # as above

    return Plain(plain_alice, request.param)


@pytest.fixture(scope="module")
def provider(programs: Mapping[str, Path], dex: Path) -> "Iterator[Provider]":
    """A running Dex of this file's own."""
    from tests.dex import open_provider  # noqa: PLC0415  # as above

    assert programs
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("PATH", f"{dex.parent}:{os.environ['PATH']}")
        with open_provider() as opened:
            yield opened

"""What the tests of plain ssh share; loaded only by those that ask for it."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
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

"""A service with its gateway and somebody who administers it, for a file that wants no other."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:  # tests that need no service do not load one
    from tests.client import Connection
    from tests.service import Nursery, Service


@pytest.fixture(scope="module")
def gate(nursery: "Nursery") -> "Iterator[Service]":
    from tests.tunnel import gateway  # noqa: PLC0415  # loading it takes seconds

    with gateway(nursery) as started:
        yield started


@pytest.fixture(scope="module")
def olga(gate: "Service") -> "Iterator[Connection]":
    """An administrator, who may go to hosts too."""
    from tests.tunnel import enter  # noqa: PLC0415  # as above

    connection = enter(gate, "olga", "engineers", admin=True)
    yield connection
    connection.close()

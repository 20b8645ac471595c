"""Fixtures for the tests of stores: each test runs on each of them."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.conformance.stores import STORES, Opened, make
from tests.keepers import softhsm
from tests.postgres import Postgres

from jitgate.adapters.db.store import Store
from jitgate.ca.places import Pkcs11Place


@pytest.fixture(params=STORES)
def opened(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Opened]:
    yield from request.param(tmp_path, request)


@pytest.fixture(scope="session")
def empty_template(postgres: Postgres) -> str:
    """The name of a database with an installation in which nothing has happened yet."""
    name = postgres.create()
    make(postgres.url(name))
    return name


@pytest.fixture(scope="session")
def token_place(tmp_path_factory: pytest.TempPathFactory) -> Pkcs11Place:
    """One for all: the library reads its settings once in a process."""
    return softhsm(tmp_path_factory.mktemp("softhsm"))


@pytest.fixture
def store(opened: Opened) -> Store:
    return opened.store

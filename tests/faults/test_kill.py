"""SIGKILL of the service or of its signer at any moment under load (`tests/faults/load.py` has what must hold then)."""

import os
import random
import signal
import time
from collections.abc import Callable, Iterator

import pytest
from tests.faults.load import Load, check, loaded
from tests.postgres import Postgres
from tests.service import Service

LOAD_S = (0.0, 0.25)  # a kill comes so long after the first certificate of a run


@pytest.fixture
def load(install: Callable[..., Service]) -> Iterator[Load]:
    service = install()
    service.start()
    with loaded(service) as opened:
        yield opened


@pytest.mark.parametrize(("database", "times"), [("sqlite", 17), ("sqlite", 18), ("postgres", 8)])
def test_the_service_is_killed(load: Load, times: int):
    """Again and again, under load: after each start all goes on, and at the end all is accounted for."""
    chance = random.Random(f"service {times} {os.environ.get('JITGATE_SEED', '')}")
    for _ in range(times):
        load.wait_for_one()
        time.sleep(chance.uniform(*LOAD_S))
        load.service.kill()
        load.service.start()
    load.wait_for_one()
    load.stop()
    assert load.service.stop() == 0
    check(load)


@pytest.mark.parametrize("part", range(2))
def test_the_signer_is_killed(load: Load, part: int):
    """The service starts another one; callers are told, or served by that one."""
    chance = random.Random(f"signer {part} {os.environ.get('JITGATE_SEED', '')}")
    for _ in range(20):
        load.wait_for_one()
        time.sleep(chance.uniform(*LOAD_S))
        before = load.service.signer_pid()
        if before:
            os.kill(before, signal.SIGKILL)
    load.wait_for_one()
    load.stop()
    service = load.service
    assert service.stop() == 0
    service.start()  # what the signers that died had signed is looked for
    assert service.stop() == 0
    check(load)


def test_both_are_killed_and_the_list_is_torn(load: Load):
    """As a power cut leaves it: neither finished its line."""
    chance = random.Random(f"both {os.environ.get('JITGATE_SEED', '')}")
    service = load.service
    for _ in range(10):
        load.wait_for_one()
        time.sleep(chance.uniform(*LOAD_S))
        signer = service.signer_pid()
        os.kill(service.pid, signal.SIGSTOP)
        if signer:
            os.kill(signer, signal.SIGKILL)
        service.kill()
        with (service.state / "signed/signed.list").open("ab") as file:
            file.write(b'{"time":17000000')
        service.start()
    load.wait_for_one()
    load.stop()
    assert service.stop() == 0
    check(load)


def test_nodes_are_killed(install: Callable[..., Service], postgres: Postgres):
    """Two nodes on one database: whichever dies, the other goes on, and all that both did is accounted for."""
    chance = random.Random(f"nodes {os.environ.get('JITGATE_SEED', '')}")
    with postgres.database() as url:
        first = install(database=url)
        nodes = first, install(database=url, join=first)
        for node in nodes:
            node.start()
        with loaded(*nodes) as load:
            for _ in range(6):
                load.wait_for_one()
                time.sleep(chance.uniform(*LOAD_S))
                node = chance.choice(nodes)
                node.kill()
                load.wait_for_one()  # from the other one
                node.start()
            load.wait_for_one()
            load.stop()
            for node in nodes:
                assert node.stop() == 0
            check(load)

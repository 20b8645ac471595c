"""A decision that cannot be recorded is not made: the log's write fails, and nothing of the act stays or leaves."""

from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from sqlalchemy import inspect
from tests.client import Answer
from tests.world import OPERATOR, Visitor, World

from jitgate.adapters.db.log import Log
from jitgate.core.errors import Unreachable
from jitgate.core.ids import Random
from jitgate.flow.people import disable_person
from jitgate.ssh.private import generate_ed25519

pytestmark = pytest.mark.databases

Act = Callable[[World, Visitor], Awaitable[Answer]]


async def sign_in(world: World, _alice: Visitor) -> Answer:
    return await world.stranger().sign_in("alice")


async def sign_out(_world: World, alice: Visitor) -> Answer:
    return await alice.post("/v1/sign-out")


async def open_grant(_world: World, alice: Visitor) -> Answer:
    return await alice.post("/v1/grants", {"host": "web2"})


async def end_grant(_world: World, alice: Visitor) -> Answer:
    return await alice.post(f"/v1/grants/{alice.granted}/end")


async def certificate(_world: World, alice: Visitor) -> Answer:
    return await alice.certificate()


async def add_key(_world: World, alice: Visitor) -> Answer:
    new = generate_ed25519()
    return await alice.post("/v1/keys", {"key": new.public.line("new")}, new_key=new)


async def remove_key(_world: World, alice: Visitor) -> Answer:
    (key,) = (await alice.get("/v1/keys")).json["keys"]
    return await alice.delete(f"/v1/keys/{key['id']}")


ACTS = (sign_in, sign_out, open_grant, end_grant, certificate, add_key, remove_key)


def full_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    write = Log.write_pending

    def fail(log: Log, random: Random) -> None:
        if log.mark():
            raise OSError(28, "No space left on device")
        write(log, random)

    monkeypatch.setattr(Log, "write_pending", fail)


async def kept(world: World) -> dict[str, list[Any]]:
    """Every row of every table, but for what a failure uses up too: attempts at signing in, and serials."""

    def read(tx: Any) -> dict[str, list[Any]]:
        named = inspect(tx.connection).get_table_names()
        return {
            name: sorted(map(tuple, tx.connection.exec_driver_sql(f'SELECT * FROM "{name}"').all()), key=repr)
            for name in named
            if name not in ("throttle", "serial_counter")
        }

    return await world.store.read(read)


@pytest.mark.parametrize("act", ACTS, ids=[act.__name__ for act in ACTS])
async def test_a_decision_that_cannot_be_recorded_is_not_made(world: World, monkeypatch: pytest.MonkeyPatch, act: Act):
    alice = await world.enter("alice")
    await alice.grant()
    await alice.certificate()  # so that serials are in hand

    before = await kept(world)
    with monkeypatch.context() as patch:
        full_disk(patch)
        answer = await act(world, alice)
    assert answer.status == 503, answer
    assert "certificate" not in answer.json
    assert "token" not in answer.json
    assert await kept(world) == before
    assert (await act(world, alice)).status < 300  # and once the log can be written, it is done


async def test_what_an_operator_does_unrecorded_is_not_done_either(world: World, monkeypatch: pytest.MonkeyPatch):
    with monkeypatch.context() as patch:
        full_disk(patch)
        with pytest.raises(Unreachable):
            await disable_person(world.outside, OPERATOR, "alice")
    assert (await world.person("alice")).disabled_at is None

"""A plan and several nodes: no key is used that the signer of one of them lacks."""

import pytest
from tests.unit.ca.samples import private, public
from tests.world import OPERATOR, World

from jitgate.ca.realms import CaKind
from jitgate.core.clock import MINUTE
from jitgate.core.errors import Conflict
from jitgate.flow.authorities import watch_held_keys
from jitgate.flow.hosts import renew_host
from jitgate.flow.obstacles import NODE_GONE
from jitgate.flow.rotation import advance_rotation, rotations, start_rotation


async def begun(world: World) -> None:
    """A plan that nothing holds up but what another node lacks."""
    world.signer.desk.hold("user-2", private("user-2"))
    await start_rotation(world.outside, OPERATOR, "default", CaKind.USER, "user-2")
    world.clock.advance(MINUTE)
    for name in ("web1", "web2", "db1"):
        await renew_host(world.outside, OPERATOR, name)


async def test_a_key_that_another_node_lacks_is_not_used(world: World):
    here, there = world.new_id(), world.new_id()
    world.change(node=here)
    await world.store.write(lambda tx: tx.nodes.seen(here, "one", world.clock()))
    await world.store.write(lambda tx: tx.nodes.seen(there, "two", world.clock()))
    await begun(world)
    with pytest.raises(Conflict, match="the signer of the node two does not hold the new key"):
        await advance_rotation(world.outside, OPERATOR, "default", CaKind.USER)

    world.change(node=there)
    await watch_held_keys(world.outside, {})  # the other node's own look, after the key was brought there
    assert public("user-2").fingerprint in await world.store.read(lambda tx: tx.nodes.held(there))
    world.change(node=here)
    assert str((await advance_rotation(world.outside, OPERATOR, "default", CaKind.USER)).rotation.step) == "use"


async def test_a_node_that_is_gone_holds_nothing_up(world: World):
    await world.store.write(lambda tx: tx.nodes.seen(world.new_id(), "two", world.clock()))
    await begun(world)
    ((waiting,),) = [each.obstacles for each in await rotations(world.outside)]
    assert waiting.ready_at is not None
    world.clock.now = waiting.ready_at + 1
    assert waiting.ready_at > NODE_GONE
    assert str((await advance_rotation(world.outside, OPERATOR, "default", CaKind.USER)).rotation.step) == "use"


async def test_a_key_that_our_own_signer_let_go_is_not_used(world: World):
    await begun(world)
    world.signer.desk.let_go("user-2")
    with pytest.raises(Conflict, match="the signer does not hold the new key"):
        await advance_rotation(world.outside, OPERATOR, "default", CaKind.USER)

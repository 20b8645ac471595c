"""Hosts as an operator keeps them: their certificates, renewed before they end."""

import pytest
from tests.world import OPERATOR, World

from jitgate.core.clock import DAY, SECOND
from jitgate.core.errors import NotFound
from jitgate.flow.hosts import list_hosts, remove_host, renew_host
from jitgate.ssh.cert import CertType

pytestmark = pytest.mark.databases


async def test_a_host_is_certified_anew_for_the_key_it_is_known_by(world: World):
    known = next(host for host in await list_hosts(world.outside) if host.name == "web1")
    world.clock.advance(60 * DAY)
    before = await world.size()
    renewed = await renew_host(world.outside, OPERATOR, "web1")
    body = renewed.certificate.body
    assert (body.type, body.key, body.principals) == (CertType.HOST, known.key, ("web1.default.jitgate", "web1"))
    assert body.valid_before == (world.clock() + 90 * DAY) // SECOND
    (event,) = await world.events("certificate.issued", after=before - 1)
    assert (event["serial"], event["target"], event["actor"]["kind"]) == (str(body.serial), "host:web1", "operator")
    assert renewed.host == known, "nothing else about the host changes"


async def test_only_a_known_host_is_renewed(world: World):
    with pytest.raises(NotFound):
        await renew_host(world.outside, OPERATOR, "web9")
    await remove_host(world.outside, OPERATOR, "web1")
    with pytest.raises(NotFound):
        await renew_host(world.outside, OPERATOR, "web1")


async def test_a_host_forgotten_while_its_certificate_is_signed_gets_none(world: World):
    async def forget() -> None:
        await remove_host(world.outside, OPERATOR, "web1")

    world.signer.hook = forget
    before = await world.size()
    with pytest.raises(NotFound):
        await renew_host(world.outside, OPERATOR, "web1")
    kinds = [event["type"] for event in await world.events(after=before - 1)]
    assert kinds[-2:] == ["host.removed", "certificate.unreleased"]

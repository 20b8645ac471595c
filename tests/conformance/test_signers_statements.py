"""What every signer says to hosts, by the process with keys in files too."""

from dataclasses import replace

from tests.conformance.test_signers import with_signer
from tests.unit.ca.samples import public
from tests.unit.ca.test_statements import HONEST
from tests.unit.hosts.test_bundle import BUNDLE

from jitgate.ca import trust
from jitgate.ca.envelope import make_envelope
from jitgate.ca.model import HeldAgentKeys, Signer, SignerRefusal
from jitgate.ca.trust import trust_payload
from jitgate.core.clock import DAY, system_clock
from jitgate.hosts import bundle
from jitgate.hosts.bundle import bundle_payload

__all__ = ["with_signer"]


def test_it_shows_the_keys_that_hosts_obey(with_signer):
    async def test(signer: Signer) -> None:
        assert (await signer.keys()).agents == HeldAgentKeys(public("root"), public("online"))

    with_signer(test)


def test_it_signs_a_list_of_trust_that_names_its_own_keys_and_no_other(with_signer):
    async def test(signer: Signer) -> None:
        wanted = replace(HONEST, made_at=system_clock())
        signature = await signer.trust(trust_payload(wanted))
        assert isinstance(signature, bytes)
        make_envelope(trust.DOMAIN, trust_payload(wanted), public("root"), signature)
        forged = replace(wanted, user=(*wanted.user, public("mallory's ca")))
        refused = await signer.trust(trust_payload(forged))
        assert isinstance(refused, SignerRefusal)
        assert refused.code == "foreign_key"

    with_signer(test)


def test_it_signs_many_bundles_in_their_order(with_signer):
    async def test(signer: Signer) -> None:
        now = system_clock()
        made = [
            replace(BUNDLE, version=(0, n, now), made_at=now, expires_at=now + (8 * DAY if n == 70 else DAY))
            for n in range(150)
        ]
        found = await signer.bundles([bundle_payload(each) for each in made])
        for wanted, signature in zip(made, found, strict=True):
            if wanted.version[1] == 70:
                assert isinstance(signature, SignerRefusal)
            else:
                assert isinstance(signature, bytes)
                make_envelope(bundle.DOMAIN, bundle_payload(wanted), public("online"), signature)

    with_signer(test)

"""Hosts that join, as a test plays them: one with a key, which says what a real one says."""

import base64
from dataclasses import dataclass, field

from tests.client import Answer
from tests.world import World

from jitgate.ca.envelope import take_envelope
from jitgate.ca.trust import PAYLOAD_MAX as TRUST_MAX
from jitgate.ca.trust import TrustPin, open_trust, pinned_root
from jitgate.core.secret import Secret
from jitgate.hosts.bundle import PAYLOAD_MAX as BUNDLE_MAX
from jitgate.hosts.bundle import Bundle, BundlePin, check_krl, open_bundle
from jitgate.hosts.joining import NAMESPACE, JoinToken, join_bytes, secret_hash
from jitgate.ssh import sshsig
from jitgate.ssh.cert import Certificate, parse_certificate_line
from jitgate.ssh.private import SoftwareKey, generate_ed25519


@dataclass
class NewHost:
    """`answer`: what it was told when it joined."""

    world: World
    key: SoftwareKey = field(default_factory=generate_ed25519)
    source: str = "192.0.2.50"
    answer: Answer | None = None

    def body(self, of: JoinToken, **wrong: object) -> dict[str, object]:
        now = self.world.clock()
        said = join_bytes(of.installation, of.realm, of.name, secret_hash(of.secret), now)
        return {
            "token": of.secret.reveal(),
            "realm": of.realm,
            "name": of.name,
            "host_key": self.key.public.line(),
            "time": now,
            "signature": signed(self.key, NAMESPACE, said),
            "facts": {"agent": "test"},
        } | wrong

    async def join(self, of: JoinToken, **wrong: object) -> Answer:
        visitor = self.world.stranger(self.source)
        self.answer = await visitor.post("/v1/hosts/join", self.body(of, **wrong))
        return self.answer

    async def join_by_key(self, installation: str, name: str, realm: str = "default") -> Answer:
        """Without a token: by the key that it is known by."""
        now = self.world.clock()
        said = join_bytes(installation, realm, name, bytes(32), now)
        token = JoinToken("https://a", installation, realm, name, "SHA256:" + "A" * 43, "", Secret("0" * 64))
        return await self.join(token, token="", signature=signed(self.key, NAMESPACE, said))

    async def join_by_identity(self, of: JoinToken, id_token: str, provider: str = "corp", **wrong: object) -> Answer:
        """By a token of an identity provider: of the join token only the way there is used."""
        now = self.world.clock()
        said = join_bytes(of.installation, of.realm, of.name, secret_hash(Secret(id_token)), now)
        shown = {"token": "", "provider": provider, "id_token": id_token}
        return await self.join(of, **({**shown, "signature": signed(self.key, NAMESPACE, said)} | wrong))


def signed(key: SoftwareKey, namespace: str, message: bytes) -> str:
    signature = key.sign(sshsig.signed_bytes(namespace, message))
    return base64.b64encode(sshsig.encode(key.public, namespace, signature)).decode()


def checked(answer: Answer, token: JoinToken) -> tuple[Certificate, Bundle]:
    """What a host makes of its answer, with all that it has to check."""
    told = answer.json
    root = pinned_root(told["root"], token.root)
    pin = TrustPin(token.installation, token.realm, root)
    trust = open_trust(take_envelope(told["trust"], TRUST_MAX), pin, None)
    where = BundlePin(token.installation, token.realm, told["host"]["id"], token.name, trust.online)
    bundle = open_bundle(take_envelope(told["bundle"], BUNDLE_MAX), where, None)
    check_krl(bundle, base64.b64decode(told["krl"]))
    certificate = parse_certificate_line(told["certificate"])
    assert certificate.body.ca in trust.host
    return certificate, bundle

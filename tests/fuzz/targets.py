"""What a fuzzer may call: one function a parser, each taking any bytes.

A parser may refuse them with `FormatError` or another `BadInput`; any other exception is a finding. What it takes must
be written again as the same bytes.
"""

import json
from base64 import b64encode
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from ipaddress import ip_address
from urllib.parse import urlsplit

from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from tests.providers import CLIENT, ISSUER, FakeProvider, jwk
from tests.unit.ca.test_trust import TRUST
from tests.unit.gateway.test_hello import hello
from tests.unit.gateway.test_proxy import header
from tests.unit.hosts.test_agent_wire import SEEDS as AGENT_FRAMES
from tests.unit.hosts.test_bundle import BUNDLE
from tests.unit.hosts.test_joining import TOKEN as JOIN_TOKEN
from tests.unit.sessions.test_ticket import KEY as TICKET_KEY
from tests.unit.sessions.test_ticket import TICKET
from tests.unit.ssh.made import SOFTWARE, made, software_key
from tests.unit.ssh.test_cert import body, signed

from jitgate.adapters.custody.agent import keys_in
from jitgate.adapters.custody.transit import public_of
from jitgate.ca.trust import take_trust, trust_payload
from jitgate.cli.answers import as_row
from jitgate.cli.loopback import fields_of
from jitgate.cli.oidc import endpoints_of
from jitgate.cli.providers import as_ways
from jitgate.core.clock import SECOND
from jitgate.core.errors import BadInput, Unsafe
from jitgate.core.fields import canonical, read_json
from jitgate.gateway import proxy
from jitgate.gateway.hello import protocols
from jitgate.hosts import agent_wire
from jitgate.hosts.bundle import bundle_payload, take_bundle
from jitgate.hosts.joining import read_token, write_token
from jitgate.identity.jwks import parse_key_set
from jitgate.identity.oidc import TokenRefused, TokenRules, verify_id_token
from jitgate.identity.providers import ALGORITHMS
from jitgate.policy.vault_acl import CAPABILITIES, parse_policy
from jitgate.policy.vault_role import as_fields, read_role
from jitgate.sessions.ticket import make_ticket, open_ticket
from jitgate.ssh import sshsig
from jitgate.ssh.cert import (
    join,
    parse_certificate,
    parse_certificate_line,
    parse_to_be_signed,
    to_be_signed,
)
from jitgate.ssh.krl import Certificates, Krl, dump_krl, merge, parse_krl
from jitgate.ssh.krl_serials import Serials
from jitgate.ssh.lint import lint
from jitgate.ssh.loose import read_loosely
from jitgate.ssh.private import dump_private_key, load_private_key
from jitgate.ssh.pubkey import Algorithm, PublicKey, parse_public_key, parse_public_key_line
from jitgate.ssh.wire import Reader, put_string, put_uint32

Target = Callable[[bytes], None]
SPACE = "request@example.org"
MESSAGE = b"what is signed"
TOKEN_NOW = 1_700_000_000 * SECOND
TOKEN_RULES = TokenRules(ISSUER, CLIENT, ALGORITHMS, "preferred_username", "groups")
PROVIDER = FakeProvider(clock=lambda: TOKEN_NOW)
KEY_SET = json.dumps({"keys": [jwk(PROVIDER.key, "k1")]}).encode()
TOKEN_KEY = parse_key_set(KEY_SET)["k1"]

POLICY = b'# who may sign\npath "ssh/sign/+" {\n  capabilities = ["create", "update"]\n}\n'
ROLE = json.dumps(
    {
        "allow_user_certificates": True,
        "allowed_users": "ubuntu,deploy",
        "default_extensions": {"permit-pty": ""},
        "default_critical_options": {"source-address": "192.0.2.0/24"},
        "allowed_user_key_lengths": {"rsa": [3072, 4096]},
        "key_type": "ca",
        "default_user": "ubuntu",
        "ttl": "4h",
        "max_ttl": "1d",
    }
).encode()
DISCOVERY = json.dumps(
    {
        "sign_in": ["local", "oidc"],
        "providers": [
            {"name": "dex", "issuer": ISSUER, "client_id": CLIENT, "scopes": ["openid"], "flows": ["code"], "ca": ""}
        ],
        "issuer": ISSUER,
        "authorization_endpoint": f"{ISSUER}/auth",
        "token_endpoint": f"{ISSUER}/token",
        "code_challenge_methods_supported": ["S256"],
    }
).encode()


def public_key(data: bytes) -> None:
    key = parse_public_key(data)
    assert key.blob == data
    assert parse_public_key_line(key.line()) == (key, "")


def key_line(data: bytes) -> None:
    key, comment = parse_public_key_line(data.decode("utf-8", "surrogateescape"))
    assert key.line(comment).rstrip() == data.decode().rstrip()


def certificate(data: bytes) -> None:
    found = parse_certificate(data)
    assert found.blob == data
    assert parse_certificate_line(found.line()) == found


def certificate_line(data: bytes) -> None:
    found = parse_certificate_line(data.decode("utf-8", "surrogateescape"))
    assert found.line() == " ".join(data.decode().split()[:2])


def loose_certificate(data: bytes) -> None:
    """What the strict parser takes, the linter reads the same; what it reads, it has words for."""
    try:
        strict = parse_certificate_line(data.decode("utf-8", "surrogateescape"))
    except BadInput:
        strict = None
    found = read_loosely(data.decode("utf-8", "surrogateescape"))
    assert all(each.what for each in lint(found, TOKEN_NOW // SECOND))
    if strict is not None:
        assert (found.key.blob, found.ca.blob) == (strict.body.key.blob, strict.body.ca.blob)
        assert found.signature_holds is True


def tbs(data: bytes) -> None:
    found, nonce = parse_to_be_signed(data)
    assert to_be_signed(found, nonce) == data
    assert found.principals
    assert not set("".join(found.principals)) & set(",*?! \n\x00")
    for ca in (made(a, 9) for a in SOFTWARE):
        if ca.public == found.ca:
            assert parse_certificate(join(data, ca.sign(data)).blob).body == found


def signature(data: bytes) -> None:
    key = sshsig.verify(data, SPACE, MESSAGE)
    assert key.blob in data


def raw_signature(data: bytes) -> None:
    """One SSH signature blob against a key of each type, by the first byte."""
    algorithms = list(Algorithm)
    made(algorithms[data[0] % len(algorithms)] if data else algorithms[0]).public.verify(data[1:], MESSAGE)


def armor(data: bytes) -> None:
    text = data.decode("utf-8", "surrogateescape")
    blob = sshsig.dearmor(text)
    assert sshsig.dearmor(sshsig.armor(blob)) == blob


def private_key(data: bytes) -> None:
    key = load_private_key(data)
    key.public.verify(key.sign(MESSAGE), MESSAGE)
    assert load_private_key(dump_private_key(key).reveal()).public == key.public


def client_hello(data: bytes) -> None:
    names = protocols(data)
    assert all(name in data for name in names)


def proxy_header(data: bytes) -> None:
    head, rest = data[: proxy.HEAD], data[proxy.HEAD :]
    found = proxy.source(head, rest)
    assert found is None or str(ip_address(found)) == found


def ticket(data: bytes) -> None:
    text = data.decode("latin-1")
    assert make_ticket(open_ticket(text, TICKET_KEY), TICKET_KEY) == text


def id_token(data: bytes) -> None:
    try:
        found = verify_id_token(data.decode("latin-1"), TOKEN_KEY, TOKEN_RULES, nonce="n", now=TOKEN_NOW)
    except TokenRefused as error:
        raise BadInput(error.what) from error
    assert found.subject == "u-1"


def key_set(data: bytes) -> None:
    for key_id, key in parse_key_set(data).items():
        assert key.key_id == key_id
        assert key.algorithms <= ALGORITHMS


def discovery(data: bytes) -> None:
    """A provider's document and the service's row about it, as jitctl reads them."""
    try:
        about = as_row(json.loads(data))
    except (ValueError, RecursionError) as error:
        raise BadInput("no JSON") from error
    for provider in as_ways(about).providers:
        found = endpoints_of(about, provider)
        for url in (provider.issuer, found.authorization, found.token):
            assert url.startswith("https://") or urlsplit(url).hostname in ("127.0.0.1", "localhost", "::1")
            assert url.isprintable()


def krl(data: bytes) -> None:
    found = parse_krl(data)
    assert parse_krl(dump_krl(found)) == without_nothing(found)
    assert parse_krl(merge([data], version=found.version, generated=found.generated, comment=found.comment)) == found


def without_nothing(found: Krl) -> Krl:
    """An authority of which nothing is revoked is not written."""
    empty = Certificates()
    return replace(found, certificates={ca: some for ca, some in found.certificates.items() if some != empty})


def redirect(data: bytes) -> None:
    fields = fields_of(data.decode("utf-8", "surrogateescape"))
    assert len(fields) <= 20
    if "code" not in fields:
        raise BadInput("no code")


def vault_policy(data: bytes) -> None:
    rules = parse_policy(data.decode("utf-8", "replace"))
    assert all(rule.capabilities <= CAPABILITIES for rule in rules)


def vault_role(data: bytes) -> None:
    """A role, as its fields come in; what is taken reads the same when it is written as it is shown."""
    try:
        said = json.loads(data)
    except (ValueError, RecursionError):
        raise BadInput("no JSON") from None
    if not isinstance(said, dict):
        raise BadInput("no object")
    role, _ = read_role(said)
    assert read_role(as_fields(role))[0] == role


def agent_keys(data: bytes) -> None:
    """An agent's listing, its type in front left out."""
    keys_in(Reader(data))


def transit_key(data: bytes) -> None:
    """A public half as a transit engine shows it, its kind in front."""
    kind, _, text = data.decode("utf-8", "replace").partition(" ")
    try:
        public_of("user_ca", kind, text)
    except Unsafe:
        raise BadInput("a key that is not taken") from None


def agent_frame(data: bytes) -> None:
    """Each side reads what the other one writes, and writes what it has read again."""
    for take in (agent_wire.take_from_agent, agent_wire.take_from_service):
        with suppress(BadInput):
            found = take(data)
            assert take(agent_wire.put_frame(found)[4:]) == found
            return
    raise BadInput("neither")


def join_token(data: bytes) -> None:
    found = read_token(data.decode("latin-1"))
    assert read_token(write_token(found).reveal()) == found


def trust_list(data: bytes) -> None:
    value = read_json(data, "it")
    assert trust_payload(take_trust(value)) == canonical(value)


def bundle(data: bytes) -> None:
    value = read_json(data, "it")
    assert bundle_payload(take_bundle(value)) == canonical(value)


def seeds() -> dict[str, tuple[Target, list[bytes]]]:
    """{name: (target, sound inputs to start from)}"""
    keys = [made(a) for a in Algorithm]
    certificates = [
        signed(
            body(
                key=made(key).public,
                ca=made(ca, 9).public,
                critical_options=(("force-command", "uptime"), ("source-address", "192.0.2.0/24")),
                extensions=(("grant@example.org", "01J"), ("permit-pty", "")),
            ),
            made(ca, 9),
        )
        for key, ca in ((k, c) for k in Algorithm for c in (Algorithm.ED25519, k))
    ]
    signatures = [sshsig.encode(k.public, SPACE, k.sign(sshsig.signed_bytes(SPACE, MESSAGE))) for k in keys]
    bodies = [to_be_signed(c.body, c.nonce) for c in certificates]
    some = Certificates(Serials([(1, 9), (40, 40), (44, 44), (900, 2**40)]), frozenset([b"jitgate grant=01"]))
    lists = [
        Krl(),
        Krl(1, 2, b"x", {keys[0].public.blob: some, b"": Certificates(key_ids=some.key_ids)}),
        Krl(keys=frozenset(k.public.blob for k in keys), sha1=frozenset([b"1" * 20]), sha256=frozenset([b"2" * 32])),
    ]
    files = [dump_private_key(software_key(a, 0), "al@laptop").reveal() for a in SOFTWARE]
    files += [
        software_key(a, 0)._private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()) for a in SOFTWARE
    ]
    files_of_public = [
        software_key(a, 0)._private.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
        for a in SOFTWARE
    ]
    return {
        "public_key": (public_key, [k.public.blob for k in keys]),
        "key_line": (key_line, [k.public.line("al@laptop").encode() for k in keys]),
        "certificate": (certificate, [c.blob for c in certificates]),
        "certificate_line": (certificate_line, [c.line().encode() for c in certificates]),
        "loose_certificate": (loose_certificate, [c.line().encode() for c in certificates]),
        "tbs": (tbs, bodies),
        "signature": (signature, signatures),
        "raw_signature": (raw_signature, [bytes([i]) + k.sign(MESSAGE) for i, k in enumerate(keys)]),
        "armor": (armor, [sshsig.armor(s).encode() for s in signatures]),
        "private_key": (private_key, files),
        "client_hello": (client_hello, [hello(), hello("h2"), hello("http/1.1", "jitgate-tunnel/1")]),
        "proxy_header": (proxy_header, [header(), header("2001:db8::1", more=b"\x04\0\1x"), header(command=0x20)]),
        "id_token": (id_token, [PROVIDER.token(nonce="n", groups=groups).encode() for groups in ([], ["ops"])]),
        "key_set": (key_set, [KEY_SET]),
        "discovery": (discovery, [DISCOVERY, DISCOVERY.replace(b"https://idp.example.com", b"http://127.0.0.1:5556")]),
        "redirect": (redirect, [b"http://127.0.0.1:4000/callback?code=abc&state=s&iss=https%3A%2F%2Fidp.example.com"]),
        "krl": (krl, [dump_krl(each) for each in lists]),
        "ticket": (ticket, [make_ticket(TICKET, TICKET_KEY).encode()]),
        "agent_keys": (agent_keys, [_listing(*(k.public for k in keys)), _listing()]),
        "transit_key": (
            transit_key,
            [b"ed25519 " + b64encode(keys[0].public.blob[-32:]), b"ecdsa-p256 " + files_of_public[1]],
        ),
        "agent_frame": (agent_frame, AGENT_FRAMES),
        "join_token": (join_token, [write_token(JOIN_TOKEN).reveal().encode()]),
        "trust_list": (trust_list, [trust_payload(TRUST)]),
        "bundle": (bundle, [bundle_payload(BUNDLE)]),
        "vault_policy": (vault_policy, [POLICY, b'{"path": {"ssh/*": {"capabilities": ["read"]}}}']),
        "vault_role": (vault_role, [ROLE]),
    }


def _listing(*keys: PublicKey) -> bytes:
    return put_uint32(len(keys)) + b"".join(put_string(each.blob) + put_string("a comment") for each in keys)


def check(target: Target, data: bytes) -> bool:
    """Whether the target took `data`. What is no refusal comes out."""
    try:
        target(data)
    except BadInput:
        return False
    return True

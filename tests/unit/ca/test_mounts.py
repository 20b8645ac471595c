"""Vault mounts at the signer: nothing without its own table, and with it plain logins of one realm and nothing else."""

from dataclasses import replace

import pytest
from tests.unit.ca.samples import GRANT, ID, NOW, ORIGIN, MemorySigner, finish, private, public
from tests.unit.ca.test_statements import HONEST

from jitgate.ca.agent_keys import agents_text
from jitgate.ca.ceilings import broken
from jitgate.ca.model import SignerRefusal, SignRequest
from jitgate.ca.mounts import MOUNT_TABLE
from jitgate.ca.plain import shape_plain
from jitgate.ca.realms import CaKind
from jitgate.ca.rules import default_rules, read_rules
from jitgate.ca.shape import shape
from jitgate.ca.trust import trust_payload
from jitgate.core.clock import HOUR, SECOND
from jitgate.core.errors import BadInput, Conflict, Denied, Unsafe
from jitgate.grants.model import ANY_HOST, Grant, Target
from jitgate.ssh.cert import CertificateBody, CertType, join, to_be_signed
from jitgate.ssh.pubkey import parse_public_key

TEXT = default_rules(ORIGIN, "default", user_key="user", host_key="host", log_key="log")
REALM = "vault-ssh"
PLAIN: Grant = replace(
    GRANT,
    realm=REALM,
    targets=(Target(ANY_HOST, "deploy"), Target(ANY_HOST, "ubuntu")),
    certificate_s=4 * 3600,
    ends_at=NOW + 4 * HOUR,
    metadata=(),
)
RULES = read_rules(TEXT + MOUNT_TABLE)
CEILING = next(replace(each, realm=REALM) for each in RULES.mounts)
BODY = shape_plain(PLAIN, public("laptop"), public("mount"), NOW).body(7)


def signer(text: str = TEXT + MOUNT_TABLE) -> MemorySigner:
    return MemorySigner(read_rules(text))


def ask(body: CertificateBody, realm: str = REALM) -> SignRequest:
    return SignRequest(realm, to_be_signed(body, bytes(32)))


def test_without_a_table_no_key_is_made_and_none_is_held():
    made = signer(TEXT)
    refusal = finish(made.generate(REALM))
    assert isinstance(refusal, SignerRefusal)
    assert refusal.code == "mount"
    with pytest.raises(Unsafe):
        made.desk.hold("mount/vault-ssh.1", private("mount"))
    assert CaKind.MOUNT not in {each.kind for each in finish(made.keys()).authorities}


@pytest.mark.parametrize("realm", ["default", "vault", "vaultssh", "vault-ssh/../x", "vault-", "VAULT-SSH", ""])
def test_a_key_is_made_for_realms_of_mounts_only(realm: str):
    assert isinstance(finish(signer().generate(realm)), SignerRefusal)


def test_its_own_key_signs_plain_logins():
    made = signer()
    blob = finish(made.generate(REALM))
    assert isinstance(blob, bytes)
    (held,) = [each for each in finish(made.keys()).authorities if each.kind is CaKind.MOUNT]
    assert (held.key.blob, held.realm, held.file) == (blob, REALM, "mount/vault-ssh.1")
    request = ask(replace(BODY, ca=held.key))
    (signature,) = finish(made.sign([request]))
    assert isinstance(signature, bytes)
    assert join(request.tbs, signature).body.principals == ("deploy", "ubuntu")


def test_another_realms_name_opens_nothing():
    made = signer()
    blob = finish(made.generate(REALM))
    assert isinstance(blob, bytes)
    other = finish(made.generate("vault-other"))
    assert isinstance(other, bytes)
    for realm, ca in (("vault-other", blob), ("default", blob), (REALM, other)):
        (refusal,) = finish(made.sign([ask(replace(BODY, ca=parse_public_key(ca)), realm)]))
        assert isinstance(refusal, SignerRefusal)
        assert refusal.code == "authority"


def test_a_users_key_signs_no_plain_login():
    (refusal,) = finish(signer().sign([ask(replace(BODY, ca=public("user")), "default")]))
    assert isinstance(refusal, SignerRefusal)
    assert refusal.code == "scope"


def test_the_number_of_keys_is_bounded():
    made = signer(TEXT + MOUNT_TABLE.replace("max_keys = 16", "max_keys = 2"))
    assert [isinstance(finish(made.generate(REALM)), bytes) for _ in range(3)] == [True, True, False]


def test_what_the_service_shapes_is_allowed():
    assert broken(BODY, CEILING, NOW) == []


@pytest.mark.parametrize(
    ("rule", "body"),
    [
        ("scope", replace(BODY, principals=("ubuntu@host:web1",))),
        ("scope", replace(BODY, principals=("ubuntu", "rec@GRANT"))),
        ("scope", replace(BODY, principals=("Ubuntu",))),
        ("scope", replace(BODY, principals=("ubuntu:x",))),
        ("principals", replace(BODY, principals=tuple(f"u{number}" for number in range(33)))),
        ("key_id", replace(BODY, key_id="testuser")),
        ("key_id", replace(BODY, key_id=f"jitgate grant={ID} person=")),
        ("lifetime", replace(BODY, valid_before=NOW // SECOND + 86401)),
        ("begin", replace(BODY, valid_after=NOW // SECOND - 121)),
        ("extension", replace(BODY, extensions=(("login@example.com", "x"),))),
        ("kind", replace(BODY, type=CertType.HOST, critical_options=(), extensions=())),
    ],
)
def test_each_rule_is_kept(rule: str, body: CertificateBody):
    assert rule in {check.name for check in broken(body, CEILING, NOW)}


def test_an_empty_principal_is_none():
    """CVE-2024-7594: nobody can even write it down; the type refuses before the signer is asked."""
    for principals in ((), ("",), (" ",), ("ubuntu", ""), ("*",), ("a,b",)):
        with pytest.raises(BadInput):
            replace(BODY, principals=principals)


def test_logins_can_be_taken_away():
    narrow = replace(CEILING, logins=frozenset({"deploy", "root"}), denied_logins=frozenset({"root"}))
    assert {check.name for check in broken(replace(BODY, principals=("deploy",)), narrow, NOW)} == set()
    for login in ("root", "ubuntu"):
        assert {check.name for check in broken(replace(BODY, principals=(login,)), narrow, NOW)} == {"login"}


@pytest.mark.parametrize(
    ("line", "instead"),
    [
        ('realms = "vault-*"', 'realms = "*"'),
        ('realms = "vault-*"', 'realms = "default"'),
        ('realms = "vault-*"', ""),
        ("max_keys = 16", ""),
        ("max_keys = 16", "max_keys = 0"),
        ("max_keys = 16", 'max_keys = 16\nkeys = ["x"]'),
        ("max_keys = 16", 'max_keys = 16\nrealm = "default"'),
        ("denied_logins = []", ""),
    ],
)
def test_a_table_says_everything_and_nothing_else(line: str, instead: str):
    assert line in MOUNT_TABLE
    with pytest.raises(BadInput):
        read_rules(TEXT + MOUNT_TABLE.replace(line, instead))


def test_a_table_means_the_realms_that_it_names():
    made = signer(TEXT + MOUNT_TABLE.replace("vault-*", "vault-ssh"))
    assert isinstance(finish(made.generate("vault-ssh")), bytes)
    for other in ("vault-ssh2", "vault-other", "vault-"):
        assert isinstance(finish(made.generate(other)), SignerRefusal)


def test_two_tables_for_one_realm_are_refused():
    with pytest.raises(BadInput):
        read_rules(TEXT + MOUNT_TABLE + MOUNT_TABLE.replace("vault-*", "vault-ssh"))


def test_when_the_table_goes_so_do_its_keys():
    made = signer()
    blob = finish(made.generate(REALM))
    assert isinstance(blob, bytes)
    made.desk.follow(read_rules(TEXT))
    (refusal,) = finish(made.sign([ask(replace(BODY, ca=parse_public_key(blob)))]))
    assert isinstance(refusal, SignerRefusal)


def test_a_grant_of_a_mount_gives_its_one_certificate_only():
    with pytest.raises(Denied):
        shape(PLAIN, PLAIN.targets[0], public("laptop"), public("user"), NOW)
    with pytest.raises(Denied):
        shape_plain(GRANT, public("laptop"), public("mount"), NOW)
    with pytest.raises(Conflict):
        shape_plain(PLAIN, public("laptop"), public("mount"), PLAIN.ends_at)


@pytest.mark.parametrize(
    "changed",
    [
        {"realm": "default"},
        {"targets": (Target("web1", "ubuntu"),)},
        {"targets": (*PLAIN.targets, Target("web1", "x"))},
    ],
)
def test_every_host_is_a_mounts_and_a_mount_has_no_other(changed: dict[str, object]):
    with pytest.raises(BadInput):
        replace(PLAIN, **changed)  # type: ignore[arg-type]  # fields by their names


def test_no_host_is_told_to_trust_a_mounts_key():
    """A service that was taken over has the signer make one, and asks that hosts trust it."""
    made = signer(TEXT + agents_text("root", "online") + MOUNT_TABLE)
    blob = finish(made.generate(REALM))
    assert isinstance(blob, bytes)
    key = parse_public_key(blob)
    for wanted in (
        replace(HONEST, user=(*HONEST.user, key)),
        replace(HONEST, realm=REALM, user=(key,), host=()),
        replace(HONEST, realm=REALM, user=(), host=(key,)),
    ):
        refusal = finish(made.trust(trust_payload(wanted)))
        assert isinstance(refusal, SignerRefusal)
        assert refusal.code == "foreign_key"


def test_nothing_is_wider_than_its_grant():
    assert (BODY.principals, BODY.valid_before) == (("deploy", "ubuntu"), PLAIN.ends_at // SECOND)
    assert BODY.critical_options == PLAIN.options
    assert BODY.extensions == (("permit-pty", ""),)
    assert BODY.key_id == f"jitgate grant={ID} person=alice"

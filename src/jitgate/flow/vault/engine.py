"""A mounted SSH engine: its roles, and its CA key, which the signer makes and keeps."""

import hashlib
import json

from jitgate.audit.events import EventType
from jitgate.ca.model import SignerRefusal
from jitgate.ca.realms import Authority, CaKind, Phase
from jitgate.core.errors import BadInput, Denied, NotFound
from jitgate.core.text import check_name
from jitgate.flow.authorities import list_key
from jitgate.flow.outside import Outside
from jitgate.flow.ports import Tx
from jitgate.flow.vault.asking import NOTHING, Answer, Asked, Holder, only, read, said, text, write
from jitgate.flow.vault.entries import keep
from jitgate.identity.vault import Mount
from jitgate.policy.vault_role import VaultRole, as_fields, read_role
from jitgate.ssh.pubkey import parse_public_key

_CONFIG = frozenset({"generate_signing_key", "key_type", "key_bits", "private_key", "public_key"})


def role_of(tx: Tx, mount: Mount, name: str) -> tuple[VaultRole, str] | None:
    """The role as it stands now, and the digest of its words."""
    found = tx.vault.entry(mount.id, "role", name)
    if found is None:
        return None
    words = json.dumps(dict(found.body), sort_keys=True)
    return read_role(found.body)[0], hashlib.sha256(words.encode()).hexdigest()


def authority_of(tx: Tx, mount: Mount) -> Authority | None:
    """The key that signs for the mount now."""
    for each in tx.authorities.all():
        if (each.realm, each.kind, each.phase) == (mount.realm, CaKind.MOUNT, Phase.ACTIVE):
            return each
    return None


async def write_role(outside: Outside, asked: Asked) -> Answer:
    mount, name = asked.of_mount(), check_name("role", asked.name)
    _, warnings = read_role(asked.data)
    body = dict(asked.data)

    def job(tx: Tx, holder: Holder) -> Answer:
        keep(tx, outside, mount.id, "role", name, body)
        found = role_of(tx, mount, name)
        digest = found[1] if found else ""
        detail = (("path", asked.path), ("digest", digest), ("what", "role"), ("warnings", len(warnings)))
        tx.log.append(
            said(outside, EventType.VAULT_WRITTEN, holder, asked, *detail, realm=mount.realm, target=f"role:{name}")
        )
        return Answer(warnings=warnings)

    return await write(outside, asked, job)


async def read_one_role(outside: Outside, asked: Asked) -> Answer:
    mount = asked.of_mount()

    def job(tx: Tx, holder: Holder) -> Answer:
        del holder
        if (found := role_of(tx, mount, asked.name)) is None:
            raise NotFound("")
        return Answer(as_fields(found[0]))

    return await read(outside, asked, job)


async def list_roles(outside: Outside, asked: Asked) -> Answer:
    mount = asked.of_mount()

    def job(tx: Tx, holder: Holder) -> Answer:
        del holder
        names = [each.name for each in tx.vault.entries(mount.id, "role")]
        if not names:
            raise NotFound("")
        return Answer({"keys": names, "key_info": {name: {"key_type": "ca"} for name in names}})

    return await read(outside, asked, job)


async def delete_role(outside: Outside, asked: Asked) -> Answer:
    mount = asked.of_mount()

    def job(tx: Tx, holder: Holder) -> Answer:
        if tx.vault.remove_entry(mount.id, "role", asked.name):
            tx.move_epoch()
            detail = (("path", asked.path), ("what", "role"))
            target = f"role:{asked.name}"
            tx.log.append(
                said(outside, EventType.VAULT_DELETED, holder, asked, *detail, realm=mount.realm, target=target)
            )
        return NOTHING

    return await write(outside, asked, job)


async def make_ca(outside: Outside, asked: Asked) -> Answer:
    """`config/ca`: a key that the signer makes. None is taken from outside, none is let out."""
    mount = asked.of_mount()
    only(asked, _CONFIG)
    if asked.data.get("private_key") or asked.data.get("public_key"):
        raise BadInput("private_key is not taken", "the signer makes its own: generate_signing_key=true")
    if asked.data.get("generate_signing_key", True) not in (True, "true"):
        raise BadInput("missing public_key", "the signer makes the key: generate_signing_key=true")
    wanted = text(asked, "key_type", "ed25519") or "ed25519"
    if wanted not in ("ed25519", "ssh-ed25519") or asked.data.get("key_bits") not in (None, 0, "0", ""):
        raise BadInput("a CA key is ed25519 here", "leave key_type and key_bits out")
    await read(outside, asked, lambda tx, _: _check_free(tx, mount))
    made = await outside.signer.generate(mount.realm)
    if isinstance(made, SignerRefusal):
        raise Denied(f"the signer makes no key: {made.why}", made.hint, code="vault_signer")
    key = parse_public_key(made)

    def job(tx: Tx, holder: Holder) -> Answer:
        _check_free(tx, mount)
        list_key(tx, outside, holder.actor, key, mount.realm, CaKind.MOUNT, Phase.ACTIVE)
        detail = (("path", asked.path), ("digest", key.fingerprint), ("what", "ca"))
        target = f"realm:{mount.realm}"
        tx.log.append(said(outside, EventType.VAULT_WRITTEN, holder, asked, *detail, realm=mount.realm, target=target))
        warning = "hosts trust this key only where their owner installs it: TrustedUserCAKeys"
        return Answer(_ca_fields(mount, key.line()), warnings=(warning,))

    return await write(outside, asked, job)


async def read_ca(outside: Outside, asked: Asked) -> Answer:
    mount = asked.of_mount()

    def job(tx: Tx, holder: Holder) -> Answer:
        del holder
        if (found := authority_of(tx, mount)) is None:
            raise BadInput("keys haven't been configured yet", "write config/ca generate_signing_key=true")
        return Answer(_ca_fields(mount, found.key.line()))

    return await read(outside, asked, job)


async def public_key(outside: Outside, asked: Asked) -> Answer:
    """For everybody, as text."""
    mount = asked.of_mount()
    found = await outside.store.read(lambda tx: authority_of(tx, mount))
    if found is None:
        raise NotFound("")
    return Answer(bare=f"{found.key.line()}\n")


async def retire_ca(outside: Outside, asked: Asked) -> Answer:
    """Signed with no more; what it signed is valid on hosts until it ends, or they forget the key."""
    mount = asked.of_mount()

    def job(tx: Tx, holder: Holder) -> Answer:
        if (found := authority_of(tx, mount)) is not None:
            tx.authorities.set_phase(found.id, Phase.RETIRED)
            tx.move_epoch()
            detail = (("path", asked.path), ("what", "ca"))
            target = f"realm:{mount.realm}"
            tx.log.append(
                said(outside, EventType.VAULT_DELETED, holder, asked, *detail, realm=mount.realm, target=target)
            )
        return NOTHING

    return await write(outside, asked, job)


def _check_free(tx: Tx, mount: Mount) -> None:
    if authority_of(tx, mount) is not None:
        raise BadInput("keys are already configured; delete them before reconfiguring")


def _ca_fields(mount: Mount, line: str) -> dict[str, object]:
    return {"issuer_id": mount.id, "issuer_name": "", "public_key": f"{line}\n"}

"""The steps that only `jitgate demo --dex` has: who somebody is comes from Dex, their groups from OpenLDAP."""

import json
import os
import ssl
import time
from base64 import b64encode

import httpx2

from jitgate.app.demo.dex import OTHER_CLIENT, OTHER_REDIRECT
from jitgate.app.demo.openbao import MOUNT, PREFIX, find_bao
from jitgate.app.demo.openldap import GROUPS as GROUPS_BASE
from jitgate.app.demo.openldap import PEOPLE as PEOPLE_BASE
from jitgate.app.demo.peers import DIRECTORY_AGE_S, PASSWORD_FILE, PROVIDER, Peers
from jitgate.app.demo.person import get_token
from jitgate.app.demo.steps import DENIED, STATE, expect_that, jitctl, note, say, show
from jitgate.app.demo.world import World
from jitgate.app.tls import authority_pem
from jitgate.core.clock import system_clock
from jitgate.identity.nonce import new_salt, nonce_for, proof_subject
from jitgate.identity.proof import ProofClaim, make_proof
from jitgate.ssh.private import load_private_key

_SECONDS = 30


def sign_in_by_dex(world: World, peers: Peers) -> None:
    say(
        "alice signs in at Dex, which asks OpenLDAP who she is; nobody added her here. Her key is bound in the same act"
    )
    for name, password in peers.passwords.items():
        file = world.people[name].home / PASSWORD_FILE
        file.touch(0o600)
        file.write_text(password.reveal())
    alice, bob = world.people["alice"], world.people["bob"]
    jitctl(world, alice.home, ["login", world.url, "--provider", PROVIDER], expect="signed in to")
    jitctl(world, alice.home, ["whoami"], expect="engineers")
    say("bob has a password and a one-time code here, and links who he is at Dex to himself: both ways lead to him")
    jitctl(world, bob.home, ["identities", "link", PROVIDER], expect="now leads to you")


def refuse_other_audience(world: World, peers: Peers) -> None:
    """A token that Dex made for the same person, at the same time, with the right nonce, but for another program."""
    say("a wiki that also uses Dex has a token of alice's: here it opens nothing, even with her key beside it")
    home, origin = world.people["alice"].home, world.settings.url
    key = load_private_key((home / STATE / "id").read_bytes())
    salt = new_salt(os.urandom)
    nonce = nonce_for(origin, PROVIDER, key.public.fingerprint, salt)
    token = get_token(peers.dex.issuer, OTHER_CLIENT, OTHER_REDIRECT, nonce, "alice", peers.passwords["alice"])
    path = "/v1/sign-in/oidc"
    told = {"provider": PROVIDER, "id_token": token, "salt": salt, "key": key.public.line("alice")}
    body = json.dumps(told).encode()
    claim = ProofClaim(origin, proof_subject(PROVIDER), "POST", path, body, system_clock())
    headers = {
        "Content-Type": "application/json",
        "Jitgate-Time": str(claim.time),
        "Jitgate-Proof": b64encode(make_proof(claim, key.public, key.sign)).decode(),
    }
    trust = ssl.create_default_context(cadata=authority_pem(world.settings).decode())
    answer = httpx2.post(origin + path, content=body, headers=headers, verify=trust, trust_env=False, timeout=_SECONDS)
    note(f"POST {path} with that token: {answer.status_code} {answer.json()['code']}: {answer.json()['detail']}")
    expect_that(answer.json()["code"] == "token_audience", "a token for another audience was not refused as that")


def look_into_registry(world: World, peers: Peers) -> None:
    say("her public key is registered in OpenBao; the service asks there before it signs anything for it")
    home = world.people["alice"].home
    key = load_private_key((home / STATE / "id").read_bytes()).public
    entry = f"{PREFIX}/alice/{key.fingerprint.removeprefix('SHA256:').replace('+', '-').replace('/', '_')}"
    token = home / ".vault-token"  # where the real client looks for it
    token.touch(0o600)
    token.write_text(peers.bao.root.reveal())
    get = ["kv", "get", f"-address={peers.bao.url}", f"-mount={MOUNT}", "-field=key", entry]
    show(world, home, [find_bao(), *get], shown=["bao", *get], expect=key.line())
    token.unlink()


def leave(world: World, peers: Peers) -> None:
    """Out of the group in OpenLDAP: nothing is told to the service, which finds out."""
    say("alice leaves the engineers: somebody takes her out of the group in OpenLDAP, and nobody tells jitgate")
    _set_members(peers, f"uid=nobody,{PEOPLE_BASE}")
    note(f"ldapmodify: cn=engineers,{GROUPS_BASE} has no member uid=alice any more; waiting {DIRECTORY_AGE_S} s")
    time.sleep(DIRECTORY_AGE_S + 0.5)
    command = ["vm", "connect", "ubuntu@web1", "--reason", "one last thing", "--", "true"]
    jitctl(world, world.people["alice"].home, command, status=DENIED)
    _set_members(peers, f"uid=alice,{PEOPLE_BASE}")
    note("ldapmodify: she is an engineer again")


def _set_members(peers: Peers, member: str) -> None:
    peers.directory.change(f"dn: cn=engineers,{GROUPS_BASE}\nchangetype: modify\nreplace: member\nmember: {member}\n")

"""What somebody has who took a copy of the database: names and hashes, and nothing that opens anything."""

import base64
import hashlib
from typing import Any

from tests.client import PASSWORD
from tests.world import SEALING, SEED, URL, World

from jitgate.core.secret import Secret
from jitgate.identity.tokens import token_hash


def forms(secret: bytes) -> set[bytes]:
    """A secret as it may stand in a file."""
    return {
        secret,
        secret.hex().encode(),
        base64.b64encode(secret).rstrip(b"="),
        base64.urlsafe_b64encode(secret).rstrip(b"="),
        base64.b32encode(secret).rstrip(b"="),
    }


async def test_a_copy_of_the_database_holds_no_secret(world: World):
    alice = world.stranger()
    code = world.code()
    assert (await alice.sign_in("alice")).status == 201
    await alice.grant()
    certificate = await alice.certificate()
    assert certificate.status == 201
    await alice.certificate(headers={"jitgate-proof": ""})
    copy = b"".join(path.read_bytes() for path in sorted(world.folder.glob("jitgate.db*")))
    token = alice.signer.token
    raw = base64.urlsafe_b64decode(token[4:] + "=")
    assert hashlib.sha256(token.encode()).digest() in copy, "the search finds what is there"
    for secret in (token.encode(), token[4:28].encode(), raw, PASSWORD.encode(), SEED.reveal(), SEALING.reveal()):
        for form in forms(secret):
            assert form not in copy
    assert code.encode() not in (await _texts(world))
    assert certificate.json["certificate"].split()[1].encode() not in copy  # kept by what it says, not as it opens


async def test_what_stands_in_the_database_is_no_token(world: World):
    """The hash of a token, in the forms somebody would try, signs nobody in."""
    alice = await world.enter("alice")
    hashed = token_hash(Secret(alice.signer.token))
    for form in (hashed.hex(), "jgs_" + base64.urlsafe_b64encode(hashed).rstrip(b"=").decode()):
        answer = await alice.get("/v1/me", headers={"authorization": f"Bearer {form}"})
        assert answer.status == 401, URL


async def _texts(world: World) -> set[bytes]:
    """Every text of every row: a code of six digits is found by chance among bytes."""

    def read(tx: Any) -> set[bytes]:
        named = tx.connection.exec_driver_sql("SELECT name FROM sqlite_master WHERE type = 'table'").scalars().all()
        return {
            str(value).encode("utf-8", "replace")
            for name in named
            for row in tx.connection.exec_driver_sql(f'SELECT * FROM "{name}"').all()
            for value in row
        }

    return await world.store.read(read)

"""The service in this process for tests of flow and API: real store, real application, the signer's own desk.

What is not real: the clock stands still until a test moves it, the signer has no process (so that it follows that
clock and can be held in the middle), requests come without sockets. A new world is a copy of one that was made once.
"""

import asyncio
import json
import os
from collections.abc import Awaitable, Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from shutil import copyfile
from typing import Any
from urllib.parse import unquote

import argon2
import pytest
from sqlalchemy import text
from tests.client import PASSWORD, Answer, Call, Signer
from tests.unit.ca.samples import NOW, ORIGIN, MemorySigner

from jitgate.adapters.db.store import Store, create_installation, open_store
from jitgate.api.app import make_application
from jitgate.api.routes_public import About
from jitgate.audit.events import Actor
from jitgate.audit.query import Query
from jitgate.audit.show import as_json
from jitgate.ca.model import SignerRefusal, SignRequest
from jitgate.core.clock import HOUR, Micros
from jitgate.core.ids import new_id
from jitgate.core.secret import Secret
from jitgate.flow.authorities import list_held_keys
from jitgate.flow.hosts import add_host
from jitgate.flow.outside import Outside
from jitgate.flow.policy import apply_policy
from jitgate.flow.ports import Tx
from jitgate.identity import passwords, sealing, totp
from jitgate.identity.model import Credential, Factor, Person, RegisteredKey, SignIn
from jitgate.identity.tokens import new_token, token_hash
from jitgate.policy.bundle import load_files
from jitgate.ssh.private import SoftwareKey, generate_ed25519

URL = "https://jit.example.com"
HOME = "192.0.2.7"
INSTALLATION = "01HF7YAT00TEST00000000000J"
SEALING = Secret(bytes(range(32)))
SEED = Secret(b"12345678901234567890")
OPERATOR = Actor("operator", name="ops")
PEOPLE = {"alice": ("engineers",), "bob": ("engineers",), "carol": ("dba",), "olga": ()}
"""Everybody of a new world, with their groups. Olga is an admin."""
ROLES = b"""
role: web
effect: allow
who: {groups: [engineers]}
what: {hosts: [web1, web2]}
as: [ubuntu]
how_long: {grant: 1h, certificate: 15m}
extensions: [permit-pty]
"""
_CHEAP = argon2.PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)
_HASHED = _CHEAP.hash(PASSWORD)

Hook = Callable[[], Awaitable[None]]


class Clock:
    """Stands still until it is moved."""

    def __init__(self, now: Micros) -> None:
        self.now = now

    def __call__(self) -> Micros:
        return self.now

    def advance(self, by: Micros) -> None:
        self.now += by


class HeldSigner(MemorySigner):
    """`hook`: awaited once, when the next certificates are signed and listed and not handed out yet."""

    hook: Hook | None = None

    async def sign(self, requests: Sequence[SignRequest]) -> list[bytes | SignerRefusal]:
        answers = await super().sign(requests)
        if (hook := self.hook) is not None:
            self.hook = None
            await hook()
        return answers


@dataclass
class World:
    folder: Path
    clock: Clock
    store: Store
    signer: HeldSigner
    outside: Outside
    application: Any

    def change(self, **changes: Any) -> None:
        """Give the service another part of its outside world."""
        self.outside = replace(self.outside, **changes)
        self.application = make_application(self.outside, About(URL, None))

    async def send(self, call: Call, source: str = HOME, *, chunks: Sequence[bytes] | None = None) -> Answer:
        """One request through the whole application. `chunks`: its body as it comes in."""
        path, _, query = call.path.partition("?")
        headers = [(name.lower().encode(), value.encode("latin-1")) for name, value in call.headers.items()]
        scope = {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": call.method,
            "scheme": "https",
            "path": unquote(path),
            "raw_path": path.encode(),
            "query_string": query.encode(),
            "root_path": "",
            "headers": headers,
            "client": (source, 50_000),
            "server": ("127.0.0.1", 8443),
        }
        coming = list(chunks if chunks is not None else [call.body])
        answers: list[dict[str, Any]] = []

        async def receive() -> dict[str, Any]:
            if not coming:
                await asyncio.Event().wait()  # the client is still there
            body = coming.pop(0)
            return {"type": "http.request", "body": body, "more_body": bool(coming)}

        async def send(message: dict[str, Any]) -> None:
            answers.append(message)

        try:
            await self.application(scope, receive, send)
        except Exception:
            if not answers:  # else the server has the answer, and logs what went wrong after it
                raise
        start, *rest = answers
        said = {name.decode(): value.decode() for name, value in start["headers"]}
        return Answer(start["status"], said, b"".join(message["body"] for message in rest))

    async def enter(self, name: str, source: str = HOME, key: SoftwareKey | None = None) -> "Visitor":
        """Somebody of this world with a sign-in and a key, as if they had signed in just now."""
        now, token = self.clock(), new_token(self.outside.random)
        signer = Signer(URL, key or generate_ed25519(), self.clock, token.reveal())

        def job(tx: Tx) -> None:
            person = tx.people.by_name(name)
            assert person is not None
            signer.person_id = person.id
            factors = ((Factor.PASSWORD, now), (Factor.TOTP, now))
            sign_in = SignIn(self.new_id(), person.id, token_hash(token), factors, now, now + 8 * HOUR)
            tx.sign_ins.add(sign_in)
            if tx.keys.current(signer.key.public) is None:
                tx.keys.add(RegisteredKey(self.new_id(), person.id, signer.key.public, f"{name}@laptop", now))

        await self.store.write(job)
        return Visitor(self, signer, source)

    def stranger(self, source: str = HOME) -> "Visitor":
        """Somebody who has not signed in yet."""
        return Visitor(self, Signer(URL, clock=self.clock), source)

    async def events(self, kind: str = "", *, after: int = -1) -> list[dict[str, Any]]:
        """What the log holds, as the API shows it."""
        found = await self.store.read(lambda tx: tx.log.search(Query(after=after, limit=1000)))
        shown = [as_json(columns[0], leaf, personal) for columns, leaf, personal in found]
        return [event for event in shown if str(event["type"]).startswith(kind)]

    async def size(self) -> int:
        """The index of the newest entry, for `events(after=...)`."""
        return len(await self.events()) - 1

    async def apply(self, *roles: bytes) -> str:
        """Put these files in force; the policy's digest."""
        bundle = load_files({f"{at}.yaml": role for at, role in enumerate(roles)})
        return (await apply_policy(self.outside, bundle, OPERATOR)).digest

    async def person(self, name: str) -> Person:
        found = await self.store.read(lambda tx: tx.people.by_name(name))
        assert found is not None
        return found

    def new_id(self) -> str:
        return self.outside.new_id(self.clock())

    def code(self, steps: int = 0) -> str:
        """Everybody's one-time code of now."""
        return totp.code_at(SEED, self.clock() // totp.STEP + steps).reveal()


@dataclass
class Visitor:
    """One person with one key at one address."""

    world: World
    signer: Signer
    source: str = HOME
    granted: str = field(default="")

    async def send(self, call: Call) -> Answer:
        return await self.world.send(call, self.source)

    async def get(self, path: str, **wrong: Any) -> Answer:
        return await self.send(self.signer.call("GET", path, **wrong))

    async def post(self, path: str, body: object = None, **wrong: Any) -> Answer:
        return await self.send(self.signer.call("POST", path, {} if body is None else body, **wrong))

    async def delete(self, path: str, **wrong: Any) -> Answer:
        return await self.send(self.signer.call("DELETE", path, **wrong))

    async def sign_in(self, name: str, password: str = PASSWORD, code: str | None = None, **wrong: Any) -> Answer:
        typed = self.world.code() if code is None else code
        answer = await self.send(self.signer.sign_in(name, password, typed, **wrong))
        if answer.status == 201:
            self.signer.signed_in(answer)
        return answer

    async def grant(self, host: str = "web1", **more: object) -> str:
        """A grant, which has to be given."""
        answer = await self.post("/v1/grants", {"host": host, **more})
        assert answer.status in (200, 201), answer
        self.granted = answer.json["grant"]["id"]
        return self.granted

    async def certificate(self, host: str = "web1", grant: str = "", **wrong: Any) -> Answer:
        return await self.post("/v1/certificates", {"grant": grant or self.granted, "host": host}, **wrong)


def sql(tx: Any, statement: str, **values: object) -> None:
    """What no act does: as a test that breaks something, on whatever database there is."""
    tx.connection.execute(text(statement), values)


@contextmanager
def open_world(template: Path, folder: Path, url: str = "") -> Iterator[World]:
    """A copy of the world in `template` (`make_template`), in `folder`; `url`: of a database that is a copy already."""
    if not url:
        url = f"sqlite:///{folder / 'jitgate.db'}"
        copyfile(template / "jitgate.db", folder / "jitgate.db")
        (folder / "jitgate.db").chmod(0o600)
    with _opened(folder, url, json.loads((template / "signed.json").read_text())) as world:
        yield world


def make_template(folder: Path, url: str = "") -> None:
    """The world that all others are copies of: everybody, web1, web2 and db1, one role."""
    url = url or f"sqlite:///{folder / 'jitgate.db'}"
    create_installation(url, origin=ORIGIN, values={"epoch": "0", "installation": INSTALLATION}, now=NOW)
    with _opened(folder, url, []) as world:
        asyncio.run(_populate(world))
    (folder / "signed.json").write_text(json.dumps([line.decode() for line in world.signer.lines]))


@contextmanager
def _opened(folder: Path, url: str, lines: Sequence[str]) -> Iterator[World]:
    clock = Clock(NOW)
    signer = HeldSigner(clock=clock, lines=[line.encode() for line in lines])
    store = open_store(url)
    hashing = ThreadPoolExecutor(2)
    outside = Outside(store, signer, clock, os.urandom, SEALING, hashing, frozenset({URL}))
    with pytest.MonkeyPatch.context() as patch:  # real Argon2id that costs nothing
        patch.setattr(passwords, "_HASHER", _CHEAP)
        patch.setattr(passwords, "_NOBODY", _HASHED)
        try:
            yield World(folder, clock, store, signer, outside, make_application(outside, About(URL, None)))
        finally:
            hashing.shutdown()
            store.close()


async def _populate(world: World) -> None:
    outside, now = world.outside, world.clock()
    await list_held_keys(outside, Actor("service"))

    def job(tx: Tx) -> None:
        for name, groups in PEOPLE.items():
            person = Person(new_id(now, outside.random), name, groups, name == "olga", None, now)
            sealed = sealing.seal(SEALING, sealing.TOTP_SEED, person.id, SEED, outside.random)
            tx.people.add(person, Credential(person.id, _HASHED, sealed, 0), outside.new_id(now))

    await outside.store.write(job)
    for name in ("web1", "web2", "db1"):
        line = generate_ed25519().public.line()
        more = {"address": f"{name}.internal", "port": 22, "labels": {"tier": name[:-1]}, "host_key_line": line}
        await add_host(outside, OPERATOR, name=name, logins=["ubuntu", "deploy"], **more)  # type: ignore[arg-type]  # of several types
    await world.apply(ROLES)

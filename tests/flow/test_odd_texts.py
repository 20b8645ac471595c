"""Texts and numbers that a database may not take: on each database they are refused, or nothing is found by them."""

from typing import Any
from urllib.parse import quote

import pytest
from tests.world import World

pytestmark = pytest.mark.databases

TEXTS = ("\0", "a\0b", "\ufffe", "\U0010ffff", "\u202e", "x" * 500, "'; --", "%", "\\", "İ", "ﬀ")
NUMBERS = ("-1", "0", str(2**31), str(2**63 - 1), str(2**63), str(2**64), "1" * 400)


@pytest.mark.parametrize("text", TEXTS)
async def test_no_text_crashes_a_request(world: World, text: str):
    alice, olga = await world.enter("alice"), await world.enter("olga")
    await alice.grant()
    word = quote(text, safe="")
    for person in (alice, olga):
        for name in ("host", "grant", "q", "person", "type", "outcome", "serial"):
            assert (await person.get(f"/v1/audit?{name}={word}")).status < 500, name
        assert (await person.get(f"/v1/explain?host={word}&login={word}")).status < 500
        assert (await person.post(f"/v1/grants/{word}/end")).status < 500
        assert (await person.post(f"/v1/sessions/{word}/end")).status < 500
        assert (await person.delete(f"/v1/keys/{word}")).status < 500
    bodies: dict[str, tuple[dict[str, Any], ...]] = {
        "/v1/grants": (
            {"host": text},
            {"host": "web1", "login": text},
            {"host": "web1", "reason": text},
            {"host": "web1", "ticket": text},
            {"host": "web1", "role": text},
        ),
        "/v1/certificates": ({"grant": text, "host": "web1"}, {"grant": alice.granted, "host": text}),
        f"/v1/grants/{alice.granted}/end": ({"reason": text},),
        "/v1/keys": ({"key": text},),
    }
    for path, each in bodies.items():
        for body in each:
            answer = await alice.post(path, body)
            assert answer.status < 500, (path, body, answer)
    assert (await world.stranger().sign_in(text, subject="alice")).status < 500
    assert (await world.stranger().sign_in("alice", text, text)).status < 500


@pytest.mark.parametrize("number", NUMBERS)
async def test_no_number_crashes_a_request(world: World, number: str):
    olga = await world.enter("olga")
    for name in ("after", "limit", "serial", "wait"):
        if name != "wait" or number == "-1":
            assert (await olga.get(f"/v1/audit?{name}={number}")).status < 500, name
    assert (await olga.post("/v1/grants", {"host": "web1", "minutes": int(number)})).status < 500

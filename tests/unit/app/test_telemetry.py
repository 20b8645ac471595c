"""Metrics: counted under routes and never under what a client makes up."""

import asyncio
import contextlib
from typing import Any

from tests.world import World

from jitgate.app.telemetry import Telemetry


async def test_no_request_makes_a_label_of_its_own(world: World):
    telemetry = Telemetry()
    world.application = telemetry.around(world.application)
    alice = await world.enter("alice")
    for path in ("/v1/me", "/v1/nothing", "/x" * 50, "/v1/keys/1", "/v1/keys/2", "/v1/explain?host=web1&login=a"):
        await alice.get(path)
    await alice.delete("/v1/keys/1")
    await alice.delete("/v1/keys/2")
    routes = {
        sample.labels["route"]
        for family in telemetry.registry.collect()
        for sample in family.samples
        if sample.name == "jitgate_http_requests_total"
    }
    assert routes == {"/v1/me", "none", "/v1/keys/{key_id}", "/v1/explain"}
    counted = telemetry.registry.get_sample_value
    labels = {"method": "DELETE", "route": "/v1/keys/{key_id}", "status": "404"}
    assert counted("jitgate_http_requests_total", labels) == 2
    text = str([sample for family in telemetry.registry.collect() for sample in family.samples])
    for private in ("alice", "web1", alice.signer.person_id, alice.signer.token):
        assert private not in text


def test_a_crash_is_counted_as_one():
    telemetry = Telemetry()

    async def broken(_scope: Any, _receive: Any, _send: Any) -> None:
        raise ZeroDivisionError

    async def run() -> None:
        await telemetry.around(broken)({"type": "http", "method": "GET"}, None, None)  # type: ignore[arg-type]  # unused

    with contextlib.suppress(ZeroDivisionError):
        asyncio.run(run())
    labels = {"method": "GET", "route": "none", "status": "500"}
    assert telemetry.registry.get_sample_value("jitgate_http_requests_total", labels) == 1

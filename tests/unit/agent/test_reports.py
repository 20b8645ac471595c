"""A busy host tells of its logins no faster than the service takes them."""

from types import SimpleNamespace
from typing import Any, cast

from jitgate.agent.agent import Agent
from jitgate.agent.pins import Gateway
from jitgate.hosts.agent_wire import MESSAGES, REPORTS_A_MINUTE, Report


async def test_reports_leave_room_for_pings_and_acknowledgements():
    sent: list[object] = []

    async def send(message: object) -> None:
        sent.append(message)

    nothing = cast("Any", None)
    agent = Agent(nothing, nothing, lambda: 0)
    gateway = Gateway("192.0.2.1", 443, "gate.example.com")
    link = SimpleNamespace(gateway=gateway, send=send)
    agent.links[gateway] = cast("Any", link)
    reports = [Report("login", {"n": number}) for number in range(REPORTS_A_MINUTE + 100)]
    for each in reports:
        agent.report(each)
    await agent.send_reports()
    await agent.send_reports()
    assert sent == reports[: len(sent)]
    assert REPORTS_A_MINUTE <= len(sent) < REPORTS_A_MINUTE + 50 < MESSAGES

"""Many agents in one process, for the bench: each with the real agent's own connection, proof, pauses and checks of
what it is told. What it does not do is what happens on a host's disk. `python -m tests.bench.fleet FILE`."""

import asyncio
import contextlib
import json
import random
import sys
from dataclasses import dataclass
from pathlib import Path

from jitgate.agent.link import Backoff, Link, open_link
from jitgate.agent.pins import Gateway, Pins
from jitgate.agent.sshd import Sshd
from jitgate.ca.trust import TrustList, TrustPin, open_trust
from jitgate.core.clock import system_clock
from jitgate.core.errors import BadInput, Error
from jitgate.hosts.agent_wire import PING_S, Ack, BundleSent, Have, Ping, TrustSent
from jitgate.hosts.bundle import Bundle, BundlePin, check_krl, krl_digest, open_bundle
from jitgate.ssh.private import SoftwareKey, load_private_key
from jitgate.ssh.pubkey import parse_public_key_line


@dataclass
class Member:
    pins: Pins
    key: SoftwareKey
    trust: TrustList | None = None
    bundle: Bundle | None = None
    krl: bytes = b""

    @property
    def have(self) -> Have:
        bundle, trust = self.bundle, self.trust
        digest = krl_digest(self.krl) if bundle else ""
        return Have(bundle.version if bundle else None, trust.version if trust else None, digest)

    def obey(self, message: TrustSent | BundleSent) -> None:
        pins = self.pins
        with contextlib.suppress(BadInput):
            if isinstance(message, TrustSent):
                pin = TrustPin(pins.installation, pins.realm, pins.root)
                self.trust = open_trust(message.unverified, pin, self.trust.version if self.trust else None)
            elif self.trust:
                where = BundlePin(pins.installation, pins.realm, pins.host_id, pins.host, self.trust.online)
                found = open_bundle(message.unverified, where, self.bundle.version if self.bundle else None)
                krl = self.krl if message.krl is None else message.krl
                check_krl(found, krl)
                self.bundle, self.krl = found, krl

    async def run(self, authority: bytes) -> None:
        backoff, loop = Backoff(), asyncio.get_running_loop()
        while True:
            began = loop.time()
            with contextlib.suppress(Error, OSError):
                gateway = self.pins.gateways[0]
                link = await open_link(gateway, self.pins, self.key, authority, self.have, system_clock)
                pinging = asyncio.create_task(_ping(link))
                try:
                    await self._serve(link)
                finally:
                    pinging.cancel()
                    await link.close()
            await asyncio.sleep(backoff.wait(lasted=loop.time() - began))

    async def _serve(self, link: Link) -> None:
        while True:
            message = await link.receive()
            if isinstance(message, TrustSent | BundleSent):
                self.obey(message)
                await link.send(Ack(self.have, system_clock()))


async def _ping(link: Link) -> None:
    with contextlib.suppress(OSError):
        while True:
            await asyncio.sleep(PING_S * random.uniform(0.9, 1.1))
            await link.send(Ping(system_clock()))


async def main(told: dict[str, str]) -> None:
    root = parse_public_key_line(told["root"])[0]
    gateway = Gateway("127.0.0.1", int(told["port"]), "127.0.0.1")
    members = [
        Member(
            Pins(
                url=told["url"],
                installation=told["installation"],
                realm="default",
                host_id=host["id"],
                host=host["name"],
                logins=("ubuntu",),
                root=root,
                tls_pin="",
                gateways=(gateway,),
                host_key=Path("/nowhere"),
                sshd=Sshd(),
            ),
            load_private_key(host["key"].encode()),
        )
        for host in json.loads(told["hosts"])
    ]
    await asyncio.gather(*(each.run(told["authority"].encode()) for each in members))


if __name__ == "__main__":
    asyncio.run(main(json.loads(Path(sys.argv[1]).read_text())))

"""Certificates a second that the signer alone signs, wherever its key lies: judged, listed, synced, verified."""

import asyncio
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path

from tests.bench.rows import Row, has_bao
from tests.conformance.signing import request, signer_files
from tests.keepers import age_identity, put_elsewhere, softhsm, ssh_agent, table, transit
from tests.openbao import running_bao
from tests.unit.ca.samples import private, public
from tools.debian import MissingError

from jitgate.adapters.custody.agent import Agent
from jitgate.adapters.custody.folder import Folder
from jitgate.adapters.custody.pkcs11 import Token
from jitgate.adapters.custody.transit import Transit
from jitgate.adapters.signers.process import SignerSettings, open_signer

BATCH = 64
SECONDS = 2.0
NAME = "user"


def signer() -> Iterator[Row]:
    """An ed25519 key each. Beside the plain file in the same run."""
    base = 0.0
    keepers: dict[str, Callable[[SignerSettings, Path, ExitStack], None]] = {
        "file": lambda _files, _folder, _stack: None,
        "sealed": _sealed,
        "agent": _agent,
        "pkcs11": _token,
        "transit": _transit,
    }
    for name, put in keepers.items():
        if put is _transit and not has_bao():
            continue
        with ExitStack() as stack:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            files = signer_files(folder)
            try:
                put(files, folder, stack)
            except MissingError as missing:
                print(*missing.args)
                continue
            rate = asyncio.run(_rate(files))
        if name == "file":
            base = rate
            yield Row("signer", "1/s file", rate, None, "", "-")
        else:
            yield Row("signer", f"1/s {name}", rate, base, "a key in a file", "-")


async def _rate(files: SignerSettings) -> float:
    async with open_signer(files) as running:
        await running.sign([request()])
        signed, began = 0, time.perf_counter()
        while (passed := time.perf_counter() - began) < SECONDS:
            results = await running.sign([request() for _ in range(BATCH)])
            signed += sum(isinstance(each, bytes) for each in results)
    return signed / passed


def _sealed(files: SignerSettings, folder: Path, _stack: ExitStack) -> None:
    place = age_identity(folder)
    Folder(files.keys, place, sealing=True).put_again(NAME, private(NAME))
    files.rules.write_text(files.rules.read_text() + table("sealed", place))


def _agent(files: SignerSettings, _folder: Path, stack: ExitStack) -> None:
    place = stack.enter_context(ssh_agent())
    Agent(place).put(NAME, private(NAME))
    put_elsewhere(files, {NAME: f"agent:{public(NAME).fingerprint}"}, table("agent", place))


def _token(files: SignerSettings, folder: Path, _stack: ExitStack) -> None:
    place = softhsm(folder / "hsm")
    with closing(Token(place)) as token:
        token.put(NAME, private(NAME))
    put_elsewhere(files, {NAME: f"pkcs11:{NAME}"}, table("pkcs11", place))


def _transit(files: SignerSettings, folder: Path, stack: ExitStack) -> None:
    bao = stack.enter_context(running_bao(folder / "bao"))
    signing, everything = transit(bao, folder)
    with closing(Transit(everything)) as engine:
        engine.put(NAME, private(NAME))
    put_elsewhere(files, {NAME: f"transit:{NAME}"}, table("transit", signing))

"""Where the parts are put together: settings in, an open `Outside` out."""

import logging
import os
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager, nullcontext
from pathlib import Path

from jitgate.adapters.db.store import open_store
from jitgate.adapters.ldap.cache import open_directory
from jitgate.adapters.signers.process import SignerSettings, open_signer
from jitgate.adapters.vault_audit import audit_files
from jitgate.app.gateway import agent_way, gateway_path
from jitgate.app.hashing import Hashing
from jitgate.app.installation import list_folder, node_id, rules_file, sealing_key
from jitgate.app.settings import Settings
from jitgate.audit.events import Actor
from jitgate.core.clock import Clock, system_clock
from jitgate.flow.audit import reconcile
from jitgate.flow.authorities import list_held_keys
from jitgate.flow.elsewhere import Elsewhere
from jitgate.flow.outside import Outside
from jitgate.flow.ports import KeyRegistry, RowsAlone
from jitgate.identity.keys import RefusedKeys, parse_refused_keys

_LOG = logging.getLogger("jitgate.wiring")


@asynccontextmanager
async def open_outside(settings: Settings, clock: Clock = system_clock) -> AsyncIterator[Outside]:
    """Everything an act needs, open until the block ends. The caller holds the state folder's lock.

    Before it is handed out, what the signer signed and the log does not know is written into the log.
    """
    signer_settings = SignerSettings(
        keys=settings.keys_folder, rules=rules_file(settings), state=list_folder(settings), socket=settings.signer
    )
    store = open_store(settings.database_url, node=node_id(settings))
    hashing = Hashing()
    try:
        async with (
            open_signer(signer_settings) as signer,
            _elsewhere(settings, clock) as elsewhere,
            _key_registry(settings) as key_registry,
        ):
            outside = Outside(
                store=store,
                signer=signer,
                clock=clock,
                random=os.urandom,
                sealing_key=sealing_key(settings),
                hashing=hashing,
                origins=settings.origins,
                refused_keys=_refused_keys(settings),
                node=node_id(settings),
                elsewhere=elsewhere,
                key_registry=key_registry,
                gateway=gateway_path(settings),
                agents=agent_way(settings),
                vault=settings.vault,
                vault_audit=_vault_audit(settings),
            )
            await list_held_keys(outside, Actor("service"))
            if burnt := await reconcile(outside):
                _LOG.warning(
                    "certificates were signed and are not in the log",
                    extra={"count": burnt, "look_at": "jitctl audit --type certificate.unreleased"},
                )
            yield outside
    finally:
        hashing.shutdown()
        store.close()


def _key_registry(settings: Settings) -> AbstractAsyncContextManager[KeyRegistry]:
    if settings.keys.store == "database":
        return nullcontext(RowsAlone())
    from jitgate.adapters.vault.keys import open_registry  # noqa: PLC0415  # most installations have none

    return open_registry(settings.keys)


@asynccontextmanager
async def _elsewhere(settings: Settings, clock: Clock) -> AsyncIterator[Elsewhere]:
    if not settings.provider:
        yield Elsewhere()
        return
    from jitgate.adapters.oidc.provider import open_providers  # noqa: PLC0415  # an HTTP client: memory and time

    async with AsyncExitStack() as stack:
        providers = await stack.enter_async_context(open_providers(settings.provider, clock))
        if not settings.directory.url:
            yield Elsewhere(providers)
            return
        directory = await stack.enter_async_context(open_directory(settings.directory, clock))
        yield Elsewhere(providers, directory)


def _vault_audit(settings: Settings) -> Callable[[str, bytes], None] | None:
    return audit_files(Path(settings.vault.audit_folder)) if settings.vault.on and settings.vault.audit_folder else None


def _refused_keys(settings: Settings) -> RefusedKeys:
    return parse_refused_keys(Path(settings.refused_keys).read_text()) if settings.refused_keys else frozenset()

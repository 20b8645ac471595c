"""`sys/health`, `sys/seal-status`, `sys/leader`: for everybody. Unsealed is who can sign."""

from jitgate import __version__
from jitgate.core.clock import SECOND
from jitgate.core.errors import Unreachable
from jitgate.flow.outside import Outside
from jitgate.flow.vault.asking import Answer, Asked


async def health(outside: Outside, asked: Asked) -> Answer:
    del asked
    sealed = await _sealed(outside)
    told = {
        "initialized": True,
        "sealed": sealed,
        "standby": False,
        "server_time_utc": outside.clock() // SECOND,
        "version": __version__,
        "cluster_name": "jitgate",
    }
    return Answer(bare=told, status=503 if sealed else 200)


async def seal_status(outside: Outside, asked: Asked) -> Answer:
    del asked
    told = {
        "type": "jitgate",
        "initialized": True,
        "sealed": await _sealed(outside),
        "t": 0,
        "n": 0,
        "progress": 0,
        "nonce": "",
        "version": __version__,
        "migration": False,
        "recovery_seal": False,
        "storage_type": "jitgate",
        "cluster_name": "jitgate",
    }
    return Answer(bare=told)


async def leader(outside: Outside, asked: Asked) -> Answer:
    del outside, asked
    return Answer(bare={"ha_enabled": False})


async def _sealed(outside: Outside) -> bool:
    try:
        await outside.signer.keys()
    except Unreachable:
        return True
    return False

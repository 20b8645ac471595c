"""What nobody may take for a host: the realms' lists, kept as the one file that `RevokedHostKeys` names."""

from hashlib import sha256

from jitgate.cli.answers import About
from jitgate.cli.files import private_folder, read_private, write_private
from jitgate.cli.service import Service
from jitgate.core.errors import BadInput, NotFound
from jitgate.ssh.krl import merge, parse_krl
from jitgate.ssh.wire import FormatError

_LIST_MAX = 1 << 20  # bytes of one realm: fifty thousand hosts that were revoked


def keep_revoked(service: Service, known: About) -> None:
    """Bring the file up to date; nothing is fetched while the lists are those that stand there.

    `BadInput` for a list that is none: then no host is connected to, and the file stays as it was.
    """
    told = [realm.host_krl for realm in known.realms if realm.host_krl]
    if not told:
        return
    path = private_folder(service.profile.folder) / "revoked_host_keys"
    try:
        if parse_krl(read_private(path, 2 * _LIST_MAX * len(told))).comment == _mark([krl.sha256 for krl in told]):
            return
    except (FormatError, NotFound):
        pass  # none yet, or the empty file of before
    lists = [_fetch(service, krl.path) for krl in told]
    try:
        # Marked as what it is: a list that has changed since it was named is fetched again by the next command.
        mark = _mark([sha256(data).hexdigest() for data in lists])
        write_private(path, merge(lists, version=0, generated=0, comment=mark))
    except FormatError as error:
        what = f"the service's list of revoked host keys is not sound: {error.what}"
        raise BadInput(what, "do not connect; tell the service's owner") from None


def _mark(digests: list[str]) -> bytes:
    return f"jitctl {' '.join(digests)}".encode("ascii")


def _fetch(service: Service, path: str) -> bytes:
    response, content = service.fetch("GET", path, limit=_LIST_MAX)
    if not response.is_success:
        raise BadInput(f"the service has no list of revoked host keys: {response.status_code}", "try again")
    return content

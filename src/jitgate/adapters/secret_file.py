"""A secret in a file, and who can read it.

Only its owner can: us, or root. A file of root's may be readable for us besides: systemd hands credentials over by an
ACL for the service's user (systemd.exec(5)), Kubernetes by the group of the pod (fsGroup). Nobody but root could have
made it so.
"""

import os
import stat
import struct
from collections.abc import Collection
from contextlib import suppress
from typing import Final

from jitgate.core.errors import BadInput, NotFound, Unsafe
from jitgate.core.secret import Secret

SECRET_MAX: Final = 4096  # characters
_ACL_OWNER, _ACL_USER, _ACL_MASK = 0x01, 0x02, 0x10


def read_secret(path: str) -> Secret[str]:
    """A secret's file: one line, 0600, or as above; links are followed. Empty for no path."""
    if not path:
        return Secret("")
    content = read_secret_bytes(path, SECRET_MAX).reveal()
    try:
        text = content.decode().strip()
    except UnicodeDecodeError as error:
        raise BadInput(f"cannot read {path}: {error}") from None
    if not text or not text.isprintable():
        raise BadInput(f"{path} holds no secret", "one line of text")
    return Secret(text)


def read_secret_bytes(path: str, limit: int) -> Secret[bytes]:
    """The same of a file of any content, of `limit` bytes at most."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        with os.fdopen(descriptor, "rb") as file:
            found = os.fstat(descriptor)
            if not stat.S_ISREG(found.st_mode) or found.st_uid not in {os.geteuid(), 0}:
                raise Unsafe(f"{path} is not a file of this user or root")
            if not is_ours_alone(descriptor, found):
                raise Unsafe(f"{path} can be read by others", f"chmod 600 {path}")
            content = file.read(limit + 1)
    except FileNotFoundError:
        raise NotFound(
            f"no file {path}", "make it: one line, the secret, mode 0600; or correct the setting that names it"
        ) from None
    except OSError as error:
        raise BadInput(f"cannot read {path}: {error}") from None
    if len(content) > limit:
        raise BadInput(f"{path} holds no secret", f"more than {limit} bytes")
    return Secret(content)


def is_ours_alone(descriptor: int, found: os.stat_result) -> bool:
    """The same of a file that is open."""
    acl = b""
    with suppress(OSError):  # none, or a file system that has none
        acl = os.getxattr(descriptor, "system.posix_acl_access")
    return readable_by_us_alone(found, acl, os.geteuid(), {os.getegid(), *os.getgroups()})


def readable_by_us_alone(found: os.stat_result, acl: bytes, uid: int, groups: Collection[int]) -> bool:
    """Whether nobody but `uid`, root and what root chose can reach a file. `acl`: as Linux keeps it (acl(5)).

    With an ACL the mode's group bits are the most that it gives to anybody who is named in it.
    """
    reach = stat.S_IMODE(found.st_mode) & 0o077
    if reach == 0:
        return True
    if reach != stat.S_IRGRP or found.st_uid != 0 or uid == 0:
        return False
    return _names_only(acl, uid) if acl else found.st_gid in groups


def _names_only(acl: bytes, uid: int) -> bool:
    """The ACL gives something to that user only, beside the owner. posix_acl_xattr.h of Linux has its form."""
    if len(acl) % 8 != 4 or acl[:4] != struct.pack("<I", 2):  # noqa: PLR2004  # a version, then entries of 8 bytes
        return False
    for tag, permissions, who in struct.iter_unpack("<HHI", acl[4:]):
        owner, mask = tag == _ACL_OWNER, tag == _ACL_MASK
        if permissions and not (owner or mask or (tag == _ACL_USER and who == uid)):
            return False
    return True

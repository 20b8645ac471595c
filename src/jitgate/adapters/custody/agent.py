"""Keys in an ssh-agent: the few messages of its protocol that a CA needs (draft-ietf-sshm-ssh-agent, OpenSSH
PROTOCOL.agent).

So a key may be in a smart card or a YubiKey that the agent has opened (`ssh-add -s`), or only in the agent's memory.
Which agent answers does not matter: the key is named by its fingerprint, and what it signs is verified.
"""

import socket
from typing import Final

from jitgate.adapters.custody.port import deadline
from jitgate.ca.places import AgentPlace
from jitgate.core.errors import BadInput, Conflict, NotFound, Unreachable, Unsafe
from jitgate.ssh.private import SoftwareKey, private_fields
from jitgate.ssh.pubkey import Algorithm, PublicKey, parse_public_key
from jitgate.ssh.wire import FormatError, Reader, put_string, put_uint32

_FAILURE, _SUCCESS, _LIST, _LISTED, _SIGN, _SIGNED, _ADD = 5, 6, 11, 12, 13, 14, 17
_RSA_SHA2_512: Final = 4
_ANSWER_MAX: Final = 256 * 1024  # bytes, as OpenSSH's own agent has it
_KEYS_MAX: Final = 1024


class Agent:
    """One agent, by its socket. A connection an act: one that was started again is found again."""

    def __init__(self, place: AgentPlace) -> None:
        self._place = place

    def key(self, name: str) -> "AgentKey":
        found = self._keys()
        public = next((each for each in found if each.fingerprint == name), None)
        if public is None:
            locked = "" if found else "; it shows no key at all: is it locked (ssh-add -X)?"
            raise NotFound(f"the agent holds no key {name}{locked}", "ssh-add -l; then ssh-add FILE, or ssh-add -s")
        if public.algorithm.is_sk:
            raise Unsafe("a security key's signature is no CA's", "use its PIV side: ssh-add -s libykcs11.so")
        return AgentKey(self, public)

    def make(self, name: str, algorithm: Algorithm) -> PublicKey:
        del name, algorithm
        raise BadInput("an agent makes no keys", "make one with ssh-keygen, or in its card; then ssh-add")

    def put(self, name: str, key: SoftwareKey) -> None:
        """`name` is the comment that the agent shows. The key is gone when the agent ends."""
        if any(each == key.public for each in self._keys()):
            raise Conflict(f"the agent holds {key.public.fingerprint} already")
        self._ask(_ADD, private_fields(key).reveal() + put_string(name), _SUCCESS)

    def close(self) -> None:
        pass

    def sign(self, key: PublicKey, data: bytes) -> bytes:
        flags = _RSA_SHA2_512 if key.algorithm is Algorithm.RSA else 0
        reader = self._ask(_SIGN, put_string(key.blob) + put_string(data) + put_uint32(flags), _SIGNED)
        signature = reader.string()
        reader.end()
        return signature

    def _keys(self) -> list[PublicKey]:
        return keys_in(self._ask(_LIST, b"", _LISTED))

    def _ask(self, kind: int, fields: bytes, due: int) -> Reader:
        message = bytes([kind]) + fields
        where = self._place.socket
        try:
            with deadline(self._place.timeout_ms / 1000), socket.socket(socket.AF_UNIX) as connection:
                connection.connect(where)
                connection.sendall(put_uint32(len(message)) + message)
                answer = _frame(connection)
        except TimeoutError:
            what = f"the agent at {where} does not answer within {self._place.timeout_ms} ms"
            raise Unreachable(what, "does it ask somebody to confirm, or to touch a card?") from None
        except (OSError, EOFError) as error:
            words = getattr(error, "strerror", None) or error
            raise Unreachable(f"no agent at {where}: {words}", "is it running? ssh-add -l says so") from None
        reader = Reader(answer)
        if (found := reader.byte()) != due:
            words = "refuses" if found == _FAILURE else f"answers with {found}"
            raise Unreachable(f"the agent at {where} {words}", "is it locked, its card gone, the key to be confirmed?")
        return reader


def keys_in(reader: Reader) -> list[PublicKey]:
    """The plain keys of a listing; certificates and kinds that are not taken are passed over. Else `FormatError`."""
    found: list[PublicKey] = []
    if (count := reader.uint32()) > _KEYS_MAX:
        raise FormatError(f"the agent shows {count} keys")
    for _ in range(count):
        blob, _comment = reader.string(), reader.string()
        try:
            found.append(parse_public_key(blob))
        except FormatError:
            continue
    reader.end()
    return found


class AgentKey:
    def __init__(self, agent: Agent, public: PublicKey) -> None:
        self._agent = agent
        self.public: PublicKey = public

    def sign(self, data: bytes) -> bytes:
        return self._agent.sign(self.public, data)


def _frame(connection: socket.socket) -> bytes:
    with connection.makefile("rb") as file:
        length = int.from_bytes(file.read(4), "big")
        if not 1 <= length <= _ANSWER_MAX:
            raise EOFError(f"an answer of {length} bytes")
        answer = file.read(length)
    if len(answer) != length:
        raise EOFError("it hung up within an answer")
    return answer

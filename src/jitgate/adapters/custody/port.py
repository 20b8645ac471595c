"""What the signer asks of whoever keeps a CA key, and the guard around every key that is not in its own memory."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Protocol

from jitgate.core.errors import BadInput, Error, Unreachable, Unsafe
from jitgate.ssh.private import SoftwareKey
from jitgate.ssh.pubkey import Algorithm, PublicKey


class SigningKey(Protocol):
    """A key that signs, wherever it is. `ssh.private.SoftwareKey` is one."""

    @property
    def public(self) -> PublicKey: ...

    def sign(self, data: bytes) -> bytes:
        """An SSH signature blob over `data`. Raises a `core.errors.Error` that says why there is none."""
        ...


class Custody(Protocol):
    """A keeper of keys outside this process. Names are those behind the `scheme:` of `ca.places`.

    Every method raises `Unreachable` when the keeper is gone or locked, `NotFound` for a key that is not there,
    `Unsafe` for one that a CA must not use, `BadInput` for what this keeper cannot do.
    """

    def key(self, name: str) -> SigningKey: ...

    def make(self, name: str, algorithm: Algorithm) -> PublicKey:
        """A new key that never was anywhere else. `Conflict` when the name is taken."""
        ...

    def put(self, name: str, key: SoftwareKey) -> None:
        """A copy of this key, which it does not let out again. `Conflict` when the name is taken."""
        ...

    def close(self) -> None: ...


class Guarded:
    """A key in somebody else's custody, as the desk uses it.

    What it signs is verified before it goes on. After the first failure it is lost, and nobody waits for its keeper
    again, until the keyring has taken it up anew.
    """

    __slots__ = ("_key", "lost", "public")

    def __init__(self, key: SigningKey) -> None:
        self._key = key
        self.public: PublicKey = key.public
        self.lost: Error | None = None

    def sign(self, data: bytes) -> bytes:
        if self.lost is not None:
            raise Unreachable(self.lost.what, self.lost.hint)
        try:
            signature = self._key.sign(data)
            self._verify(signature, data)
        except Error as error:
            self.lost = error
            raise
        return signature

    def found_again(self, key: "Guarded") -> None:
        """Its keeper showed the same key once more, and signs by this handle now."""
        self._key, self.lost = key._key, None  # noqa: SLF001  # its own kind

    def _verify(self, signature: bytes, data: bytes) -> None:
        try:
            self.public.verify(signature, data)
        except BadInput as error:
            raise Unsafe(f"what the keeper of {self.public.fingerprint} signed is wrong: {error.what}") from None

    def __repr__(self) -> str:
        return f"Guarded({self.public.fingerprint})"


@contextmanager
def deadline(seconds: float) -> Iterator[None]:
    """`TimeoutError` when the block takes longer, however its bytes drip. Only in the main thread, as the signer is."""

    def over(_number: int, _frame: FrameType | None) -> None:
        raise TimeoutError

    before = signal.signal(signal.SIGALRM, over)
    left, _ = signal.setitimer(signal.ITIMER_REAL, seconds)  # somebody else's alarm comes a little later
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, left)
        signal.signal(signal.SIGALRM, before)

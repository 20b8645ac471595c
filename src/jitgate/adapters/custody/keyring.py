"""The keys that `signer.toml` names and that lie in no file of the folder: taken up, looked after, given up for lost.

A keeper that is away is asked again after a second, then after two, and so on up to a minute; meanwhile its keys sign
nothing and whoever asks the signer what it holds learns why. One key is asked for in one look, and none of a keeper
that is away, so that one which hangs delays nobody by more than its own time limit now and then.
"""

import time
from collections.abc import Callable, Iterable
from typing import Final, Protocol

from jitgate.adapters.custody.port import Custody, Guarded, SigningKey
from jitgate.ca.model import RefusedFile
from jitgate.ca.places import Places
from jitgate.core.errors import BadInput, Error, Unreachable

CHECK_S: Final = 15.0  # between looks after a key that nobody asks for
FIRST_WAIT_S: Final = 1.0
LONGEST_WAIT_S: Final = 60.0


class Holder(Protocol):
    """The desk, as far as the keyring knows it."""

    def hold(self, file: str, key: SigningKey) -> None: ...

    def let_go(self, file: str) -> bool: ...


def open_custody(places: Places, scheme: str) -> Custody:
    """The keeper that a table of `signer.toml` names; `BadInput` when there is none."""
    # each is loaded where it is used: most signers have none of them, and the HTTP client alone is 2 MB
    if scheme == "pkcs11" and places.pkcs11:
        from jitgate.adapters.custody.pkcs11 import Token  # noqa: PLC0415

        return Token(places.pkcs11)
    if scheme == "agent" and places.agent:
        from jitgate.adapters.custody.agent import Agent  # noqa: PLC0415

        return Agent(places.agent)
    if scheme == "transit" and places.transit:
        from jitgate.adapters.custody.transit import Transit  # noqa: PLC0415

        return Transit(places.transit)
    raise BadInput(f"signer.toml has no table [{scheme}]", "docs/custody.md")


class Keyring:
    def __init__(self, places: Places, tick: Callable[[], float] = time.monotonic) -> None:
        self._places, self._tick = places, tick
        self._keepers: dict[str, Custody] = {}
        self._taken: dict[str, Guarded] = {}
        self._due: dict[str, float] = {}
        self._wait: dict[str, float] = {}
        self._away: dict[str, tuple[float, Error]] = {}

    def take(self, name: str) -> Guarded:
        """The key of this name, from now on looked after. Raises what is wrong with it or its keeper."""
        scheme, _, rest = name.partition(":")
        if (away := self._away.get(scheme)) and self._tick() < away[0]:
            raise Unreachable(away[1].what, away[1].hint)
        try:
            if scheme not in self._keepers:
                self._keepers[scheme] = open_custody(self._places, scheme)
            key = self._taken[name] = Guarded(self._keepers[scheme].key(rest))
        except Error as error:
            self._due[name] = self._tick() + self._longer(name)
            if isinstance(error, Unreachable):
                self._away[scheme] = self._tick() + self._longer(scheme), error
            raise
        self._wait.pop(name, None)
        self._wait.pop(scheme, None)
        self._away.pop(scheme, None)
        self._due[name] = self._tick() + CHECK_S
        return key

    def _longer(self, what: str) -> float:
        self._wait[what] = min(2 * self._wait.get(what, FIRST_WAIT_S / 2), LONGEST_WAIT_S)
        return self._wait[what]

    def follow(self, places: Places) -> None:
        """From now on these; what was taken stays until the next look."""
        if places != self._places:
            self._places = places
            for keeper in self._keepers.values():
                keeper.close()
            self._keepers.clear()
            self._due.clear()
            self._away.clear()

    def look(self, names: Iterable[str], holder: Holder, refused: dict[str, RefusedFile]) -> None:
        """Tell the holder what came back and what is lost. Never raises."""
        wanted = set(names)
        for name in self._taken.keys() - wanted:  # no table names it any more
            del self._taken[name]
        asked = False
        for name in sorted(wanted, key=lambda name: self._due.get(name, 0)):
            key = self._taken.get(name)
            if key is not None and key.lost is not None:
                self._lose(name, key.lost, holder, refused)
            if not asked and self._due.get(name, 0) <= self._tick():
                asked = True
                self._ask(name, holder, refused)

    def look_after(self, name: str) -> None:
        """The same for a key that is no CA's and that nothing can do without: it is what it was, or still lost."""
        key = self._taken.get(name)
        if key is None or key.lost is None or self._due.get(name, 0) > self._tick():
            return
        try:
            again = self.take(name)
        except Error:
            pass
        else:
            if again.public == key.public:
                key.found_again(again)
        self._taken[name] = key

    def _ask(self, name: str, holder: Holder, refused: dict[str, RefusedFile]) -> None:
        before = self._taken.get(name)
        try:
            key = self.take(name)
            if before is not None and before.public == key.public and name not in refused:
                before.found_again(key)  # nothing changed: the holder keeps what it has
                self._taken[name] = before
                return
            holder.hold(name, key)
        except Error as error:
            self._taken.pop(name, None)
            self._lose(name, error, holder, refused)
        else:
            refused.pop(name, None)

    def _lose(self, name: str, error: Error, holder: Holder, refused: dict[str, RefusedFile]) -> None:
        holder.let_go(name)
        refused[name] = RefusedFile(name, error.what, error.hint)
        if self._taken.pop(name, None) is not None:  # lost while it was in use: asked for again soon
            self._due[name] = self._tick() + FIRST_WAIT_S

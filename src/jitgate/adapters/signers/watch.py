"""The folder of keys while the signer runs: what comes, goes and changes there, seen by looking once a second.

A file counts when two looks in a row found it the same, so that one which is being written is left alone; a mode or
owner that lets others in counts at once. Then:

- a new key is held, and signs when the service asks for it by name: hosts trust it before that, or it is worth nothing;
- another key under a known name is held too; the one before is kept in memory until a restart, for it may be in use;
- a file that is gone, that others can reach, or that leads out of the folder: its keys are let go;
- what is no whole key changes nothing.

The log key is read at the start only. Keys that lie in no file are the keyring's to look after (`adapters.custody`).
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from jitgate.adapters.custody.keyring import Keyring
from jitgate.adapters.custody.port import SigningKey
from jitgate.adapters.signers.desk import Desk
from jitgate.adapters.signers.files import Mark, check_folder, load_key, mark_of
from jitgate.adapters.signers.statements import load_agent_keys
from jitgate.ca.model import RefusedFile
from jitgate.ca.places import is_place
from jitgate.ca.rules import Rules
from jitgate.core.errors import BadInput, Error, NotFound

FILES_MAX: Final = 256  # in the folder that a table may mean; more are no keys
_GONE: Final = "the file is gone"


class Watch:
    """What was seen, and what was made of it."""

    def __init__(self, folder: Path, rules: Rules) -> None:
        self._folder, self._rules = folder, rules
        self._before: dict[str, Mark] = {}
        self._done: dict[str, Mark] = {}
        self.refused: dict[str, RefusedFile] = {}
        """By name; the desk says it to whoever asks what it holds."""
        self.lost: dict[str, RefusedFile] = {}
        """The same of keys that lie in no file."""
        self._keyring = Keyring(rules.places)

    def begin(self) -> Mapping[str, SigningKey]:
        """The keys to begin with, by file. Raises what is wrong with the folder, the log key, or the only key of a
        table; what is wrong with another key is in `refused`. A keeper that is away is waited for while others sign.
        """
        check_folder(self._folder)
        log = self.load(self._rules.log_key)
        loaded: dict[str, SigningKey] = {}
        wrong: dict[str, Error] = {}
        for file in self._names():
            mark = self._mark(file)
            try:
                loaded[file] = self.load(file)
                self._done[file] = mark
            except Error as error:
                wrong[file] = error
                self.refused[file] = RefusedFile(file, error.what, error.hint)
        for name in self._rules.elsewhere():
            try:
                loaded[name] = self.load(name)
            except Error as error:
                self.lost[name] = RefusedFile(name, error.what, error.hint)
        for ceiling in self._rules.ceilings:
            found = [*loaded, *self.lost]
            if not any(self._rules.ceiling_of(name) is ceiling for name in found):
                mine = [error for file, error in wrong.items() if self._rules.ceiling_of(file) is ceiling]
                raise mine[0] if mine else NotFound(f"no key in {self._folder} for {' '.join(ceiling.keys)}")
        return loaded | {self._rules.log_key: log} | load_agent_keys(self._folder, self._rules)

    def load(self, name: str) -> SigningKey:
        """The key of this name, wherever it lies. Raises what is wrong with it."""
        if is_place(name):
            return self._keyring.take(name)
        return load_key(self._folder, name, self._rules.places.sealed)

    def follow(self, rules: Rules) -> None:
        """From now on by these. Files that no table means any more are forgotten."""
        self._rules = rules
        for name in {*self._done, *self.refused}:
            if rules.ceiling_of(name) is None:
                self._done.pop(name, None)
                self.refused.pop(name, None)
        self._keyring.follow(rules.places)
        for name in self.lost.keys() - set(rules.elsewhere()):
            del self.lost[name]

    def look(self, desk: Desk) -> None:
        """Tell the desk what changed. Never raises: whatever is wrong is said of the file."""
        names = {*self._names(), *self._done, *self.refused}
        now = {name: self._mark(name) for name in names}
        # what is gone comes first: the same key may be there under another name
        for name in sorted(now, key=lambda name: now[name] is not None):
            mark = now[name]
            if name in self._done and self._done[name] == mark:
                continue
            if self._before.get(name, ()) == mark or self._is_urgent(name, mark):
                self._take(name, mark, desk)
        self._before = now
        self._keyring.look(self._rules.elsewhere(), desk, self.lost)
        self._keyring.look_after(self._rules.log_key)

    def _is_urgent(self, name: str, mark: Mark) -> bool:
        """The same file as before with another mode or owner."""
        done = self._done.get(name)
        return bool(mark and done and mark[:2] == done[:2] and mark[2:5] != done[2:5])

    def _take(self, name: str, mark: Mark, desk: Desk) -> None:
        try:
            if mark is None:
                raise NotFound(_GONE)
            desk.hold(name, self.load(name))
        except BadInput as error:  # not a key, or not yet: what was there is as good as before
            self._refuse(name, error)
        except (Error, OSError) as error:
            desk.let_go(name)
            self._refuse(name, error)
        else:
            self.refused.pop(name, None)
        if self._mark(name) == mark:  # else it changed while it was read
            self._done[name] = mark
        if mark is None and name not in self._rules.files():
            self._done.pop(name, None)
            self.refused.pop(name, None)

    def _refuse(self, name: str, error: Error | OSError) -> None:
        what, hint = (error.what, error.hint) if isinstance(error, Error) else (str(error.strerror), "")
        self.refused[name] = RefusedFile(name, what, hint)

    def _names(self) -> list[str]:
        """Files that a table means: those named whole, and those that are there and begin as one does."""
        found: list[str] = []
        try:
            with os.scandir(self._folder) as entries:
                for entry in entries:
                    if len(found) < FILES_MAX and self._rules.ceiling_of(entry.name):
                        found.append(entry.name)
        except OSError:
            pass  # then each of the files is gone
        named = self._rules.files()
        return [*named, *sorted(set(found) - set(named))]

    def _mark(self, name: str) -> Mark:
        return mark_of(self._folder / name)

"""`signer.toml` while the signer runs: a change counts when two looks in a row found it the same.

What the new text allows holds from then on, for keys that are held as for those that come: a realm that was added needs
no restart, and neither does a limit that was lowered. A text with a mistake changes nothing at all, nor
does one with another log key or origin: the old rules go on, and whoever asks what the signer holds is told.
"""

from pathlib import Path
from typing import Final

from jitgate.adapters.signers.desk import Desk
from jitgate.adapters.signers.files import load_text, mark_of
from jitgate.adapters.signers.watch import Watch
from jitgate.ca.model import RefusedFile
from jitgate.ca.rules import FILE_MAX, Rules, read_rules
from jitgate.core.errors import BadInput, Error

_AS_BEFORE: Final = "the rules before it still hold"


class RulesFile:
    """The file, and what was made of it."""

    def __init__(self, path: Path) -> None:
        """Raises what is wrong with the file."""
        self._path = path
        self._before = self._done = mark_of(self._path)  # before it is read: what changes in between is seen later
        self.rules = read_rules(load_text(path, FILE_MAX))

    def look(self, desk: Desk, watch: Watch) -> None:
        """Never raises: whatever is wrong is said."""
        mark = mark_of(self._path)
        if mark != self._done and mark == self._before:
            self._done = mark
            try:
                rules = self._read()
            except (Error, OSError) as error:
                what = error.what if isinstance(error, Error) else str(error.strerror)
                hint = getattr(error, "hint", "") or _AS_BEFORE
                desk.rules_refused = RefusedFile(self._path.name, f"{what}; {_AS_BEFORE}", hint)
            else:
                self.rules, desk.rules_refused = rules, None
                watch.follow(rules)
                desk.follow(rules)
        self._before = mark

    def _read(self) -> Rules:
        rules = read_rules(load_text(self._path, FILE_MAX))
        if (rules.log_key, rules.origin) != (self.rules.log_key, self.rules.origin):
            raise BadInput("another log key or origin", "stop the service, and start it again")
        return rules

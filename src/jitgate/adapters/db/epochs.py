"""What this process knows of the revocation epoch, which says how long facts may be recalled.

On SQLite the one writer is all there is to know. On PostgreSQL other nodes move the epoch too: what they did is learnt
from a connection that listens, and while that says nothing, nothing is recalled. Between another node's commit and our
learning of it, an old fact may be recalled: so a certificate, a grant, a key are decided again inside the transaction
that writes them, which compares the epoch under the writers' lock.
"""

import threading
import time

ALWAYS = float("inf")


class Epochs:
    """`value`: the newest epoch that was heard of. Written by the writer and the listener, read by everybody."""

    def __init__(self, value: int, *, alone: bool) -> None:
        self._lock = threading.Lock()
        self._good_until = ALWAYS if alone else 0.0  # of the monotonic clock
        self._generation = 0
        self.value = value

    def learn(self, value: int, good_until: float = 0.0) -> None:
        """Another value ends what was recalled so far, be it smaller: a restored database begins anew."""
        with self._lock:
            if value != self.value:
                self.value = value
                self._generation += 1
            self._good_until = max(self._good_until, good_until)

    def doubt(self) -> None:
        """Nobody tells us any more: recall nothing until somebody does, and then nothing from before."""
        with self._lock:
            self._generation += 1
            self._good_until = 0.0

    def generation(self) -> int | None:
        """What was recalled under the same number is as good as read now; None: read."""
        generation = self._generation  # before the time: a doubt in between ends both
        if self._good_until != ALWAYS and time.monotonic() > self._good_until:
            return None
        return generation

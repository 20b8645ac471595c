"""A plan by which one realm's key of one kind is replaced, step by step, without a login that fails.

1. *trust*: the new key is listed, so that everybody comes to trust it. The old one signs.
2. *use*: the new key signs. The old one is trusted, for what it signed.
3. *retire*: nothing by the old key is trusted any more; everybody comes to forget it.
4. *done*: nobody has it any more. Its private half may be destroyed.

What holds up a step is asked of the world each time (`flow.rotation`): a plan knows only where it stands.
"""

from dataclasses import dataclass
from enum import StrEnum

from jitgate.ca.realms import CaKind
from jitgate.core.clock import Micros


class Step(StrEnum):
    TRUST = "trust"
    USE = "use"
    RETIRE = "retire"
    DONE = "done"
    ABORTED = "aborted"


_NEXT = {Step.TRUST: Step.USE, Step.USE: Step.RETIRE, Step.RETIRE: Step.DONE}


@dataclass(frozen=True, slots=True)
class Rotation:
    """`old_id`, `new_id`: of the authorities. `waived`: ids of hosts that hold nothing up. `step_at`: when it began.

    `emergency`: the old key is in somebody else's hands: it was retired at the start, and the plan began at *retire*.
    """

    id: str
    realm: str
    kind: CaKind
    old_id: str
    new_id: str
    step: Step
    started_at: Micros
    step_at: Micros
    trust: int = 0
    """The counter of what hosts trust, when the step began: who has acknowledged it has what the step changed."""
    emergency: bool = False
    waived: frozenset[str] = frozenset()
    ended_at: Micros | None = None

    @property
    def next(self) -> Step | None:
        """None for a plan that has ended."""
        return _NEXT.get(self.step)

"""What callers are told when the database fails them. The service's own log has the details."""

from sqlalchemy.exc import DBAPIError, InterfaceError, InternalError, OperationalError

from jitgate.core.errors import BadInput, Unreachable

FAILURES = (OperationalError, InterfaceError, InternalError)
"""The database's, and not the statement's: gone, full, locked, damaged."""

_DISK_FULL = "53100"  # SQLSTATE


def failed(error: Exception, doing: str = "write") -> Unreachable:
    """Of a server nothing is told that only its clients know: its address, our name there."""
    orig = getattr(error, "orig", error)
    state = getattr(orig, "sqlstate", None)
    if not isinstance(error, DBAPIError) or type(orig).__module__.startswith("sqlite3"):
        problem = Unreachable(f"the database could not {doing}", f"{orig}: see the service's log")
    elif state == _DISK_FULL:
        problem = Unreachable(f"the database could not {doing}", "its disk is full")
    elif error.connection_invalidated or state is None or state.startswith(("08", "57")):
        problem = Unreachable("the database is gone", "try again in a moment; the service's log says more")
    else:
        problem = Unreachable(f"the database could not {doing}", "try again; the service's log says more")
    problem.__cause__ = error
    return problem


def unheld() -> BadInput:
    """For a `DataError`: a NUL, a number beyond 64 bits. SQLite would only have found nothing by it."""
    return BadInput("a text or a number that no database holds", "leave it out")


def unknown(error: Exception) -> Unreachable:
    """It broke while it committed, and cannot be asked whether it did."""
    problem = Unreachable("the database is gone, and nobody knows whether it wrote this", "look before you try again")
    problem.__cause__ = error
    return problem

"""Every error that a person can cause: what happened, and what to do.

Error
├── BadInput        a request, key, file or packet that is wrong      exit 1   HTTP 400
├── UsageError      a command called wrongly                          exit 2   HTTP 400
├── NotSignedIn     no sign-in, or it has ended                       exit 3   HTTP 401
├── Denied          a decision said no; carries its checks            exit 4   HTTP 403
├── ApprovalPending somebody else has to agree first                  exit 5   HTTP 409
├── NotFound                                                          exit 6   HTTP 404
├── Conflict        exists already, or has ended                      exit 7   HTTP 409
├── TooMany         a limit of rate or size                           exit 1   HTTP 429
├── Unreachable     the service, the signer or the store is not there exit 8   HTTP 503
└── Unsafe          a file's mode, a key's strength: refused          exit 1   HTTP 400
"""

from jitgate.core.outcome import Check


class Error(Exception):
    """`what` in lower case without a full stop; `hint` says what to do; `code` is stable and documented."""

    exit_status = 1
    http_status = 400

    def __init__(self, what: str, hint: str = "", *, code: str = "", checks: tuple[Check, ...] = ()) -> None:
        super().__init__(what)
        self.what = what
        self.hint = hint
        self.code = code or type(self).default_code
        self.checks = checks

    default_code = "error"


class BadInput(Error):
    default_code = "bad_input"


class UsageError(Error):
    exit_status = 2
    default_code = "usage"


class NotSignedIn(Error):
    exit_status = 3
    http_status = 401
    default_code = "not_signed_in"


class Denied(Error):
    exit_status = 4
    http_status = 403
    default_code = "denied"


class ApprovalPending(Error):
    exit_status = 5
    http_status = 409
    default_code = "approval_pending"


class NotFound(Error):
    exit_status = 6
    http_status = 404
    default_code = "not_found"


class Conflict(Error):
    exit_status = 7
    http_status = 409
    default_code = "conflict"


class TooMany(Error):
    http_status = 429
    default_code = "too_many"


class Unreachable(Error):
    exit_status = 8
    http_status = 503
    default_code = "unreachable"


class Unsafe(Error):
    default_code = "unsafe"

"""A certificate in words: for whom, where, until when, what it allows and what not."""

from jitgate.cli.answers import Row
from jitgate.cli.certificate import ends, grant_of
from jitgate.cli.out import pairs
from jitgate.cli.times import until
from jitgate.core.clock import SECOND, Micros, rfc3339
from jitgate.ssh.cert import Certificate, CertType

_ABILITIES = {
    "permit-pty": "a terminal",
    "permit-port-forwarding": "port forwarding",
    "permit-agent-forwarding": "agent forwarding",
    "permit-X11-forwarding": "X11 forwarding",
    "permit-user-rc": "~/.ssh/rc",
}
_CONDITIONS = {
    "force-command": "runs only: {}",
    "source-address": "only from {}",
    "verify-required": "only with the security key's PIN or fingerprint",
}


def as_lines(path: str, certificate: Certificate, now: Micros) -> list[str]:
    body = certificate.body
    allowed = {name for name, _ in body.extensions}
    start, end = body.valid_after * SECOND, ends(certificate)
    state = "not valid yet, from " + until(start, now) if start > now else "valid until " + until(end, now)
    own = [f"{name}={value}" if value else name for name, value in body.extensions if name not in _ABILITIES]
    user = body.type is CertType.USER
    return [
        path,
        *(
            "  " + line
            for line in pairs(
                [
                    ("kind", "for a user" if user else "for a host"),
                    ("opens" if user else "names", ", ".join(principal_words(name) for name in body.principals)),
                    ("time", "ended " + until(end, now) if end <= now else state),
                    ("may", ", ".join(words for name, words in _ABILITIES.items() if name in allowed)),
                    ("may not", ", ".join(words for name, words in _ABILITIES.items() if name not in allowed and user)),
                    ("condition", "; ".join(_CONDITIONS[name].format(value) for name, value in body.critical_options)),
                    ("also says", ", ".join(own)),
                    ("key", certificate.fingerprint),
                    ("signed by", body.ca.fingerprint),
                    ("serial", str(body.serial)),
                    ("key id", body.key_id),
                ]
            )
        ),
    ]


def as_document(path: str, certificate: Certificate) -> Row:
    body = certificate.body
    return {
        "file": path,
        "type": body.type.name.lower(),
        "principals": list(body.principals),
        "valid_after": rfc3339(body.valid_after * SECOND),
        "valid_before": rfc3339(body.valid_before * SECOND),
        "critical_options": dict(body.critical_options),
        "extensions": dict(body.extensions),
        "key": certificate.fingerprint,
        "ca": body.ca.fingerprint,
        "serial": str(body.serial),
        "key_id": body.key_id,
        "grant": grant_of(certificate),
    }


def principal_words(name: str) -> str:
    """`ubuntu on web1` for `ubuntu@host:web1`; other principals as they are."""
    login, _, scope = name.partition("@host:")
    return f"{login} on {scope}" if scope else name

"""What a person types and sees. Read it as the manual."""

from collections.abc import Callable

import pytest
from tests.unit.cli.conftest import Machine
from tests.unit.cli.fake_service import FakeService

pytestmark = pytest.mark.enable_socket  # a service on loopback, made for these tests


def test_the_first_day(machine: Machine, sign_in: Callable[..., tuple[int, str, str]]):
    machine.transcript(
        """
        $ jitctl vm ls
        jitctl: error: not signed in to any service
        jitctl: hint: jitctl login URL
        ? 3
        """
    )
    status, out, err = sign_in()
    assert (status, out) == (0, "")
    assert "as alice until" in err
    machine.transcript(
        """
        $ jitctl whoami
        name     alice
        groups   ops
        service  {URL} (profile default)
        factors  password ... (5 min ago), totp ... (5 min ago)
        until    ... (in ... h)
        key      SHA256:...

        $ jitctl vm ls
        NAME  LOGINS  LABELS    NOTE
        web1  ubuntu  env=prod  -

        $ jitctl vm ls --all
        NAME  LOGINS  LABELS    NOTE
        web1  ubuntu  env=prod  -
        db1   -       env=prod  not in group dba

        $ jitctl vm connect web1 --reason 'disk full, OPS-12' --print
        jitctl: granted by role ops-web: ubuntu on web1 until ... (in 60 min)
        jitctl: certificate 8812734 for ubuntu on web1 until ... (in 15 min)
        jitctl: added one line to .../config, so that plain ssh finds your hosts: Include .../jitctl/ssh_config
        ssh -F .../ssh_config -l ubuntu web1.default.jitgate

        $ jitctl vm connect ubuntu@web1 --print
        jitctl: grant by role ops-web runs: ubuntu on web1 until ... (in 60 min)
        ssh -F .../ssh_config -l ubuntu web1.default.jitgate

        $ jitctl vm connect ubuntu@web1 --reason 'looking around' --print
        jitctl: grant by role ops-web runs: ubuntu on web1 until ... (in 60 min)
        jitctl: the reason on record stays 'disk full, OPS-12'; for another: jitctl grants end ...
        ssh -F .../ssh_config -l ubuntu web1.default.jitgate

        $ jitctl vm connect db1
        jitctl: error: not in group dba
        jitctl: hint: be a member of group dba
        ? 4

        $ jitctl vm connect wbe1
        jitctl: error: no host 'wbe1'
        jitctl: hint: did you mean web1?
        ? 6

        $ jitctl grants ls
        ID                          TARGET       ROLE     UNTIL               REASON
        01J8Z0K3V4WQ2M5N6P7R8S9TGG  ubuntu@web1  ops-web  ... (in 60 min)  disk full, OPS-12

        $ jitctl cert show
        .../certs/web1.default.jitgate/01J8Z0K3V4WQ2M5N6P7R8S9TGG-cert.pub
        kind       for a user
        opens      ubuntu on web1
        time       valid until ... (in 15 min)
        may        a terminal
        may not    port forwarding, agent forwarding, X11 forwarding, ~/.ssh/rc
        key        SHA256:...
        signed by  SHA256:...
        serial     8812734
        key id     jitgate grant=01J8Z0K3V4WQ2M5N6P7R8S9TGG person=alice

        $ jitctl grants end 01J8Z0K3V4WQ2M5N6P7R8S9TGG
        jitctl: ended grant 01J8Z0K3V4WQ2M5N6P7R8S9TGG
        jitctl: certificate 77 is revoked; hosts without an agent take it until ... (in 15 min)

        $ jitctl cert show
        jitctl: there is no certificate here; jitctl vm connect gets one

        $ jitctl logout
        jitctl: signed out of {URL}

        $ jitctl whoami
        jitctl: error: not signed in to {URL}
        jitctl: hint: jitctl login {URL}
        ? 3
        """
    )


def test_explain(alice: Machine, service: FakeService):
    checks = [
        {"name": "person", "outcome": "failed", "why": "not in group dba", "hint": "be a member of group dba"},
        {"name": "host", "outcome": "passed", "why": "db1 has env=prod", "hint": ""},
    ]
    service.instead["GET /v1/explain"] = lambda query: (
        200,
        {
            "host": query["host"],
            "login": "postgres",
            "decision": "deny",
            "code": "no_role",
            "why": "not in group dba",
            "hint": "be a member of group dba",
            "role": "dba",
            "principals": [],
            "policy_digest": "ab12",
            "roles": [{"role": "dba", "effect": "allow", "matched": False, "checks": checks}],
        },
    )
    alice.transcript(
        """
        $ jitctl explain db1
        deny  postgres@db1: not in group dba
        be a member of group dba

        role dba does not apply
        failed  person: not in group dba
        be a member of group dba
        passed  host: db1 has env=prod

        policy ab12
        """
    )


def test_explain_says_ask_where_only_a_reason_is_missing(alice: Machine, service: FakeService):
    answer = {"host": "web1", "login": "ubuntu", "decision": "deny", "code": "reason_needed", "roles": []}
    answer |= {"why": "a reason is required", "hint": "say why you need it"}
    service.instead["GET /v1/explain"] = lambda _: (200, answer)
    alice.transcript(
        """
        $ jitctl explain web1
        ask  ubuntu@web1: a reason is required
        say why you need it
        """
    )


def test_grants_of_everybody_and_those_that_have_ended(alice: Machine, service: FakeService):
    ended = service.grant("web1", "ubuntu", "disk full")
    ended |= {"state": "ended", "end_reason": "by its person", "ended_at": ended["opened_at"]}
    service.granted.append(ended)
    alice.transcript(
        """
        $ jitctl grants ls --all --everybody
        ID                          PERSON  TARGET       ROLE     STATE                 UNTIL    REASON
        01J8Z0K3V4WQ2M5N6P7R8S9TGG  alice   ubuntu@web1  ops-web  ended: by its person  ... s ago  disk full
        """
    )


def test_an_empty_log_says_so(alice: Machine, service: FakeService):
    service.instead["GET /v1/audit"] = lambda _: (200, {"events": []})
    alice.transcript(
        """
        $ jitctl audit --host web1
        jitctl: nothing in the log fits, as far as you may read it
        """
    )


def test_keys(alice: Machine, service: FakeService, other_key: str):
    own = service.keys[0]
    row = {"id": "01J8Z0K3V4WQ2M5N6P7R8S9TKK", "fingerprint": own.fingerprint, "algorithm": "ssh-ed25519"}
    row |= {"comment": "alice@laptop", "added_at": "2026-01-01T00:00:00Z"}
    service.instead["GET /v1/keys"] = lambda _: (200, {"keys": [row]})
    alice.words["{KEY}"] = other_key
    alice.transcript(
        """
        $ jitctl keys ls
        ID                          FINGERPRINT  ADDED         COMMENT
        *  01J8Z0K3V4WQ2M5N6P7R8S9TKK  SHA256:...  ... days ago  alice@laptop

        $ jitctl keys add {KEY}
        jitctl: registered SHA256:...

        $ jitctl keys rm 01J8Z0K3V4WQ2M5N6P7R8S9TKK
        jitctl: error: remove key 01J8Z0K3V4WQ2M5N6P7R8S9TKK needs a yes
        jitctl: hint: add --yes
        ? 2

        $ jitctl keys rm 01J8Z0K3V4WQ2M5N6P7R8S9TKK --yes
        jitctl: removed key 01J8Z0K3V4WQ2M5N6P7R8S9TKK

        $ jitctl keys rm ../me
        jitctl: error: not an id: '../me'
        jitctl: hint: an id has 26 letters and digits, as in: jitctl keys ls
        ? 1
        """
    )


def test_wrong_calls(machine: Machine):
    machine.transcript(
        """
        $ jitctl vm conect
        jitctl: error: no such command 'conect'. Did you mean 'connect'?
        jitctl: hint: jitctl vm --help
        ? 2

        $ jitctl vm ls -o xml
        jitctl: error: invalid value for '-o' / '--output': 'xml' is not one of 'table', 'json', 'yaml'
        jitctl: hint: jitctl vm ls --help
        ? 2

        $ jitctl login http://jitgate.example.com
        jitctl: error: plain http only reaches this machine
        jitctl: hint: jitctl login https://jitgate.example.com
        ? 2

        $ jitctl login https://jitgate.example.com#sha256=12
        jitctl: error: not a fingerprint: 'sha256=12'
        jitctl: hint: the part after # is sha256= and 64 hexadecimal digits
        ? 2

        $ jitctl login https://127.0.0.1:1
        jitctl: error: https://127.0.0.1:1 cannot be reached: connection refused
        jitctl: hint: is the service running, and this machine online?
        ? 8

        $ jitctl vm ls --profile other
        jitctl: error: no profile 'other'
        jitctl: hint: jitctl login URL --name other
        ? 6

        $ jitctl cert show /nowhere
        jitctl: error: no such file: '/nowhere'
        ? 6

        $ jitctl audit --since yesterday
        jitctl: error: not a time: 'yesterday'
        jitctl: hint: like 30m, 2h, 7d, 2026-01-31 or 2026-01-31T08:00:00Z
        ? 2

        $ jitctl explain 'web1; rm -rf'
        jitctl: error: not a host name: 'web1; rm -rf'
        jitctl: hint: a host name has lower-case letters, digits, - and ., at most 63
        ? 2
        """
    )

"""`jitgate host trust` cut off at every step: nobody is ever locked out, and the next run of either kind finishes."""

from collections.abc import Callable, Iterator

import pytest
from tests.interop.trusting import (
    FAIL,
    KILL,
    TERMINATE,
    Tree,
    apply,
    keep,
    let_in_by_key,
    opens,
    restore,
    steps_taken,
    stumble,
    tree,
    trust_of,
    write,
)

from jitgate.agent.trust import HostTrust
from jitgate.app.local_sshd import LocalHost
from jitgate.ssh.private import generate_ed25519

OWNER = generate_ed25519()
NEVER = 1000


@pytest.fixture
def host(start_sshd: Callable[..., LocalHost]) -> LocalHost:
    host = start_sshd("web1", "ubuntu", "deploy")
    let_in_by_key(host, "ubuntu", OWNER)
    return host


def each_step(host: LocalHost, action: str, trust: HostTrust, *arguments: str) -> Iterator[int]:
    """Runs the script on the same etc again and again, each time one step further, until it gets through untouched.

    Step 1 makes the work folder, and failing there is made good by another try.
    """
    start = keep(host, "start")
    for at in range(1, NEVER):
        done = apply(host, trust, *arguments, environment=stumble(host, at, action))
        if steps_taken(host) < at:
            assert done.returncode == 0, done.stderr
            assert at > 5  # else it was not this script that ran
            return
        assert done.returncode != 0 or (at, action) == (1, FAIL)
        yield at
        restore(host, start)


def check_goes_on_from_here(host: LocalHost, trust: HostTrust, done: Tree, undone: Tree) -> None:
    """Nobody is locked out, by the sshd that runs or by one that reads its files now; both ways on lead to the end."""
    killed = keep(host, "killed")
    assert host.run_sshd("-t").returncode == 0
    assert opens(host, "ubuntu", key=OWNER)
    host.reload()
    assert opens(host, "ubuntu", key=OWNER)
    assert apply(host, trust).returncode == 0
    assert tree(host.etc) == done
    restore(host, killed)
    assert apply(host, trust, "--remove").returncode == 0
    assert tree(host.etc) == undone


def check_each_state(host: LocalHost, trust: HostTrust, arguments: tuple[str, ...], done: Tree, undone: Tree) -> int:
    """Kills the script at each step, and checks each state that it leaves, once; how many there were."""
    seen: list[Tree] = []
    for _ in each_step(host, KILL, trust, *arguments):
        state = tree(host.etc, without="jitgate.work")
        if state not in seen:
            seen.append(state)
            check_goes_on_from_here(host, trust, done, undone)
    return len(seen)


def test_killed_while_it_installs(host: LocalHost):
    undone, trust = tree(host.etc), trust_of(host, "ubuntu")
    done = finished(host, trust)
    assert check_each_state(host, trust, (), done, undone) > 7


def test_killed_while_it_updates(host: LocalHost):
    undone, new = tree(host.etc), trust_of(host, "deploy", user_ca=(OWNER.public,))
    done = finished(host, new)
    assert apply(host, trust_of(host)).returncode == 0
    assert check_each_state(host, new, (), done, undone) > 4


def test_killed_while_it_is_undone(host: LocalHost):
    (host.etc / "sshd_config.d").rmdir()
    undone, trust = tree(host.etc), trust_of(host)
    done = finished(host, trust)
    assert apply(host, trust).returncode == 0
    assert check_each_state(host, trust, ("--remove",), done, undone) > 3


def finished(host: LocalHost, trust: HostTrust, *arguments: str) -> Tree:
    """What etc is when all went well; it is put back as it was."""
    start = keep(host, "start")
    assert apply(host, trust, *arguments).returncode == 0
    done = tree(host.etc)
    restore(host, start)
    return done


@pytest.mark.parametrize("action", [FAIL, TERMINATE], ids=["a command fails", "a signal"])
def test_what_fails_while_it_installs_is_put_back(host: LocalHost, action: str):
    before, trust = tree(host.etc), trust_of(host, "ubuntu")
    for _ in each_step(host, action, trust):
        if tree(host.etc, without="jitgate.work") != before:  # only once sshd had been reloaded
            assert opens(host, "ubuntu", "ubuntu@host:web1")


def test_what_fails_while_it_updates_is_put_back(host: LocalHost):
    new = trust_of(host, "deploy", user_ca=(OWNER.public,))
    assert apply(host, trust_of(host)).returncode == 0
    before = tree(host.etc)
    for _ in each_step(host, FAIL, new):
        if tree(host.etc, without="jitgate.work") != before:
            assert opens(host, "deploy", "deploy@host:web1", ca=OWNER)
            assert (host.etc / "jitgate/principals/ubuntu").exists() is False


LYING_SSHD = """\
#!/bin/sh
# The real sshd, but once the drop-in is there, one login's settings are not what they should be; and just then somebody
# else reloads the sshd that runs.
case " $* " in
  *" -C user=deploy,"*) if [ -f {etc}/sshd_config.d/10-jitgate.conf ]; then shadow=yes; {reload}; fi ;;
esac
{sshd} "$@" | while IFS= read -r line; do
  case ${{shadow-}}$line in yesauthorizedprincipalsfile*) line='authorizedprincipalsfile none' ;; esac
  printf '%s\\n' "$line"
done
"""


def lying_sshd(host: LocalHost) -> str:
    path = host.etc.parent / "lying-sshd"
    path.write_text(LYING_SSHD.format(etc=host.etc, sshd=str(host.own_sshd()), reload=host.reload_command()))
    path.chmod(0o755)
    return str(path)


def test_settings_that_are_shadowed_are_put_back(host: LocalHost):
    before = tree(host.etc)
    done = apply(host, trust_of(host), sshd=lying_sshd(host))
    assert (done.returncode, tree(host.etc)) == (1, before)
    assert "not in force for deploy: AuthorizedPrincipalsFile" in done.stderr
    assert "undo     putting everything back" in done.stdout
    assert opens(host, "ubuntu", key=OWNER)


def test_a_revocation_list_that_was_missing_is_not_taken_away_again(host: LocalHost):
    trust = trust_of(host)
    apply(host, trust)
    (host.etc / "jitgate/krl").unlink()
    assert not opens(host, "ubuntu", key=OWNER)
    assert apply(host, trust, sshd=lying_sshd(host)).returncode == 1
    assert opens(host, "ubuntu", key=OWNER)


def test_settings_that_sshd_does_not_take_never_come_into_place(host: LocalHost):
    """An sshd that is too old for one of them, say."""
    before = tree(host.etc)
    path = host.etc.parent / "old-sshd"
    path.write_text(
        f'#!/bin/sh\ncase "$*" in "-t -f {host.etc}/jitgate.work"*) echo bad option; exit 1 ;; esac\n'
        f'exec {host.own_sshd()!s} "$@"\n'
    )
    path.chmod(0o755)
    done = apply(host, trust_of(host), sshd=str(path), reload="touch /nowhere/at/all")
    assert (done.returncode, tree(host.etc)) == (1, before)
    assert "does not accept the settings: bad option" in done.stderr
    assert "10-jitgate.conf" not in done.stdout


def test_a_reload_that_fails_leaves_all_that_sshd_may_have_read(host: LocalHost):
    before, trust = tree(host.etc), trust_of(host)
    done = apply(host, trust, reload="echo no such unit; exit 1")
    assert done.returncode == 1
    assert "not reloaded: no such unit" in done.stderr
    assert opens(host, "ubuntu", key=OWNER)
    assert apply(host, trust).stdout.splitlines()[-1].startswith("done     certificates of realm default open web1")
    done = apply(host, trust, "--remove", reload="exit 1")
    assert done.returncode == 1
    assert (host.etc / "jitgate/krl").exists()
    assert opens(host, "ubuntu", key=OWNER)
    assert apply(host, trust, "--remove").returncode == 0
    assert tree(host.etc) == before


def test_undoing_keeps_the_drop_in_where_sshd_would_not_start_without(host: LocalHost):
    trust = trust_of(host)
    apply(host, trust)
    write(host, "sshd_config.d/20-other.conf", "NoSuchThing yes\n")
    before = tree(host.etc)
    done = apply(host, trust, "--remove", reload="exit 1")
    assert (done.returncode, tree(host.etc)) == (1, before)
    assert "NoSuchThing" in done.stderr


def test_two_runs_at_once_exclude_each_other(host: LocalHost):
    trust = trust_of(host)
    (host.etc / "jitgate.work").mkdir()
    write(host, "jitgate.work/pid", f"{host.process.pid}\n")
    before = tree(host.etc)
    done = apply(host, trust)
    assert (done.returncode, tree(host.etc)) == (1, before)
    assert f"another run is at work, process {host.process.pid}" in done.stderr

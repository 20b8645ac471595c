"""What the signer remembers, and that nothing is signed that is not in the list."""

from collections.abc import Callable
from dataclasses import replace

import pytest
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from tests.unit.ca.samples import GRANT, NOW, RULES, WEB1, MemorySigner, finish, private, public
from tests.unit.ssh.made import Made, string
from tests.unit.ssh.raw import FOREVER, Raw, option, strings

from jitgate.adapters.custody.port import SigningKey
from jitgate.adapters.signers import desk as module
from jitgate.adapters.signers.desk import Desk
from jitgate.ca import signed
from jitgate.ca.model import SignedEntry, SignerRefusal, SignRequest
from jitgate.ca.shape import shape, shape_host
from jitgate.ca.signed import NOTHING, Summary, mark_line, parse_line
from jitgate.core.clock import MINUTE, SECOND
from jitgate.core.errors import Unsafe
from jitgate.ssh.cert import to_be_signed
from jitgate.ssh.private import SoftwareKey

ALL = {name: private(name) for name in [*RULES.files(), *RULES.other_files()]}
SPEC = shape(GRANT, WEB1, public("laptop"), public("user"), NOW)
HOST = shape_host("default", "web1", "web1.default.jitgate", public("sshd"), public("host"), NOW)


def order(serial: int) -> SignRequest:
    return SignRequest("default", to_be_signed(SPEC.body(serial), bytes(32)))


def codes(signer: MemorySigner, *serials: int) -> list[str]:
    results = finish(signer.sign([order(serial) for serial in serials]))
    return [result.code if isinstance(result, SignerRefusal) else "signed" for result in results]


def test_serials_of_one_run_may_come_in_any_order_but_once():
    assert codes(MemorySigner(), 5, 3, 4, 3, 5, 6) == ["signed", "signed", "signed", "serial", "serial", "signed"]


def test_a_file_that_is_replaced_again_and_again_keeps_few_keys():
    desk = MemorySigner().desk
    for number in range(module.KEPT_MAX):
        desk.hold("user", private(f"next {number}"))
    with pytest.raises(Unsafe, match="was replaced"):
        desk.hold("user", private("one more"))
    assert desk.let_go("user")
    assert not desk.let_go("user")
    desk.hold("user", private("one more"))
    assert [each.key for each in desk.keys().authorities if each.file == "user"] == [public("one more")]


@pytest.mark.parametrize("file", ["other", "log", "user.pub", "user-2.pub"])
def test_a_file_that_no_table_means_is_not_held(file):
    with pytest.raises(Unsafe, match="no table"):
        MemorySigner().desk.hold(file, private("stranger"))


def test_serials_of_user_and_host_keys_are_counted_apart():
    signer = MemorySigner()
    assert codes(signer, 5) == ["signed"]
    (result,) = finish(signer.sign([SignRequest("default", to_be_signed(HOST.body(5), bytes(32)))]))
    assert isinstance(result, bytes)


def test_after_a_restart_only_serials_above_all_listed_ones_are_signed():
    before = MemorySigner()
    assert codes(before, 5, 9, 7) == ["signed"] * 3
    after = MemorySigner(lines=before.lines)
    assert codes(after, 5, 8, 9, 10) == ["serial", "serial", "serial", "signed"]
    again = MemorySigner(lines=after.lines[-2:])  # the mark of the second start stands for all before it
    assert codes(again, 10, 11) == ["serial", "signed"]


def test_what_is_remembered_is_bounded_and_forgets_nothing_into_use(monkeypatch):
    monkeypatch.setattr(module, "SERIALS_KEPT", 10)
    signer = MemorySigner()
    assert set(codes(signer, *range(1, 31))) == {"signed"}
    assert set(codes(signer, *range(1, 31))) == {"serial"}
    (held, _) = signer.desk._held.values()
    assert len(held.seen) <= 10


def test_a_key_that_is_out_of_use_keeps_its_mark():
    before = MemorySigner()
    codes(before, 9)
    other = replace(RULES, ceilings=(replace(RULES.ceilings[0], keys=("user-2",)), RULES.ceilings[1]))
    between = MemorySigner(other, lines=before.lines)
    assert codes(MemorySigner(lines=between.lines[-1:]), 9, 10) == ["serial", "signed"]


def test_a_mark_is_written_every_so_many_lines(monkeypatch):
    monkeypatch.setattr(module, "MARK_EVERY", 4)
    signer = MemorySigner()
    for serial in range(1, 10):
        codes(signer, serial)
    marks = [each for each in map(parse_line, signer.lines) if isinstance(each, Summary)]
    assert [mark.serials[public("user").fingerprint] for mark in marks] == [0, 4, 8]
    assert signed.MARK_EVERY > 1000


def test_nothing_is_signed_when_the_list_cannot_be_written():
    uses: list[bytes] = []

    class Watched(SoftwareKey):
        def sign(self, data: bytes) -> bytes:
            uses.append(data)
            return super().sign(data)

    def full(lines: list[bytes]) -> None:
        if any(isinstance(parse_line(line), SignedEntry) for line in lines) or len(uses) > 1:
            raise OSError(28, "No space left on device")

    keys = {name: Watched(private(name)._private) for name in ALL}
    desk = Desk(RULES, keys, NOTHING, full, clock=lambda: NOW, tick=lambda: NOW)
    with pytest.raises(OSError, match="No space"):
        desk.sign([order(1)])
    assert uses == []


RAW = Raw(
    Made(public("user"), private("user").sign),
    subject=string(public("laptop").blob[-32:]),
    key_id=b"jitgate grant=" + GRANT.id.encode() + b" person=alice",
    principals=strings(b"ubuntu@host:web1"),
    after=NOW // SECOND,
    before=NOW // SECOND + 60,
)
NEVER = {
    "no principal": RAW.but(principals=b""),
    "an empty principal": RAW.but(principals=strings(b"")),
    "a list in one principal": RAW.but(principals=strings(b"ubuntu@host:web1,root@host:web1")),
    "every login": RAW.but(principals=strings(b"*@host:web1")),
    "a control character": RAW.but(principals=strings(b"ubuntu@host:web1\n")),
    "the same principal twice": RAW.but(principals=strings(b"ubuntu@host:web1", b"ubuntu@host:web1")),
    "for ever": RAW.but(before=FOREVER),
    "no serial": RAW.but(serial=0),
    "an unknown critical option": RAW.but(critical=option(b"open-sesame", b"x")),
    "a certificate as the key": RAW.but(kind=b"ssh-dss-cert-v01@openssh.com"),
    "something behind the end": RAW.but(tail=b"\0"),
    "something behind an option's value": RAW.but(critical=option(b"force-command", b"uptime", b"more")),
    "a flag with an empty value": RAW.but(extensions=option(b"permit-pty", b"")),
    "a nonce that says nothing": RAW.but(nonce=b""),
}


@pytest.mark.parametrize("raw", NEVER.values(), ids=NEVER)
def test_what_no_certificate_may_say_is_refused_by_the_signer_too(raw):
    """Bytes that our own codec would not write, as a service that somebody took over would send them."""
    signer = MemorySigner()
    listed = len(signer.lines)
    sound, wrong = finish(
        signer.sign([SignRequest("default", RAW.tbs()), SignRequest("default", raw.but(serial=raw.serial * 2).tbs())])
    )
    assert isinstance(sound, bytes)
    assert isinstance(wrong, SignerRefusal)
    assert wrong.code == "malformed"
    assert len(signer.lines) == listed + 1


def test_a_list_that_cannot_be_written_shows_at_the_start():
    def full(lines: list[bytes]) -> None:
        raise OSError(28, f"No space left for {len(lines)} lines")

    with pytest.raises(OSError, match="No space"):
        Desk(RULES, ALL, NOTHING, full, clock=lambda: NOW, tick=lambda: 0)


def test_the_list_is_written_before_the_signature():
    signer = MemorySigner()
    codes(signer, 5)
    last = parse_line(signer.lines[-1])
    assert isinstance(last, SignedEntry)
    assert last.serial == 5


class Faulty:
    """A key whose second signature is made wrongly, as a fault of memory or processor would."""

    def __init__(self, wrong: Callable[[bytes], bytes]) -> None:
        self.public, self._wrong, self._signed = public("user"), wrong, 0

    def sign(self, data: bytes) -> bytes:
        self._signed += 1
        return self._wrong(data) if self._signed == 2 else private("user").sign(data)


@pytest.mark.parametrize(
    "wrong",
    [
        lambda _: private("user").sign(b"something else"),
        lambda data: private("host").sign(data),
        lambda data: private("user").sign(data)[:-1] + b"\0",
        lambda data: private("user").sign(data) + b"\0",
        lambda _: b"",
    ],
    ids=["other bytes", "another key", "a wrong bit", "more bytes", "nothing"],
)
def test_a_signature_that_does_not_hold_does_not_leave(wrong):
    keys: dict[str, SigningKey] = {**ALL, "user": Faulty(wrong)}
    desk = Desk(RULES, keys, NOTHING, lambda _: None, clock=lambda: NOW, tick=lambda: 0)
    first, second, third = desk.sign([order(1), order(2), order(3)])
    assert isinstance(second, SignerRefusal)
    assert second.code == "custody"
    for request, signature in ((order(1), first), (order(3), third)):
        assert isinstance(signature, bytes)
        public("user").verify(signature, request.tbs)


def test_a_rate_is_kept_for_each_key_and_burns_no_serial():
    ceilings = tuple(replace(each, burst=2, rate_per_minute=1) for each in RULES.ceilings)
    signer = MemorySigner(replace(RULES, ceilings=ceilings))
    assert codes(signer, 1, 2, 3, 4) == ["signed", "signed", "rate", "rate"]
    (result,) = finish(signer.sign([SignRequest("default", to_be_signed(HOST.body(5), bytes(32)))]))
    assert isinstance(result, bytes)
    listed = [each for each in map(parse_line, signer.lines) if isinstance(each, SignedEntry)]
    assert len(listed) == 3


@pytest.mark.parametrize("marked", [True, False])
def test_a_rate_outlives_the_process(marked):
    """Who can end the signer would else have the whole burst again, and again."""
    rules = replace(RULES, ceilings=tuple(replace(each, burst=3, rate_per_minute=1) for each in RULES.ceilings))
    first = MemorySigner(rules)
    assert codes(first, 1, 2) == ["signed", "signed"]
    if marked:
        first.lines.append(first.desk._mark())
    second = MemorySigner(rules, lines=first.lines)
    assert codes(second, 3, 4) == ["signed", "rate"]
    third = MemorySigner(rules, lines=second.lines)
    assert codes(third, 5) == ["rate"]
    later = MemorySigner(rules, lines=third.lines, clock=lambda: NOW + MINUTE)
    assert codes(later, 6, 7) == ["signed", "rate"]


def test_a_key_that_is_let_go_and_held_again_has_no_new_burst():
    rules = replace(RULES, ceilings=tuple(replace(each, burst=2, rate_per_minute=1) for each in RULES.ceilings))
    signer = MemorySigner(rules)
    assert codes(signer, 1, 2) == ["signed", "signed"]
    signer.desk.let_go("user")
    signer.desk.hold("user", private("user"))
    assert codes(signer, 3) == ["rate"]


def test_a_clock_that_was_set_back_costs_no_more_than_the_burst():
    rules = replace(RULES, ceilings=tuple(replace(each, burst=2, rate_per_minute=1) for each in RULES.ceilings))
    first = MemorySigner(rules, lines=[mark_line(Summary({}, None, {public("user").fingerprint: 10 * NOW}), NOW)])
    assert codes(first, 1) == ["rate"]
    later = MemorySigner(rules, lines=first.lines, clock=lambda: NOW + MINUTE)
    assert codes(later, 2) == ["signed"]


@pytest.mark.parametrize("other", ["host", *RULES.other_files()])
def test_one_key_for_two_things_is_refused(other):
    with pytest.raises(Unsafe, match="same key"):
        Desk(RULES, ALL | {"user": private(other)}, NOTHING, lambda _: None, clock=lambda: NOW, tick=lambda: NOW)
    with pytest.raises(Unsafe, match="same key"):
        MemorySigner().desk.hold("user", private(other))


def test_a_log_key_of_another_kind_is_refused():
    keys = {"user": private("user"), "host": private("host"), "log": SoftwareKey(generate_private_key(SECP256R1()))}
    with pytest.raises(Unsafe, match="ed25519"):
        Desk(RULES, keys, NOTHING, lambda _: None, clock=lambda: NOW, tick=lambda: NOW)

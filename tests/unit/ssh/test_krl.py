"""Revocation lists: what they mean, what they take in bytes, and what is refused."""

import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.ssh.krls import CAS, KEYS, krls, ranges
from tests.unit.ssh.made import string

from jitgate.ssh import krl
from jitgate.ssh.krl import Certificates, Krl, dump_krl, merge, parse_krl
from jitgate.ssh.krl_serials import BITMAP, LIST, RANGE, RANGES_MAX, Serials, put_serials, read_serials
from jitgate.ssh.wire import FormatError

CA = CAS[0]


def head(form: int = 1) -> bytes:
    """Written here again, so that the codec's own writer is not its judge."""
    return b"SSHKRL\n\0" + struct.pack(">IQQQ", form, 7, 8, 0) + string(b"") + string(b"by hand")


def section(kind: int, data: bytes) -> bytes:
    return bytes([kind]) + string(data)


def of_ca(*subsections: tuple[int, bytes], ca: bytes = CA) -> bytes:
    return section(1, string(ca) + string(b"") + b"".join(section(*each) for each in subsections))


def numbers(*values: int) -> bytes:
    return struct.pack(f">{len(values)}Q", *values)


# Sets of serials


@given(st.lists(st.tuples(st.integers(1, 60), st.integers(0, 9)), max_size=12), st.integers(0, 80))
def test_a_set_holds_what_its_ranges_hold_in_any_order(some, asked):
    given_ = [(first, first + more) for first, more in some]
    found, wanted = Serials(given_), {n for first, last in given_ for n in range(first, last + 1)}
    assert (asked in found) == (asked in wanted)
    assert {n for first, last in found for n in range(first, last + 1)} == wanted
    edges = [edge for pair in found for edge in pair]
    assert all(b > a + 1 for a, b in zip(edges[1::2], edges[2::2], strict=False))  # joined, and in order


@given(ranges)
def test_what_is_written_is_the_same_set(some):
    serials = Serials(some)
    again = Serials(run for kind, data in put_serials(serials) for run in read_serials(kind, data))
    assert again == serials


@given(ranges)
def test_no_form_alone_is_shorter(some):
    """But for what a section costs, where neighbours are torn apart."""
    serials = Serials(some)
    if not serials:
        return
    chosen = [5 + len(data) for _, data in put_serials(serials)]
    lists = 5 + sum(8 * (last - first + 1) for first, last in serials)
    assert sum(chosen) <= min(lists, 21 * len(list(serials))) + 5
    assert all(len(data) <= 8 + 4 + 2049 for kind, data in put_serials(serials) if kind == BITMAP)


def every_other(first: int, count: int) -> list[tuple[int, int]]:
    return [(serial, serial) for serial in range(first, first + 2 * count, 2)]


@pytest.mark.parametrize("last", range(16_380, 16_400))
def test_a_bitmap_is_never_longer_than_sshd_takes(last: int):
    serials = Serials([*every_other(1, 8180), (last, last)])
    written = list(put_serials(serials))
    assert Serials(run for kind, data in written for run in read_serials(kind, data)) == serials


@pytest.mark.parametrize(
    ("some", "most"),
    [
        pytest.param([*every_other(1, 500), (1002, 13_000), *every_other(13_002, 500)], 480, id="a run in a crowd"),
        pytest.param([*every_other(1, 50), *every_other(9000, 50)], 230, id="two crowds"),
        pytest.param([(10, 1_000_009)], 150, id="one run"),
        pytest.param([(n, n) for n in range(10, 2_000_010, 2)], 260_000, id="every other one"),
        pytest.param([(n * 997, n * 997) for n in range(1, 1_000_001)], 8_000_200, id="far apart"),
    ],
)
def test_a_million_serials(some, most):
    written = dump_krl(Krl(certificates={CA: Certificates(Serials(some))}))
    assert len(written) <= most
    assert parse_krl(written).certificates[CA].serials == Serials(some)


def test_more_ranges_than_we_keep():
    """A file of bitmaps asks for a thousand times its own size."""
    bitmap = string(b"\x55" * 2048)
    data = head() + of_ca(*((BITMAP, numbers(1 + at * 20_000) + bitmap) for at in range(RANGES_MAX // 8192 + 1)))
    assert len(data) < 1_000_000
    with pytest.raises(FormatError, match="ranges of serials"):
        parse_krl(data)


# Lists


@settings(max_examples=200)
@given(krls())
def test_what_is_written_is_read_again(krl):
    assert parse_krl(dump_krl(krl)) == krl


@given(krls(), krls(), st.sampled_from(KEYS), st.sampled_from([*CAS, KEYS[3]]), st.integers(0, 400))
def test_joined_lists_revoke_what_either_does(one, other, key, ca, serial):
    joined = parse_krl(merge([dump_krl(one), dump_krl(other)], version=3, generated=4))
    ids = [i for krl in (one, other) for found in krl.certificates.values() for i in found.key_ids] or [b"x"]
    for key_id in ids:
        asked = (key, ca, serial, key_id)
        assert joined.has_certificate(*asked) == (one.has_certificate(*asked) or other.has_certificate(*asked))
    assert joined.has_key(key) == (one.has_key(key) or other.has_key(key))
    assert joined.extensions == one.extensions + other.extensions


def test_joined_lists_keep_every_section_as_it_stood():
    """Not in our order, twice, and in forms that we would not choose."""
    odd = of_ca((LIST, numbers(9, 3, 3)), (BITMAP, numbers(1) + string(b"\0\0\x05"))) + section(2, string(KEYS[0]))
    own = dump_krl(Krl(keys=frozenset([KEYS[1]])))
    joined = merge([head() + odd + odd, own], version=3, generated=4, comment=b"joined")
    assert joined.startswith(b"SSHKRL\n\0" + struct.pack(">IQQQ", 1, 3, 4, 0) + string(b"") + string(b"joined"))
    assert joined.endswith(odd + odd + section(2, string(KEYS[1])))


def test_lists_that_are_too_long(monkeypatch: pytest.MonkeyPatch):
    data = dump_krl(Krl(keys=frozenset(KEYS[:2])))
    monkeypatch.setattr(krl, "MAX_KRL", len(data))
    assert parse_krl(data).keys
    with pytest.raises(FormatError, match="more than"):
        parse_krl(data + b"\x02" + string(b""))
    with pytest.raises(FormatError, match="together"):
        merge([data, data], version=1, generated=1)


def test_a_signature_is_no_part_of_the_meaning():
    signed = head() + of_ca((LIST, numbers(5))) + section(4, string(CA)) + section(4, b"anything")
    assert parse_krl(signed).has_certificate(KEYS[0], CA, 5, b"")
    assert b"anything" not in merge([signed], version=1, generated=1)


def test_what_sshd_means():
    found = {CA: Certificates(Serials([(5, 7)]), frozenset([b"one"])), b"": Certificates(key_ids=frozenset([b"all"]))}
    krl = Krl(certificates=found, keys=frozenset([KEYS[1], CAS[1]]))
    assert krl.has_certificate(KEYS[0], CA, 6, b"")
    assert krl.has_certificate(KEYS[0], CA, 0, b"one")
    assert krl.has_certificate(KEYS[0], KEYS[2], 0, b"all")
    assert krl.has_certificate(KEYS[1], KEYS[2], 1, b"")  # a key takes its certificates with it
    assert krl.has_certificate(KEYS[0], CAS[1], 1, b"")  # and an authority all that it signed
    assert not krl.has_certificate(KEYS[0], CA, 8, b"One")
    assert not krl.has_certificate(KEYS[0], KEYS[2], 6, b"one")


def test_no_authority_stands_for_all():
    everything = Krl(certificates={b"": Certificates(Serials([(1, 2**64 - 1)]))})
    assert everything.has_certificate(KEYS[0], CA, 1, b"")
    assert not everything.has_certificate(KEYS[0], CA, 0, b"")  # which nothing can name


REFUSED = {
    "nothing": b"",
    "a text": b"ssh-ed25519 AAAA\n",
    "another form": head(2),
    "cut": head()[:-1],
    "a section that is cut": head() + section(2, string(KEYS[0]))[:-1],
    "an unknown section": head() + section(6, b""),
    "an unknown subsection": head() + of_ca((0x24, b"")),
    "serial 0": head() + of_ca((LIST, numbers(0))),
    "serial 0 in a range": head() + of_ca((RANGE, numbers(0, 9))),
    "serial 0 in a bitmap": head() + of_ca((BITMAP, numbers(0) + string(b"\x01"))),
    "a range that runs backwards": head() + of_ca((RANGE, numbers(9, 8))),
    "two ranges in one": head() + of_ca((RANGE, numbers(1, 2, 3, 4))),
    "half a serial": head() + of_ca((LIST, numbers(5)[:-1])),
    "a bitmap past the last serial": head() + of_ca((BITMAP, numbers(2**64 - 1) + string(b"\x03"))),
    "a negative bitmap": head() + of_ca((BITMAP, numbers(1) + string(b"\x80"))),
    "a long bitmap": head() + of_ca((BITMAP, numbers(1) + string(b"\x01" + b"\0" * 2048))),
    "something behind a bitmap": head() + of_ca((BITMAP, numbers(1) + string(b"\x01") + b"\0")),
    "a short fingerprint": head() + section(5, string(b"1" * 31)),
    "a key id with a zero byte": head() + of_ca((0x23, string(b"a\0b"))),
    "a critical extension": head() + section(255, string(b"x@y") + b"\1" + string(b"")),
    "a critical extension of an authority": head() + of_ca((0x39, string(b"x@y") + b"\1" + string(b""))),
    "something behind an extension": head() + section(255, string(b"x@y") + b"\0" + string(b"") + b"\0"),
    "an authority that is none": head() + of_ca((LIST, numbers(5)), ca=b"abc"),
}


@pytest.mark.parametrize("data", REFUSED.values(), ids=REFUSED)
def test_lists_that_are_refused(data):
    with pytest.raises(FormatError):
        parse_krl(data)
    with pytest.raises(FormatError):
        merge([dump_krl(Krl()), data], version=1, generated=1)

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jitgate.ssh.wire import (
    FormatError,
    Reader,
    from_base64,
    put_mpint,
    put_string,
    put_uint32,
    put_uint64,
    split_line,
    to_base64,
)


@given(
    st.integers(0, 2**32 - 1), st.integers(0, 2**64 - 1), st.binary(max_size=99), st.text(max_size=50), st.integers(0)
)
def test_what_is_put_is_read(small, large, data, text, number):
    reader = Reader(put_uint32(small) + put_uint64(large) + put_string(data) + put_string(text) + put_mpint(number))
    assert (reader.uint32(), reader.uint64(), reader.string(), reader.text(), reader.mpint()) == (
        small,
        large,
        data,
        text,
        number,
    )
    reader.end()


@pytest.mark.parametrize(
    ("number", "encoded"),
    [  # RFC 4251 section 5
        (0, "00000000"),
        (0x9A378F9B2E332A7, "0000000809a378f9b2e332a7"),
        (0x80, "000000020080"),
        (0x7FFF, "000000027fff"),
        (0x8000, "00000003008000"),
    ],
)
def test_numbers_as_the_rfc_shows_them(number, encoded):
    assert put_mpint(number).hex() == encoded
    assert Reader(bytes.fromhex(encoded)).mpint() == number


@pytest.mark.parametrize(
    "encoded",
    [
        "00000002edcc",  # negative: RFC 4251's own -1234
        "0000000100",  # zero with a byte
        "00000002007f",  # a zero byte too many
        "000000030000ff",
        "0000000501",  # shorter than it says
        "ffffffff",
        "0000",
    ],
)
def test_numbers_in_another_form_are_refused(encoded):
    with pytest.raises(FormatError):
        Reader(bytes.fromhex(encoded)).mpint()


def test_a_string_over_its_limit_is_refused_before_it_is_read():
    with pytest.raises(FormatError, match="more than 3"):
        Reader(b"\x00\x00\x00\x04abcd").string(3)


def test_what_is_left_over_is_refused():
    reader = Reader(b"\x01\x00")
    assert reader.boolean()
    assert reader.more
    with pytest.raises(FormatError, match="1 bytes"):
        reader.end()
    assert reader.rest() == b"\x00"
    reader.end()


def test_a_refused_read_takes_nothing():
    reader = Reader(b"\x07")
    with pytest.raises(FormatError):
        reader.uint32()
    assert reader.byte() == 7


def test_text_is_utf8_and_a_boolean_is_0_or_1():
    with pytest.raises(FormatError):
        Reader(put_string(b"\xc0\xaf")).text()  # an overlong slash
    with pytest.raises(FormatError):
        Reader(b"\x02").boolean()


@given(st.binary(max_size=200))
def test_base64_has_one_form(data):
    assert from_base64(to_base64(data), 200) == data


@pytest.mark.parametrize("text", ["QQ", "QQ=", "QR==", "QQ==\n", " QQ==", "QQ==QQ==", "Q-_=", "QQ==="])
def test_base64_in_another_form_is_refused(text):
    with pytest.raises(FormatError):
        from_base64(text, 10)


@pytest.mark.parametrize("limit", [9, 10, 11])
def test_base64_over_its_limit_is_refused(limit):
    assert from_base64(to_base64(bytes(limit)), limit) == bytes(limit)
    with pytest.raises(FormatError, match="too many"):
        from_base64(to_base64(bytes(12)) + "AAAA", limit)
    with pytest.raises(FormatError, match="too many"):
        from_base64("=" * 20, limit)


@pytest.mark.parametrize(
    "line",
    ["", "ssh-ed25519", "ssh-ed25519 ", "ssh-ed25519 AA\nssh-ed25519 AA", "ssh-ed25519\tAA", "a b c\x1b[2J", "a b\r\n"],
)
def test_what_is_no_key_line_is_refused(line):
    with pytest.raises(FormatError):
        split_line(line)


def test_a_private_key_is_named_as_such():
    with pytest.raises(FormatError, match="private key") as caught:
        split_line("-----BEGIN OPENSSH PRIVATE KEY-----")
    assert ".pub" in caught.value.hint

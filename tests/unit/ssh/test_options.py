import pytest
from tests.unit.ssh.made import made, string
from tests.unit.ssh.raw import option, sound, subject
from tests.unit.ssh.test_cert import body, signed

from jitgate.ssh.cert import CertType, parse_certificate
from jitgate.ssh.options import USER_EXTENSIONS
from jitgate.ssh.pubkey import Algorithm
from jitgate.ssh.wire import FormatError

# 4096 characters, as long as a value may be
_NETWORKS = [f"10.{100 + i % 155}.{i // 155}.0/24" for i in range(291)]
LONGEST = ",".join([*_NETWORKS, "10.0.0.0/24", "9.0.0.0/24"])


def test_every_option_is_kept():
    assert len(LONGEST) == 4096
    full = body(
        key=made(Algorithm.SK_ED25519).public,
        critical_options=(("force-command", "a"), ("source-address", "192.0.2.1/32"), ("verify-required", "")),
        extensions=tuple((name, "") for name in sorted(USER_EXTENSIONS)),
    )
    assert parse_certificate(signed(full).blob).body == full


@pytest.mark.parametrize(
    "critical",
    [
        (("permit-pty", ""),),
        (("unknown", ""),),
        (("unknown@example.org", "x"),),
        (("Force-Command", "x"),),
        (("force-command\x00", "x"),),
        (("", ""),),
        (("force-command", ""),),
        (("force-command", "   "),),
        (("force-command", "a\nb"),),
        (("force-command", "a\x1b[2J"),),
        (("force-command", "a\u202eb"),),
        (("force-command", "a" * 4097),),
        (("force-command", "é" * 2049),),
        (("force-command", "a"), ("force-command", "a")),
        (("force-command", "a"), ("force-command", "b")),
        (("source-address", "192.0.2.0/24"), ("force-command", "a")),
        (("verify-required", "yes"),),
        (("verify-required", ""),),  # on a key that would not obey it
    ],
    ids=str,
)
def test_critical_options_that_are_refused(critical):
    with pytest.raises(FormatError):
        body(critical_options=critical)
    raw = b"".join(option(name.encode(), *([value.encode()] if value else [])) for name, value in critical)
    with pytest.raises(FormatError):
        parse_certificate(sound().but(critical=raw).blob())


@pytest.mark.parametrize("value", ["a" * 4096, "echo 'a b' | cat; exit 3", "grüße", "internal-sftp -R"])
def test_commands_that_are_taken(value):
    full = body(critical_options=(("force-command", value),))
    assert parse_certificate(signed(full).blob).body == full


@pytest.mark.parametrize(
    "networks",
    [
        "192.0.2.0/24",
        "192.0.2.7/32",
        "0.0.0.0/0",
        "2001:db8::/32",
        "2001:db8::1/128",
        "10.0.0.0/8,192.0.2.0/24,2001:db8::/32",
        LONGEST,
    ],
    ids=lambda text: text[:40],
)
def test_networks_that_are_taken(networks):
    full = body(critical_options=(("source-address", networks),))
    assert parse_certificate(signed(full).blob).body == full


@pytest.mark.parametrize(
    "networks",
    [
        "",
        "192.0.2.1/24",  # host bits: sshd refuses the whole certificate
        "2001:db8::1/32",
        "192.0.2.1",  # one form only, with its length
        "192.0.2.0/255.255.255.0",
        "192.0.2.0/024",
        "192.0.02.0/24",
        "192.0.2.0/33",
        "192.0.2.0/-1",
        "2001:DB8::/32",
        "2001:db8:0::/32",
        "fe80::1%eth0/128",
        "::ffff:192.0.2.0/120",
        "::ffff:c000:200/120",
        "192.0.2.0/24,",
        ",192.0.2.0/24",
        "192.0.2.0/24,,10.0.0.0/8",
        "192.0.2.0/24, 10.0.0.0/8",
        "192.0.2.0/24 10.0.0.0/8",
        "192.0.2.0/24,192.0.2.0/24",
        "!192.0.2.0/24",
        "*",
        "localhost",
        "3221225984/32",
        "0/0",
        "192.0.2.0/24\n",
        LONGEST.replace(",9.", ",19."),
    ],
    ids=lambda text: ascii(text)[:40],
)
def test_networks_that_are_refused(networks):
    with pytest.raises(FormatError, match="source-address is not a list of networks"):
        body(critical_options=(("source-address", networks),))


@pytest.mark.parametrize(
    "extensions",
    [
        (("permit-pty", "yes"),),
        (("permit-x11-forwarding", ""),),
        (("force-command", "x"),),
        (("permit-everything", ""),),
        (("@example.org", ""),),
        (("a@", ""),),
        (("a b@example.org", ""),),
        (("A@example.org", ""),),
        (("a@example.org", "x\ny"),),
        (("a@example.org", "x" * 4097),),
        (("a" * 64 + "@example.org", ""),),
        (("a@" + "b" * 64, ""),),
        (("permit-pty", ""), ("permit-pty", "")),
        (("permit-user-rc", ""), ("permit-pty", "")),
        (("no-touch-required", ""),),  # on a key that nobody touches
        tuple((f"{i:02}@example.org", "") for i in range(33)),
    ],
    ids=lambda e: str(e)[:50],
)
def test_extensions_that_are_refused(extensions):
    with pytest.raises(FormatError):
        body(extensions=extensions)
    raw = b"".join(option(name.encode(), *([value.encode()] if value else [])) for name, value in extensions)
    with pytest.raises(FormatError):
        parse_certificate(sound().but(extensions=raw).blob())


def test_extensions_of_ones_own_are_taken_up_to_their_limits():
    full = body(
        extensions=(
            *((f"{i:02}@example.org", "") for i in range(30)),
            ("a" * 63 + "@" + "b" * 63, "x" * 4096),
            ("grant@example.org", "01J é"),
        )
    )
    assert parse_certificate(signed(full).blob).body == full


@pytest.mark.parametrize("name", ["no-touch-required", "verify-required"])
def test_what_only_a_security_key_obeys_is_for_security_keys(name):
    where = "critical_options" if name == "verify-required" else "extensions"
    with pytest.raises(FormatError, match="no effect"):
        body(**{where: ((name, ""),)})
    for algorithm in (Algorithm.SK_ED25519, Algorithm.SK_ECDSA_256):
        body(key=made(algorithm).public, **{where: ((name, ""),)})


def test_a_host_certificate_has_no_options_that_are_for_users():
    host = {"type": CertType.HOST, "principals": ("web1.example.org",)}
    for critical in ("force-command", "source-address", "verify-required"):
        with pytest.raises(FormatError, match="not a critical option"):
            body(**host, key=made(Algorithm.SK_ED25519).public, critical_options=((critical, "192.0.2.0/24"),))
    for name in USER_EXTENSIONS:
        with pytest.raises(FormatError, match="not an extension"):
            body(**host, key=made(Algorithm.SK_ED25519).public, extensions=((name, ""),))
    body(**host, extensions=(("epoch@example.org", "7"),))


@pytest.mark.parametrize(
    "critical",
    [
        string(b"force-command") + string(b"uptime"),  # CVE-2023-38325: the bare value, as ssh-keygen never writes it
        string(b"force-command") + string(b""),  # a flag where a value belongs
        string(b"force-command") + string(string(b"")),
        string(b"force-command") + string(string(b"a") + string(b"b")),
        string(b"force-command") + string(string(b"a") + b"\x00"),
        string(b"force-command") + string(string(b"\xff")),
        string(b"force-command"),
        string(b"force-command") + b"\x00\x00",
        string(b"verify-required") + string(string(b"")),
        option(b"force-command", b"a") * 2,
        option(b"source-address", b"192.0.2.0/24") + option(b"force-command", b"a"),
    ],
    ids=lambda data: data.hex()[:60],
)
def test_option_bytes_in_another_form_are_refused(critical):
    raw = sound().but(critical=critical, **subject(Algorithm.SK_ED25519))
    with pytest.raises(FormatError):
        parse_certificate(raw.blob())


@pytest.mark.parametrize(
    "extensions",
    [
        string(b"permit-pty") + string(string(b"")),  # a flag with an empty value inside
        string(b"permit-pty") + string(b"x"),
        string(b"a@example.org") + string(string(b"")),
        string(b"aaa@x") + string(b"permit-pty") + string(b"") + string(b""),  # what one library reads as permit-pty
        option(b"permit-pty") * 2,
    ],
    ids=lambda data: data.hex()[:60],
)
def test_extension_bytes_in_another_form_are_refused(extensions):
    with pytest.raises(FormatError):
        parse_certificate(sound().but(extensions=extensions).blob())


def test_no_more_options_are_read_than_are_taken():
    many = [option(b"%05d@x" % i) for i in range(2000)]
    assert len(parse_certificate(sound().but(extensions=b"".join(many[:32])).blob()).body.extensions) == 32
    for extensions in (many, many[:33]):
        with pytest.raises(FormatError, match="to read than 32"):
            parse_certificate(sound().but(extensions=b"".join(extensions)).blob())
    with pytest.raises(FormatError, match="has 33 options"):
        body(extensions=tuple((f"{i:05}@x", "") for i in range(33)))

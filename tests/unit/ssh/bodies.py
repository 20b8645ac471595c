"""Any certificate that we could make, for property tests."""

import ipaddress
from functools import cache

from hypothesis import strategies as st
from tests.unit.ssh.made import Made, made

from jitgate.ssh.cert import LAST_SECOND, CertificateBody, CertType
from jitgate.ssh.options import USER_EXTENSIONS
from jitgate.ssh.pubkey import Algorithm

_FIRST = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_"
_PRINTABLE = st.characters(min_codepoint=0x20, max_codepoint=0x7E)

principals = st.builds(
    str.__add__,
    st.sampled_from(_FIRST),
    st.text(st.sampled_from(_FIRST + ".@+:-"), max_size=20),
).filter(lambda name: "localhost" not in name.lower() and not name.startswith("127."))
key_ids = st.text(_PRINTABLE, min_size=1, max_size=60).map(str.strip).filter(bool)
values = st.text(st.characters(exclude_categories=("C", "Z")) | st.just(" "), max_size=40).filter(str.isprintable)
# the addresses that are not 0.0.0.0/8 and not mapped, so that every reader writes them alike
_networks = st.builds(
    lambda address, bits: str(ipaddress.ip_network((address, bits), strict=False)),
    st.ip_addresses(v=4),
    st.integers(0, 32),
) | st.builds(
    lambda address, bits: str(ipaddress.ip_network((int(address) | 1 << 125, bits), strict=False)),
    st.ip_addresses(v=6),
    st.integers(3, 128),
)
networks = st.lists(_networks, min_size=1, max_size=4, unique=True).map(",".join)
own_extensions = st.dictionaries(
    st.from_regex(r"[a-z0-9][a-z0-9._-]{0,8}@[a-z0-9.-]{1,8}", fullmatch=True), values, max_size=20
)


@cache
def authorities() -> list[Made]:
    return [made(a, 9) for a in Algorithm]


@st.composite
def options(draw: st.DrawFn, kind: CertType, *, sk: bool) -> dict[str, tuple[tuple[str, str], ...]]:
    critical: dict[str, str] = {}
    extensions = {n: v for n, v in draw(own_extensions).items() if n[n.index("@") + 1] not in ".-"}
    if kind is CertType.USER:
        if draw(st.booleans()):
            critical["force-command"] = draw(values.filter(str.strip))
        if draw(st.booleans()):
            critical["source-address"] = draw(networks)
        if sk and draw(st.booleans()):
            critical["verify-required"] = ""
        flags = USER_EXTENSIONS if sk else USER_EXTENSIONS - {"no-touch-required"}
        extensions |= dict.fromkeys(draw(st.sets(st.sampled_from(sorted(flags)))), "")
    return {
        "critical_options": tuple(sorted(critical.items())),
        "extensions": tuple(sorted(extensions.items())),
    }


@st.composite
def bodies(draw: st.DrawFn, keys: tuple[Algorithm, ...] = tuple(Algorithm)) -> tuple[CertificateBody, Made]:
    """A body, and the authority that is to sign it; subject and authority of the types in `keys`."""
    kind = draw(st.sampled_from(CertType))
    key = made(draw(st.sampled_from(keys))).public
    authority = draw(st.sampled_from([a for a in authorities() if a.public.algorithm in keys]))
    start = draw(st.integers(0, LAST_SECOND - 1))
    body = CertificateBody(
        type=kind,
        key=key,
        serial=draw(st.integers(1, 2**63 - 1)),
        key_id=draw(key_ids),
        principals=tuple(draw(st.lists(principals, min_size=1, max_size=5, unique=True))),
        valid_after=start,
        valid_before=draw(st.integers(start + 1, LAST_SECOND)),
        ca=authority.public,
        **draw(options(kind, sk=key.algorithm.is_sk)),
    )
    return body, authority

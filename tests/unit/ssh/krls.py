"""Any revocation list that we could make, for property tests."""

from hypothesis import strategies as st
from tests.unit.ssh.made import made, string

from jitgate.ssh.krl import Certificates, Krl
from jitgate.ssh.krl_serials import LAST_SERIAL, Serials
from jitgate.ssh.pubkey import Algorithm

CAS = [made(a, 9).public.blob for a in (Algorithm.ED25519, Algorithm.ECDSA_256)]
KEYS = [made(a).public.blob for a in Algorithm]


def spans(start: int, steps: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Ranges from `start` on: a hole, a run, a hole, a run ..."""
    found = []
    for hole, run in steps:
        first = start + hole
        if first + run > LAST_SERIAL:
            break
        found.append((first, first + run))
        start = first + run + 2
    return found


# runs and holes about the sizes where another form gets cheaper
_SIZES = st.one_of(st.integers(0, 3), st.integers(150, 330), st.integers(0, 17_000), st.sampled_from([2**31, 2**63]))
_STARTS = st.one_of(st.integers(1, 70), st.integers(1, LAST_SERIAL), st.just(LAST_SERIAL - 20_000))
ranges = st.builds(spans, _STARTS, st.lists(st.tuples(_SIZES, _SIZES), max_size=40))
serials = st.builds(Serials, ranges)
key_ids = st.frozensets(st.binary(min_size=1, max_size=20).map(lambda data: data.replace(b"\0", b"0")), max_size=4)
_texts = st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E), max_size=20).map(str.encode)
extension = st.builds(lambda name, data: string(name) + b"\0" + string(data), _texts, st.binary(max_size=9))
certificates = st.builds(Certificates, serials, key_ids)
blobs = st.frozensets(st.sampled_from(KEYS), max_size=3)


def krls(*, extensions: bool = True) -> st.SearchStrategy[Krl]:
    """`extensions`: with those that sshd reads from 9.4 on."""
    more = st.lists(extension, max_size=2).map(tuple) if extensions else st.just(())
    return st.builds(
        Krl,
        st.integers(0, LAST_SERIAL),
        st.integers(0, 2**34),
        _texts,
        st.dictionaries(st.sampled_from([*CAS, b""]), certificates.filter(lambda c: bool(c.serials or c.key_ids))),
        blobs,
        st.frozensets(st.binary(min_size=20, max_size=20), max_size=2),
        st.frozensets(st.binary(min_size=32, max_size=32), max_size=2),
        more,
    )

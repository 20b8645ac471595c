"""Keys in a token that speaks PKCS#11 (OASIS, v2.40 and v3.0): an HSM, a smart card, SoftHSM.

A key is a pair of private and public object with one label. Only mechanisms that make an SSH signature are asked for:
EdDSA over Ed25519, ECDSA over digests that are made here, RSA PKCS#1 1.5 with SHA-512.

A PIN that the token refused is not tried again until its file says another one: three wrong ones lock most tokens.
"""

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.hashes import Hash
from cryptography.hazmat.primitives.serialization import load_der_private_key

from jitgate.adapters.secret_file import read_secret
from jitgate.ca.places import Pkcs11Place
from jitgate.core.errors import BadInput, Conflict, Error, NotFound, Unreachable, Unsafe
from jitgate.core.text import shown
from jitgate.ssh.private import SoftwareKey, dump_pkcs8
from jitgate.ssh.pubkey import Algorithm, PublicKey, parse_public_key
from jitgate.ssh.signature import ECDSA_HASHES
from jitgate.ssh.wire import put_mpint, put_string

if TYPE_CHECKING:
    import pkcs11

_RSA_BITS: Final = 3072
_RSA_SIGNATURE: Final = "rsa-sha2-512"
_ED25519: Final = bytes.fromhex("06032b6570")  # the object identifier 1.3.101.112, DER (RFC 8410)
_ED25519_NAME: Final = b"\x13\x0cedwards25519"  # the same as a printable string, as PKCS#11 3.0 also has it
_CURVES: Final = {  # object identifiers, DER (RFC 5480)
    Algorithm.ECDSA_256: bytes.fromhex("06082a8648ce3d030107"),
    Algorithm.ECDSA_384: bytes.fromhex("06052b81040022"),
    Algorithm.ECDSA_521: bytes.fromhex("06052b81040023"),
}
_OTHERS_WRITE: Final = 0o022
_LOST: Final = "is the token there? its own program says so (softhsm2-util --show-slots, pkcs11-tool -L)"


class Token:
    """One token, by its label. A session is opened when it is needed, and again after a failure."""

    def __init__(self, place: Pkcs11Place) -> None:
        self._place = place
        self._session: pkcs11.Session | None = None
        self._writing = False
        self._wrong_pin = ""

    def key(self, name: str) -> "TokenKey":
        with self._asked():
            import pkcs11  # noqa: PLC0415  # an extra

            private = self._one(pkcs11.ObjectClass.PRIVATE_KEY, name)
            return TokenKey(self, private, self._public(private, name))

    def make(self, name: str, algorithm: Algorithm) -> PublicKey:
        with self._asked():
            import pkcs11  # noqa: PLC0415  # an extra

            session, mark = self._opened(writing=True), name.encode()
            self._check_free(name)
            if algorithm is Algorithm.RSA:
                session.generate_keypair(pkcs11.KeyType.RSA, _RSA_BITS, store=True, label=name, id=mark)
            else:
                kind, mechanism, curve = _kind_of(algorithm)
                parameters = session.create_domain_parameters(kind, {pkcs11.Attribute.EC_PARAMS: curve}, local=True)
                parameters.generate_keypair(mechanism=mechanism, store=True, label=name, id=mark)
        return self.key(name).public

    def put(self, name: str, key: SoftwareKey) -> None:
        with self._asked():
            import pkcs11  # noqa: PLC0415  # an extra

            session = self._opened(writing=True)
            self._check_free(name)
            at = pkcs11.Attribute
            both: dict[pkcs11.Attribute, Any] = {at.TOKEN: True, at.LABEL: name, at.ID: name.encode()}
            private, public = _attributes(key)
            hidden = {at.CLASS: pkcs11.ObjectClass.PRIVATE_KEY, at.SENSITIVE: True, at.EXTRACTABLE: False}
            session.create_object(both | private | hidden | {at.PRIVATE: True, at.SIGN: True})
            shown_to_all = {at.CLASS: pkcs11.ObjectClass.PUBLIC_KEY, at.PRIVATE: False, at.VERIFY: True}
            session.create_object(both | public | shown_to_all)

    def close(self) -> None:
        session, self._session = self._session, None
        if session is not None:
            with suppress(Exception):  # a token that is gone has closed it
                session.close()

    def sign(self, private: Any, algorithm: Algorithm, data: bytes) -> bytes:  # noqa: ANN401  # the library's object
        with self._asked():
            import pkcs11  # noqa: PLC0415  # an extra

            if algorithm is Algorithm.ED25519:
                return put_string(algorithm) + put_string(private.sign(data, mechanism=pkcs11.Mechanism.EDDSA))
            if algorithm is Algorithm.RSA:
                value = private.sign(data, mechanism=pkcs11.Mechanism.SHA512_RSA_PKCS)
                return put_string(_RSA_SIGNATURE) + put_string(value)
            digest = Hash(ECDSA_HASHES[algorithm])
            digest.update(data)
            value = private.sign(digest.finalize(), mechanism=pkcs11.Mechanism.ECDSA)
            half = len(value) // 2
            numbers = (int.from_bytes(each, "big") for each in (value[:half], value[half:]))
            return put_string(algorithm) + put_string(b"".join(map(put_mpint, numbers)))

    @contextmanager
    def _asked(self) -> Iterator[None]:
        """The library's errors in our words; after one the session is opened anew."""
        try:
            yield
        except ModuleNotFoundError:
            raise BadInput("PKCS#11 is not installed here", "install jitgate with the extra [pkcs11]") from None
        except Error:
            raise
        except RuntimeError as error:  # a PKCS11Error is one; so is a library that does not load
            self.close()
            words = type(error).__name__ + (f": {shown(str(error), 120)}" if str(error) else "")
            raise Unreachable(f"the token {shown(self._place.token)}: {words}", _LOST) from None

    def _opened(self, *, writing: bool = False) -> "pkcs11.Session":
        """A session in which we are known; one that writes only where something is to be written."""
        if writing and not self._writing:
            self.close()
            self._writing = True
        if self._session is None:
            import pkcs11  # noqa: PLC0415  # an extra
            from pkcs11.exceptions import NoSuchToken, PinIncorrect, PinLocked, UserAlreadyLoggedIn  # noqa: PLC0415

            _check_module(self._place.module)
            os.environ.update(self._place.environment or {})
            pin = read_secret(self._place.pin_file).reveal()
            if pin == self._wrong_pin:
                raise Unsafe("the token refused this PIN, and is not asked again", _put_right(self._place))
            try:
                token = pkcs11.lib(self._place.module).get_token(token_label=self._place.token)
                try:
                    self._session = token.open(rw=self._writing, user_pin=pin)
                except UserAlreadyLoggedIn:  # by a session that the library did not let us close
                    self._session = token.open(rw=self._writing)
            except (PinIncorrect, PinLocked) as error:
                self._wrong_pin = pin
                raise Unsafe(f"the token refuses the PIN: {type(error).__name__}", _put_right(self._place)) from None
            except NoSuchToken:
                raise Unreachable(f"there is no token {shown(self._place.token)}", _LOST) from None
            self._wrong_pin = ""
        return self._session

    def _one(self, kind: "pkcs11.ObjectClass", name: str) -> Any:  # noqa: ANN401  # the library's object
        import pkcs11  # noqa: PLC0415  # an extra

        wanted = {pkcs11.Attribute.CLASS: kind, pkcs11.Attribute.LABEL: name}
        found = list(self._opened().get_objects(wanted))
        if len(found) != 1:
            what = "no" if not found else f"{len(found)}"
            kinds = "private keys" if kind is pkcs11.ObjectClass.PRIVATE_KEY else "public keys"
            raise NotFound(f"the token has {what} {kinds} with the label {name}", "pkcs11-tool --login --list-objects")
        return found[0]

    def _check_free(self, name: str) -> None:
        import pkcs11  # noqa: PLC0415  # an extra

        if any(True for _ in self._opened().get_objects({pkcs11.Attribute.LABEL: name})):
            raise Conflict(f"the token has something with the label {name} already", "choose another --name")

    def _public(self, private: Any, name: str) -> PublicKey:  # noqa: ANN401  # the library's object
        import pkcs11  # noqa: PLC0415  # an extra

        at, kinds = pkcs11.Attribute, pkcs11.KeyType
        if not private[at.SIGN]:
            raise Unsafe(f"the token's key {name} is not for signing", "make one that is")
        if private.key_type == kinds.RSA:
            numbers = (int.from_bytes(private[each], "big") for each in (at.PUBLIC_EXPONENT, at.MODULUS))
            return parse_public_key(put_string(Algorithm.RSA) + b"".join(map(put_mpint, numbers)))
        public = self._one(pkcs11.ObjectClass.PUBLIC_KEY, name)
        curve, point = bytes(public[at.EC_PARAMS]), _unwrapped(bytes(public[at.EC_POINT]))
        if curve in {_ED25519, _ED25519_NAME}:
            return parse_public_key(put_string(Algorithm.ED25519) + put_string(point))
        for algorithm, identifier in _CURVES.items():
            if curve == identifier:
                name_of_curve = algorithm.rpartition("-")[2]
                return parse_public_key(put_string(algorithm) + put_string(name_of_curve) + put_string(point))
        raise Unsafe(f"the token's key {name} is of a kind that SSH has not", "Ed25519, NIST P-256/384/521, or RSA")


class TokenKey:
    """A key pair of a token, found once."""

    def __init__(self, token: Token, private: Any, public: PublicKey) -> None:  # noqa: ANN401  # the library's object
        self._token, self._private = token, private
        self.public: PublicKey = public

    def sign(self, data: bytes) -> bytes:
        return self._token.sign(self._private, self.public.algorithm, data)


def _kind_of(algorithm: Algorithm) -> tuple[Any, Any, bytes]:
    """Key type, how a pair is made, and the curve, as PKCS#11 has them."""
    import pkcs11  # noqa: PLC0415  # an extra

    if algorithm is Algorithm.ED25519:
        return pkcs11.KeyType.EC_EDWARDS, pkcs11.Mechanism.EC_EDWARDS_KEY_PAIR_GEN, _ED25519
    if algorithm in _CURVES:
        return pkcs11.KeyType.EC, pkcs11.Mechanism.EC_KEY_PAIR_GEN, _CURVES[algorithm]
    raise BadInput(f"no {algorithm} key in a token", "ssh-ed25519, ecdsa-sha2-nistp256 or ssh-rsa")


def _attributes(key: SoftwareKey) -> tuple[dict[Any, Any], dict[Any, Any]]:
    """Of the private and the public object, but for what all have."""
    import pkcs11  # noqa: PLC0415  # an extra

    at, kinds = pkcs11.Attribute, pkcs11.KeyType
    private = load_der_private_key(dump_pkcs8(key).reveal(), None)
    match private:
        case Ed25519PrivateKey():
            kind = {at.KEY_TYPE: kinds.EC_EDWARDS, at.EC_PARAMS: _ED25519}
            point = {at.EC_POINT: b"\x04\x20" + key.public.blob[-32:]}
            return kind | {at.VALUE: private.private_bytes_raw()}, kind | point
        case ec.EllipticCurvePrivateKey():
            kind = {at.KEY_TYPE: kinds.EC, at.EC_PARAMS: _CURVES[key.public.algorithm]}
            size = (private.key_size + 7) // 8
            value = private.private_numbers().private_value.to_bytes(size, "big")
            return kind | {at.VALUE: value}, kind | {at.EC_POINT: _wrapped(key.public.blob[-(2 * size + 1) :])}
        case RSAPrivateKey():
            own, both = private.private_numbers(), private.private_numbers().public_numbers
            kind = {at.KEY_TYPE: kinds.RSA, at.MODULUS: _big(both.n), at.PUBLIC_EXPONENT: _big(both.e)}
            numbers = {
                at.PRIVATE_EXPONENT: _big(own.d),
                at.PRIME_1: _big(own.p),
                at.PRIME_2: _big(own.q),
                at.EXPONENT_1: _big(own.dmp1),
                at.EXPONENT_2: _big(own.dmq1),
                at.COEFFICIENT: _big(own.iqmp),
            }
            return kind | numbers, kind
        case _:
            raise BadInput("a key of a type that no token takes")


def _big(number: int) -> bytes:
    return number.to_bytes((number.bit_length() + 7) // 8, "big")


def _wrapped(point: bytes) -> bytes:
    """A point as a DER octet string (PKCS#11 2.40, CKA_EC_POINT)."""
    length = bytes([len(point)]) if len(point) < 0x80 else b"\x81" + bytes([len(point)])  # noqa: PLR2004  # DER's forms
    return b"\x04" + length + point


def _unwrapped(value: bytes) -> bytes:
    """The point in a DER octet string; some tokens leave the string's head out."""
    for head in (2, 3):
        if value == _wrapped(value[head:]):
            return value[head:]
    return value


def _check_module(module: str) -> None:
    """The library becomes a part of the process that holds the keys."""
    try:
        found = Path(os.path.realpath(module)).stat()
    except OSError as error:
        raise NotFound(f"no PKCS#11 library {module}: {error.strerror}", "[pkcs11] module of signer.toml") from None
    if not stat.S_ISREG(found.st_mode) or found.st_uid not in {0, os.geteuid()} or found.st_mode & _OTHERS_WRITE:
        raise Unsafe(
            f"others could write the PKCS#11 library {module}", "it must be root's, and no one else's to write"
        )


def _put_right(place: Pkcs11Place) -> str:
    return f"put the right one into {place.pin_file}"

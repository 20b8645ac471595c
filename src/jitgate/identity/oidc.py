"""ID tokens (OpenID Connect Core 1.0, 3.1.3.7; RFC 7519, RFC 8725), checked without socket, store or clock.

Rules, in order, each with its own code:
1. `token_too_large`      at most `TOKEN_MAX` characters
2. `token_malformed`      the compact form: three parts, so exactly one signature; headers and claims are JSON objects
                          without a name twice
3. `token_type`           `typ` is JWT or absent; nothing in the header has to be understood (`crit`)
4. `token_algorithm`      one of the provider's pinned asymmetric algorithms; never `none`, never a shared secret
5. `token_key_unknown`    `kid` names a key of the provider's set (the caller finds it: `read_header`)
6. `token_signature`      by that key, which is for that algorithm
7. `token_issuer`, `token_audience`, `token_party`  byte for byte; no audience beside ours; `azp`, if there, is ours too
8. `token_expired`, `token_not_yet`, `token_old`    `exp`, `nbf`, `iat` with `LEEWAY`; made at most `FRESH` ago
9. `token_nonce_missing`, `token_nonce`             exactly the one expected; none where none was asked for
10. `token_subject`, `token_claims`, `token_email`, `token_groups`   what is read of it has its type and bounds
"""

import hmac
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import jwt

from jitgate.core.clock import MINUTE, SECOND, Micros
from jitgate.core.errors import BadInput, NotSignedIn
from jitgate.core.text import check_name, shown
from jitgate.identity.jwks import VerificationKey, no_name_twice
from jitgate.identity.providers import ALGORITHMS, ProviderSettings

TOKEN_MAX = 48 * 1024  # characters; a directory's largest tokens have some 20 000, and a request has at most 64 KiB
LEEWAY: Micros = 60 * SECOND  # how far the two clocks may be apart
FRESH: Micros = 4 * MINUTE  # since it was made: a sign-in uses its token at once
GROUPS_MAX = 256  # what a role's condition may walk through
NAME_MAX = 255  # characters of a subject (OpenID Connect Core, 2), and of any other name that is read
TIME_MAX = 1e11  # seconds: the year 5138

_COMPACT = re.compile(r"([A-Za-z0-9_-]+)\.([A-Za-z0-9_-]+)\.([A-Za-z0-9_-]*)")
_VISIBLE = re.compile(r"[!-~](?:[ -~]*[!-~])?")
_AGAIN = "sign in again: jitctl login"


class TokenRefused(NotSignedIn):
    """An ID token that is not accepted; `code` says by which rule."""

    default_code = "token_refused"


@dataclass(frozen=True, slots=True)
class TokenRules:
    """What a provider's tokens for one client have to be. A claim's name that is empty is not read."""

    issuer: str
    audience: str
    algorithms: frozenset[str]
    name_claim: str = ""
    groups_claim: str = ""
    group_prefix: str = ""
    directory_claim: str = ""


def token_rules(settings: ProviderSettings, client_id: str) -> TokenRules:
    """What the settings ask of tokens for one of the two clients."""
    return TokenRules(
        issuer=settings.issuer,
        audience=client_id,
        algorithms=frozenset(settings.algorithms),
        name_claim=settings.name_claim if settings.people == "create" else "",
        groups_claim=settings.groups_claim if settings.groups == "token" else "",
        group_prefix=settings.group_prefix,
        directory_claim=settings.directory_claim if settings.groups == "directory" else "",
    )


@dataclass(frozen=True, slots=True)
class Header:
    """Which key an unverified token claims to be signed by."""

    algorithm: str
    key_id: str


@dataclass(frozen=True, slots=True)
class IdToken:
    """What an accepted token says. `name`, `directory_name`: as the claim has them, "" if not read or not there.

    `groups`: those whose names a role can have; `dropped` counts the others. `at`: when the factors were shown.
    """

    issuer: str
    subject: str
    name: str
    directory_name: str
    groups: tuple[str, ...]
    dropped: int
    at: Micros
    expires_at: Micros


def read_header(unverified_token: str, rules: TokenRules) -> Header:
    """Rules 1 to 4: what is needed to find the key. Nothing of it is trusted. Raises `TokenRefused`."""
    header = _object(_parts(unverified_token)[0])
    if header.get("typ", "JWT") not in ("JWT", "jwt") or header.keys() & {"crit", "b64", "zip", "cty"}:
        raise TokenRefused("this is a token of another type than an ID token", _AGAIN, code="token_type")
    algorithm, key_id = header.get("alg"), header.get("kid")
    if not isinstance(algorithm, str) or algorithm not in rules.algorithms & ALGORITHMS:
        allowed = " ".join(sorted(rules.algorithms))
        said = shown(algorithm) if isinstance(algorithm, str) else "nothing"
        hint = f"the provider has to sign with one of {allowed}"
        raise TokenRefused(f"the ID token is signed by {said}", hint, code="token_algorithm")
    if not isinstance(key_id, str) or not 0 < len(key_id) <= NAME_MAX:
        raise unknown_key("")
    return Header(algorithm, key_id)


def unknown_key(key_id: str) -> TokenRefused:
    """Rule 5's refusal, for who looks the key up."""
    what = f"the ID token is signed by a key that the provider does not list: {shown(key_id)}"
    return TokenRefused(what, _AGAIN, code="token_key_unknown")


def verify_id_token(
    unverified_token: str, key: VerificationKey, rules: TokenRules, *, nonce: str | None, now: Micros
) -> IdToken:
    """The token's words, once every rule above holds. `nonce` None: none was asked for (device flow).

    `key` is the one that the provider's own set has under the header's `kid`. Raises `TokenRefused`.
    """
    header = read_header(unverified_token, rules)
    if header.key_id != key.key_id:
        raise unknown_key(header.key_id)
    claims = _signed(unverified_token, header, key)
    _check_parties(claims, rules)
    expires_at, issued_at = _check_times(claims, now)
    _check_nonce(claims, nonce)
    subject = _word(claims, "sub", "token_subject")
    groups, dropped = _groups(claims, rules.groups_claim, rules.group_prefix)
    return IdToken(
        issuer=rules.issuer,
        subject=subject,
        name=_name(claims, rules.name_claim),
        directory_name=_name(claims, rules.directory_claim),
        groups=groups,
        dropped=dropped,
        at=_factor_time(claims, issued_at, now),
        expires_at=expires_at,
    )


def claims_of(verified_token: str) -> Mapping[str, object]:
    """Every claim of a token that `verify_id_token` has accepted, with nothing checked but that."""
    return _object(_parts(verified_token)[1])


def _parts(unverified_token: str) -> tuple[str, str]:
    if len(unverified_token) > TOKEN_MAX:
        what = f"the ID token has {len(unverified_token)} characters, at most {TOKEN_MAX} are read"
        raise TokenRefused(what, "have the provider put fewer claims into it", code="token_too_large")
    match = _COMPACT.fullmatch(unverified_token)
    if match is None:
        raise TokenRefused("this is no signed ID token", _AGAIN, code="token_malformed")
    return match[1], match[2]


def _object(part: str) -> Mapping[str, object]:
    try:
        found = json.loads(jwt.utils.base64url_decode(part), object_pairs_hook=no_name_twice)
    except (ValueError, RecursionError):  # binascii.Error, UnicodeDecodeError and JSONDecodeError are ValueErrors
        found = None
    if not isinstance(found, dict):
        raise TokenRefused("this is no signed ID token", _AGAIN, code="token_malformed")
    return found


def _signed(unverified_token: str, header: Header, key: VerificationKey) -> Mapping[str, object]:
    """The claims, of which the signature holds."""
    if header.algorithm not in key.algorithms:
        what = f"the provider's key {shown(key.key_id)} is not for {header.algorithm}"
        raise TokenRefused(what, _AGAIN, code="token_signature")
    try:
        jwt.PyJWS(algorithms=[header.algorithm]).decode_complete(
            unverified_token,
            key.key,
            algorithms=[header.algorithm],
            options={"verify_signature": True, "enforce_minimum_key_length": True},
        )
    except jwt.PyJWTError:
        raise TokenRefused("the ID token's signature does not hold", _AGAIN, code="token_signature") from None
    return _object(_parts(unverified_token)[1])


def _check_parties(claims: Mapping[str, object], rules: TokenRules) -> None:
    issuer, audience, party = claims.get("iss"), claims.get("aud"), claims.get("azp", rules.audience)
    if issuer != rules.issuer:
        said = shown(issuer) if isinstance(issuer, str) else "nobody"
        raise TokenRefused(f"the ID token is by {said}, not {rules.issuer}", _AGAIN, code="token_issuer")
    if audience not in (rules.audience, [rules.audience]):
        hint = f"it has to be for {rules.audience} and nobody else"
        raise TokenRefused("the ID token is for another audience", hint, code="token_audience")
    if party != rules.audience:
        raise TokenRefused("the ID token was given to another client (azp)", _AGAIN, code="token_party")
    if claims.get("typ", "ID") not in ("ID", "JWT"):  # Keycloak's word for its access, refresh and logout tokens
        raise TokenRefused("this is a token of another type than an ID token", _AGAIN, code="token_type")


def _check_times(claims: Mapping[str, object], now: Micros) -> tuple[Micros, Micros]:
    expires_at, issued_at = _time(claims, "exp"), _time(claims, "iat")
    not_before = _time(claims, "nbf") if "nbf" in claims else issued_at
    if now >= expires_at + LEEWAY:
        what = f"the ID token ran out {(now - expires_at) // SECOND} s ago by this service's clock"
        raise TokenRefused(what, f"{_AGAIN}; if it stays, set the clocks", code="token_expired")
    if (ahead := max(issued_at, not_before) - now) > LEEWAY:
        what = f"the ID token is good only in {ahead // SECOND} s by this service's clock"
        raise TokenRefused(what, "set the clocks of provider and service", code="token_not_yet")
    if now - issued_at > FRESH:
        what = f"the ID token was made {(now - issued_at) // SECOND} s ago by this service's clock"
        raise TokenRefused(what, f"{_AGAIN}; if it stays, set the clocks", code="token_old")
    return expires_at, issued_at


def _check_nonce(claims: Mapping[str, object], nonce: str | None) -> None:
    said = claims.get("nonce")
    if nonce is None:
        if said not in (None, ""):
            raise TokenRefused("the ID token is from another way of signing in", _AGAIN, code="token_nonce")
        return
    if said in (None, ""):
        hint = "the provider has to repeat the request's nonce in the ID token"
        raise TokenRefused("the ID token has no nonce", hint, code="token_nonce_missing")
    if not isinstance(said, str) or not said.isascii() or not hmac.compare_digest(said, nonce):
        what = "the ID token is from another sign-in, or for another key"
        raise TokenRefused(what, _AGAIN, code="token_nonce")


def _time(claims: Mapping[str, object], name: str) -> Micros:
    """A NumericDate (RFC 7519, 2) in microseconds."""
    value = claims.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < TIME_MAX:
        raise TokenRefused(f"the ID token has no usable {name}", _AGAIN, code="token_claims")
    return int(value * SECOND)


def _factor_time(claims: Mapping[str, object], issued_at: Micros, now: Micros) -> Micros:
    """When the person showed something to the provider: `auth_time`, else when the token was made; never later than
    now."""
    return min(_time(claims, "auth_time") if claims.get("auth_time") is not None else issued_at, now)


def _word(claims: Mapping[str, object], name: str, code: str) -> str:
    value = claims.get(name)
    if not isinstance(value, str) or len(value) > NAME_MAX or not _VISIBLE.fullmatch(value):
        what = f"the ID token's {name} is not a text of 1 to {NAME_MAX} visible ASCII characters"
        raise TokenRefused(what, "have the provider give another claim", code=code)
    return value


def _name(claims: Mapping[str, object], claim: str) -> str:
    if not claim or claims.get(claim) in (None, ""):
        return ""
    name = _word(claims, claim, "token_claims")
    if claim == "email" and claims.get("email_verified") is not True:
        what = "the provider has not verified the e-mail address"
        raise TokenRefused(what, "verify it there, or name another claim in the settings", code="token_email")
    return name


def _groups(claims: Mapping[str, object], claim: str, prefix: str) -> tuple[tuple[str, ...], int]:
    if not claim:
        return (), 0
    elsewhere = claims.get("_claim_names")  # OpenID Connect Core 5.6.2: too many for the token, so it has none
    if isinstance(elsewhere, dict) and claim in elsewhere:
        what = "the person has too many groups for an ID token"
        hint = "have the provider filter them, or take them from the directory (groups = 'directory')"
        raise TokenRefused(what, hint, code="token_groups")
    value = claims.get(claim)
    said: object = [] if value is None else [value] if isinstance(value, str) else value
    if not isinstance(said, list) or not all(isinstance(each, str) for each in said):
        raise TokenRefused(f"the ID token's {claim} is no list of names", "see groups_claim", code="token_groups")
    groups, dropped = nameable_groups(said, prefix)
    if len(groups) > GROUPS_MAX:
        what = f"the person has {len(groups)} groups, at most {GROUPS_MAX} are read"
        raise TokenRefused(what, "have the provider give only those that roles name", code="token_groups")
    return groups, dropped


def nameable_groups(said: Iterable[str], prefix: str) -> tuple[tuple[str, ...], int]:
    """Those that a role can name, sorted, and how many others there were."""
    everything = set(said)
    groups = sorted(prefix + each for each in everything if _is_group(prefix + each))
    return tuple(groups), len(everything) - len(groups)


def _is_group(name: str) -> bool:
    try:
        check_name("group", name)
    except BadInput:
        return False
    return True

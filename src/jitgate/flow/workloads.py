"""Machines that an identity provider vouches for: their ID tokens, for joining and nothing else.

A token is taken when every rule for ID tokens holds (identity/oidc.py), it names `host_audience` of a provider that has
one, and nothing else: a person's token is for another audience and joins no host, and a machine's signs nobody in.
"""

from jitgate.core.errors import BadInput
from jitgate.core.secret import Secret
from jitgate.flow.elsewhere import Provider
from jitgate.flow.outside import Outside
from jitgate.identity.oidc import IdToken, TokenRefused, TokenRules, read_header, verify_id_token


async def workload_of(outside: Outside, unverified_provider: str, token: Secret[str]) -> IdToken:
    """Whose token it is. Raises `BadInput` with the broken rule's code; `Unreachable` while the provider is away."""
    provider = provider_for_hosts(outside, unverified_provider)
    settings = provider.settings
    rules = TokenRules(settings.issuer, settings.host_audience, frozenset(settings.algorithms))
    try:
        key = await provider.key(read_header(token.reveal(), rules))
        return verify_id_token(token.reveal(), key, rules, nonce=None, now=outside.clock())
    except TokenRefused as error:
        raise BadInput(error.what, error.hint, code=error.code) from None


def provider_for_hosts(outside: Outside, name: str) -> Provider:
    provider = outside.elsewhere.providers.get(name)
    if provider is None or not provider.settings.host_audience:
        raise BadInput("no provider of that name vouches for hosts", "host_audience of a [[provider]]", code="provider")
    return provider

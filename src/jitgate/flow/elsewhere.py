"""What the acts need of identity providers and of the directory: who somebody is elsewhere."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Protocol

from jitgate.core.clock import Micros
from jitgate.core.secret import Secret
from jitgate.identity.jwks import VerificationKey
from jitgate.identity.model import LOCAL_ISSUER
from jitgate.identity.oidc import Header
from jitgate.identity.providers import DeviceStart, NotYet, ProviderSettings


class Provider(Protocol):
    @property
    def settings(self) -> ProviderSettings: ...
    @property
    def authority(self) -> str:
        """PEM of the TLS authority that the settings name; empty for the system's."""
        ...

    async def key(self, header: Header) -> VerificationKey:
        """The key of the provider's set; `TokenRefused` if it has none such, `Unreachable` if what is known of the
        set is too old."""
        ...

    async def begin_device(self) -> DeviceStart: ...
    async def ask_device(self, device_code: Secret[str]) -> Secret[str] | NotYet:
        """The ID token, or that it is to be waited for. Raises `Denied` (refused, ran out), `Unreachable`."""
        ...


class Directory(Protocol):
    async def groups(self, name: str, now: Micros, *, fresh: bool = False) -> tuple[str, ...] | None:
        """The names of somebody's groups, at most as old as the directory's settings allow, or looked up now; None: no
        such person, or disabled there. Raises `Unreachable`, `Denied` (not exactly one, too many groups)."""
        ...


class NoDirectory:
    """Where the settings have none: nobody is in it."""

    async def groups(self, name: str, now: Micros, *, fresh: bool = False) -> tuple[str, ...] | None:  # noqa: ARG002  # a Directory's
        return None


@dataclass(frozen=True, slots=True)
class Elsewhere:
    """`providers`: by name, in the settings' order."""

    providers: Mapping[str, Provider] = field(default_factory=lambda: MappingProxyType({}))
    directory: Directory = field(default_factory=NoDirectory)

    def named(self, issuer: str) -> str:
        """The name of the provider with this issuer, `local` for our own passwords; empty if none is set up."""
        if issuer == LOCAL_ISSUER:
            return LOCAL_ISSUER
        return next((name for name, each in self.providers.items() if each.settings.issuer == issuer), "")

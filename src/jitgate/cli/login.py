"""jitctl login, logout, whoami."""

from pathlib import Path

import click

from jitgate.cli.answers import as_row, rows, text, texts
from jitgate.cli.certificate import remove_all, take_from_agent
from jitgate.cli.command import Command, Options
from jitgate.cli.out import data, pairs, say, warn
from jitgate.cli.profile import DEFAULT, Profile, check_profile_name, current, end_session, parse_url, profiles
from jitgate.cli.providers import check_given
from jitgate.cli.service import signed_in
from jitgate.cli.signin import Given, sign_in
from jitgate.cli.times import parse, until
from jitgate.core.clock import rfc3339, system_clock
from jitgate.core.errors import Conflict, Error, NotSignedIn

_LOGIN_EXAMPLES = """
    jitctl login https://jitgate.example.com
    jitctl login 'https://10.0.0.5:8443#sha256=1f0c...' --name homelab
    jitctl login https://jitgate.example.com --provider dex
    jitctl login --device
    jitctl login --key ~/.ssh/id_ed25519_sk.pub
    jitctl login https://jitgate.example.com --user alice --password-file - --code 123456 < secret
"""


@click.command(cls=Command, examples=_LOGIN_EXAMPLES)
@click.argument("url", required=False)
@click.option("--name", metavar="PROFILE", help="Name of this service here. Default: 'default'.")
@click.option("--user", metavar="NAME", help="Your name at the service. Asked for if missing.")
@click.option("--key", metavar="FILE", help="Use this key (private, or public with an agent) instead of a new one.")
@click.option("--password-file", metavar="FILE", help="Read the password from FILE, or from stdin if it is -.")
@click.option("--code", metavar="DIGITS", help="The one-time code. Asked for if missing.")
@click.option("--provider", metavar="NAME", help="Sign in by this identity provider of the service.")
@click.option("--local", is_flag=True, help="Sign in with name, password and code.")
@click.option("--device", is_flag=True, help="By the provider, with a browser on any machine: shows a code to type.")
@click.option("--no-browser", is_flag=True, help="By the provider: print the address instead of opening a browser.")
@click.pass_obj
def login(
    options: Options,
    *,
    url: str | None,
    name: str | None,
    user: str | None,
    key: str | None,
    password_file: str | None,
    code: str | None,
    provider: str | None,
    local: bool,
    device: bool,
    no_browser: bool,
) -> None:
    """Sign in to a service and bind this machine's key to you.

    URL is the service's address. With #sha256=HEX, as `jitgate init` prints it, only the TLS authority with that
    fingerprint is trusted; without it, what the system trusts. Without URL, the service of the profile.

    The way is what the service offers: an identity provider, by a browser, or name, password and code, asked on the
    terminal. Where there are several you are asked, and the next sign-in takes the same. In an ssh session, and where
    there is no display, the browser is on another machine: --device, which is then taken by itself, or --no-browser.

    The key is made here and never leaves this machine.
    """
    words = any(given is not None for given in (user, password_file, code))
    check_given(provider, local=local, words=words, device=device, browser=not no_browser)
    profile, pin = _which(options, url, name)
    given = Given(user, password_file, code, _absolute(key), provider, local or words, device, not no_browser)
    profile, session = sign_in(profile, options, given, pin=pin)
    document = {
        "profile": profile.name,
        "url": profile.url,
        "person": {"id": session.person_id, "name": session.name},
        "expires_at": rfc3339(session.expires_at),
        "key_file": str(profile.key_file),
    }
    data(options, document, ())


@click.command(cls=Command, examples="jitctl logout\njitctl logout --profile homelab")
@click.pass_obj
def logout(options: Options) -> None:
    """End the sign-in, and remove its token and certificates from this machine and its agent.

    The key stays: it is the same at the next sign-in. See also `jitctl keys rm`.
    """
    profile = current(options)
    try:
        with signed_in(profile, options) as service:
            service.post("/v1/sign-out", {})
        say(options, f"signed out of {profile.url}")
    except NotSignedIn as error:
        say(options, error.what)
    except Error as error:
        warn(f"the service was not told: {error.what}; there the sign-in ends by itself")
    end_session(profile)
    take_from_agent(profile)
    remove_all(profile)


@click.command(cls=Command, examples="jitctl whoami\njitctl whoami -o json")
@click.pass_obj
def whoami(options: Options) -> None:
    """Show who the service thinks you are, by which factors, and until when."""
    profile = current(options)
    with signed_in(profile, options) as service:
        answer = service.get("/v1/me")
        key = service.signer.public.fingerprint
    person, session, now = as_row(answer.get("person")), as_row(answer.get("sign_in")), system_clock()
    factors = [f"{text(row, 'factor')} {until(parse(text(row, 'at')), now)}" for row in rows(session, "factors")]
    provider = text(session, "provider", "")
    lines = pairs(
        [
            ("name", text(person, "name")),
            ("groups", ", ".join(texts(person, "groups"))),
            ("problem", text(person, "groups_unknown", "")),
            ("admin", "yes" if person.get("admin") is True else ""),
            ("service", f"{profile.url} (profile {profile.name})"),
            ("provider", f"{provider} ({text(session, 'issuer', '')})" if provider else ""),
            ("factors", ", ".join(factors)),
            ("until", until(parse(text(session, "expires_at")), now)),
            ("key", key),
        ]
    )
    data(options, {"profile": profile.name, "url": profile.url, "key": key} | answer, lines)


def _which(options: Options, url: str | None, name: str | None) -> "tuple[Profile, str]":
    """The profile that is meant, old or new, and the pin that was typed."""
    if url is None:
        if name is not None:
            options.profile = check_profile_name(name)
        return current(options), ""
    origin, pin = parse_url(url)
    found = profiles()
    same = next((known.name for known in found.values() if known.url == origin), DEFAULT)
    wanted = check_profile_name(name or options.profile or same)
    old = found.get(wanted)
    if old is None:
        return Profile(wanted, origin), pin
    if old.url != origin:
        raise Conflict(f"profile {wanted} is for {old.url}", f"choose another name: jitctl login {url} --name NAME")
    return old, pin


def _absolute(key: str | None) -> str | None:
    return str(Path(key).expanduser().absolute()) if key else None

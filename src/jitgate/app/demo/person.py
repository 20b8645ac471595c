"""A person at an identity provider's pages without a browser: follows redirects, fills in forms, sends them.

BROWSER='python -m jitgate.app.demo.person NAME PASSWORD_FILE %s' jitctl login ...
"""

import re
import ssl
import sys
from base64 import urlsafe_b64encode
from hashlib import sha256
from html import unescape
from pathlib import Path
from urllib.parse import parse_qs, urlencode, urljoin, urlsplit

import httpx2

from jitgate.core.errors import BadInput
from jitgate.core.secret import Secret

_STEPS_MAX = 12
_SECONDS = 30


def visit(url: str, name: str, password: Secret[str], *, stop_at: str = "", ca: Path | None = None) -> tuple[str, str]:
    """The last address and the text of the page there.

    `stop_at`: an address beginning so is not visited any more. `ca`: a TLS authority that this browser trusts, PEM.
    """
    trust = ssl.create_default_context(cafile=ca)
    with httpx2.Client(timeout=_SECONDS, trust_env=False, verify=trust) as client:
        response = client.get(url)
        for _ in range(_STEPS_MAX):
            if (where := response.headers.get("location")) is not None:
                to = urljoin(str(response.url), where)
                if stop_at and to.startswith(stop_at):
                    return to, ""
                response = client.get(to)
            elif (form := _form(response.text)) and "Invalid" not in response.text:
                action, fields = form
                filled = {"login": name, "password": password.reveal()}
                told = {field: filled.get(field, value) for field, value in fields.items()}
                response = client.post(urljoin(str(response.url), action), data=told)
            else:
                break
        return str(response.url), response.text


def get_token(issuer: str, client_id: str, redirect_uri: str, nonce: str, name: str, password: Secret[str]) -> str:
    """An ID token of a public client, by the code flow with Dex's addresses. Raises `BadInput` if Dex gives none."""
    verifier = "v" * 43  # nobody listens here
    fields = {
        "client_id": client_id,
        "redirect_uri": redirect_uri,
        "response_type": "code",
        "scope": "openid profile email groups",
        "state": "s",
        "nonce": nonce,
        "code_challenge": urlsafe_b64encode(sha256(verifier.encode()).digest()).rstrip(b"=").decode(),
        "code_challenge_method": "S256",
    }
    ends_at, _ = visit(f"{issuer}/auth?{urlencode(fields)}", name, password, stop_at=redirect_uri)
    form = {
        "grant_type": "authorization_code",
        "code": parse_qs(urlsplit(ends_at).query).get("code", [""])[0],
        "redirect_uri": redirect_uri,
        "client_id": client_id,
        "code_verifier": verifier,
    }
    answer = httpx2.post(f"{issuer}/token", data=form, timeout=_SECONDS, trust_env=False)
    if not answer.is_success:
        raise BadInput(f"the provider gave no token: {answer.text[:200]}")
    return str(answer.json()["id_token"])


def _form(page: str) -> tuple[str, dict[str, str]] | None:
    """Action and fields of the form that is posted, if the page has one."""
    for attributes, inside in re.findall(r"<form([^>]*)>(.*?)</form>", page, re.DOTALL):
        found = _attributes(attributes)
        if found.get("method", "").lower() == "post":
            inputs = [_attributes(tag) for tag in re.findall(r"<input([^>]*)>", inside)]
            return found.get("action", ""), {each["name"]: each.get("value", "") for each in inputs if "name" in each}
    return None


def _attributes(text: str) -> dict[str, str]:
    return {name: unescape(value) for name, value in re.findall(r'(\w+)="([^"]*)"', text)}


if __name__ == "__main__":
    visit(sys.argv[3], sys.argv[1], Secret(Path(sys.argv[2]).read_text().strip()))

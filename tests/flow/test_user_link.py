"""An operator's commands about identities, against a service that runs; and settings that it does not start with."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.providers import CLIENT, FakeProvider
from tests.service import Nursery, Service, new_service

from jitgate.app.settings import load_settings
from jitgate.core.errors import BadInput
from jitgate.identity.nonce import nonce_for

SALT = "5a" * 32
PROVIDER = '\n[[provider]]\nname = "corp"\nissuer = "{issuer}"\nclient_id = "' + CLIENT + '"\n'


@pytest.fixture(scope="module")
def corp(nursery: Nursery) -> Iterator[tuple[Service, FakeProvider]]:
    fake = FakeProvider()
    with fake.serve() as issuer, new_service(nursery) as made:
        with made.config.open("a") as file:
            file.write(PROVIDER.format(issuer=issuer))
        made.start()
        yield made, fake
        assert made.stop() == 0, made.words()


def sign_in(service: Service, fake: FakeProvider, subject: str) -> tuple[int, str]:
    connection = service.connect()
    key = connection.signer.key.public
    token = fake.token(sub=subject, nonce=nonce_for(service.url, "corp", key.fingerprint, SALT))
    body = {"provider": "corp", "id_token": token, "salt": SALT, "key": key.line("a@b")}
    answer = connection.post("/v1/sign-in/oidc", body, subject="oidc:corp")
    return answer.status, answer.code or answer.json["person"]["name"]


def test_somebody_without_a_password_is_linked_and_unlinked(corp: tuple[Service, FakeProvider]):
    service, fake = corp
    added = service.jitgate("user", "add", "dora", "--no-password", "--group", "engineers")
    assert (added.returncode, added.stdout.split()) == (0, ["user", "dora"])
    assert "user link dora" in added.stderr
    assert sign_in(service, fake, "u-3") == (403, "identity_unknown")
    linked = service.jitgate("user", "link", "dora", "--provider", "corp", "--subject", "u-3")
    assert linked.returncode == 0, linked.stderr
    assert sign_in(service, fake, "u-3") == (201, "dora")
    shown = service.jitgate("user", "show", "dora")
    assert shown.stdout.split()[:6] == ["user", "dora", "groups", "engineers", "state", "enabled"]
    assert "corp" in shown.stdout.splitlines()[-1]
    assert "u-3" in shown.stdout.splitlines()[-1]
    gone = service.jitgate("user", "unlink", "dora", "--provider", "corp")
    assert gone.returncode == 0, gone.stderr
    assert sign_in(service, fake, "u-3") == (403, "identity_unknown")


@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [
        (("add", "eve", "--no-password", "--password-file", "-"), 2, "exclude each other"),
        (("link", "nobody", "--provider", "corp", "--subject", "u"), 6, "no person 'nobody'"),
        (("link", "nobody", "--provider", "other", "--subject", "u"), 6, "no provider 'other'"),
        (("link", "nobody", "--provider", "corp", "--subject", ""), 1, "not a subject"),
        (("unlink", "nobody", "--provider", "corp"), 6, "no person 'nobody'"),
        (("show", "nobody"), 6, "no person 'nobody'"),
    ],
)
def test_what_is_wrong_is_one_line_and_what_to_do(
    corp: tuple[Service, FakeProvider], arguments: tuple[str, ...], status: int, words: str
):
    done = corp[0].jitgate("user", *arguments)
    assert (done.returncode, words in done.stderr) == (status, True), done.stderr
    assert "Traceback" not in done.stderr


def test_people_are_told_of_the_provider(corp: tuple[Service, FakeProvider]):
    about = corp[0].connect().get("/.well-known/jitgate").json
    assert about["sign_in"] == ["local", "oidc"]
    (said,) = about["providers"]
    assert said == {
        "name": "corp",
        "issuer": corp[1].issuer,
        "client_id": CLIENT,
        "scopes": ["openid", "profile", "email"],
        "flows": ["code"],
        "ca": "",
    }


@pytest.mark.parametrize(
    ("table", "words"),
    [
        ('[[provider]]\nname = "corp"\nissuer = "http://idp.example.com"\nclient_id = "x"\n', "not an issuer"),
        ('[[provider]]\nname = "corp"\nissuer = "https://idp.example.com"\n', "client_id is missing"),
        ((PROVIDER * 2).replace("{issuer}", "https://idp.example.com"), "the same name"),
        (
            PROVIDER.replace("{issuer}", "https://idp.example.com") + 'groups = "directory"\n',
            "a directory that is not set up",
        ),
        ('[directory]\nurl = "ldap.example.com"\n', "not a directory's address"),
        ('[directory]\nuri = "ldaps://ldap.example.com"\n', "unknown setting 'uri'"),
    ],
)
def test_settings_that_it_does_not_start_with(tmp_path: Path, table: str, words: str):
    settings = tmp_path / "jitgate.toml"
    settings.write_text(f'state = "{tmp_path}"\nurl = "https://jit.example.com"\n\n{table}')
    with pytest.raises(BadInput, match=words):
        load_settings(settings, {})

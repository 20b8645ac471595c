"""Settings: what is misspelt, mistyped or half said is refused, never a default."""

from pathlib import Path

import pytest

from jitgate.app.settings import load_settings, split_address
from jitgate.core.errors import BadInput, NotFound

LEAST = 'state = "/var/lib/jitgate"\nurl = "https://jit.example.com"\n'


def settings(folder: Path, text: str, **environment: str):
    path = folder / "jitgate.toml"
    path.write_text(text)
    return load_settings(path, environment)


def test_the_least_that_has_to_be_said(tmp_path: Path):
    found = settings(tmp_path, LEAST)
    assert (found.state, found.url) == (Path("/var/lib/jitgate"), "https://jit.example.com")
    assert found.database_url == "sqlite:////var/lib/jitgate/jitgate.db"
    assert found.keys_folder == Path("/var/lib/jitgate/keys")
    assert found.origins == {"https://jit.example.com"}
    assert (found.listen, found.metrics, found.self_made_tls) == ("127.0.0.1:8443", "", True)


@pytest.mark.parametrize(
    "text",
    [
        "",
        'state = "/x"',
        'url = "https://x.example"',
        LEAST + "unknown = 1",
        LEAST + 'Listen = "x:1"',
        LEAST + "listen = 8443",
        LEAST + 'other_urls = "https://y.example"',
        LEAST + "other_urls = [1]",
        LEAST + 'other_urls = ["ftp://y.example"]',
        LEAST + 'log_level = "loud"',
        LEAST + "[listen]\nhost = 1",
        LEAST.replace('"/var', '"var'),
        LEAST.replace("https://", "ftp://"),
        LEAST.replace("https://", ""),
        LEAST.replace("https://", "https://user@"),
        LEAST + LEAST,
        "\0",
    ],
    ids=repr,
)
def test_what_is_wrong_is_refused(tmp_path: Path, text: str):
    with pytest.raises(BadInput):
        settings(tmp_path, text)


def test_a_file_that_is_none(tmp_path: Path):
    with pytest.raises(NotFound):
        load_settings(tmp_path / "none.toml", {})
    (tmp_path / "x.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(BadInput):
        load_settings(tmp_path / "x.toml", {})


def test_the_environment_replaces_what_the_file_says(tmp_path: Path):
    found = settings(
        tmp_path,
        LEAST + 'listen = "127.0.0.1:1"\n',
        JITGATE_LISTEN="127.0.0.1:2",
        JITGATE_OTHER_URLS="https://a.example https://b.example",
        JITGATE_CONFIG="/elsewhere",
        OTHER="x",
    )
    assert (found.listen, found.other_urls) == ("127.0.0.1:2", ("https://a.example", "https://b.example"))
    with pytest.raises(BadInput):
        settings(tmp_path, LEAST, JITGATE_URL="nonsense")


@pytest.mark.parametrize("url", ["HTTPS://JIT.example.com", "https://jit.example.com/", "https://jit.example.com:443"])
def test_an_address_has_one_spelling(tmp_path: Path, url: str):
    """Whether TLS is served is decided by it: `HTTPS://` must not read as plain HTTP."""
    assert settings(tmp_path, LEAST.replace("https://jit.example.com", url)).url == "https://jit.example.com"


@pytest.mark.parametrize(
    ("text", "address"),
    [("127.0.0.1:8443", ("127.0.0.1", 8443)), ("[::1]:0", ("::1", 0)), (":65535", ("", 65535)), ("x:1", ("x", 1))],
)
def test_an_address_with_a_port(text: str, address: tuple[str, int]):
    assert split_address(text) == address


@pytest.mark.parametrize("text", ["", "8443", "127.0.0.1", "127.0.0.1:", "x:65536", "x:-1", "x:٣", "x:1 ", "x:0x1"])
def test_an_address_without_a_port(text: str):
    with pytest.raises(BadInput):
        split_address(text)

"""A real Chromium, without a screen, driven by the W3C's WebDriver protocol: a few words of HTTP."""

import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2

from jitgate.app.demo import daemon

_ELEMENT = "element-6066-11e4-a52e-4f735466cecf"  # WebDriver's name for a reference to an element
_PATIENCE_MS = 15_000
_ARGUMENTS = (
    "--headless=new",
    "--no-sandbox",  # in a container, and as root, there is none
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--remote-debugging-pipe",  # its driver would look for it at `localhost`, a name that a container may not know
)


@dataclass
class Browser:
    """One window."""

    client: httpx2.Client
    session: str

    def go(self, url: str) -> None:
        self._post("url", {"url": url})

    def type(self, selector: str, text: str) -> None:
        self._post(f"element/{self._find(selector)}/value", {"text": text})

    def click(self, selector: str) -> None:
        self._post(f"element/{self._find(selector)}/click", {})

    def text(self, selector: str) -> str:
        """What a person sees of it; waits until it is there."""
        return str(self._get(f"element/{self._find(selector)}/text"))

    def _find(self, selector: str) -> str:
        return str(self._post("element", {"using": "css selector", "value": selector})[_ELEMENT])

    def _post(self, what: str, told: object) -> Any:
        return _value(self.client.post(f"/session/{self.session}/{what}", json=told))

    def _get(self, what: str) -> Any:
        return _value(self.client.get(f"/session/{self.session}/{what}"))


@contextmanager
def open_browser(programs: Mapping[str, Path]) -> Iterator[Browser]:
    with tempfile.TemporaryDirectory(prefix="jitgate-browser-", ignore_cleanup_errors=True) as folder:
        environment = {"HOME": folder, "PATH": "/usr/bin:/bin", "TMPDIR": folder}
        driver = daemon.start(
            "chromedriver",
            Path(folder) / "driver.log",
            lambda port: [str(programs["chromedriver"]), f"--port={port}"],
            environment,
        )
        try:
            with httpx2.Client(
                base_url=f"http://127.0.0.1:{driver.port}", timeout=2 * _PATIENCE_MS / 1000, trust_env=False
            ) as client:
                options = {
                    "binary": str(programs["chromium"]),
                    "args": [*_ARGUMENTS, f"--user-data-dir={folder}/profile"],
                }
                wanted = {"goog:chromeOptions": options, "timeouts": {"implicit": _PATIENCE_MS}}
                made = _value(client.post("/session", json={"capabilities": {"alwaysMatch": wanted}}))
                try:
                    yield Browser(client, made["sessionId"])
                finally:
                    client.delete(f"/session/{made['sessionId']}")
        finally:
            driver.stop()


def _value(answer: httpx2.Response) -> Any:
    assert answer.is_success, answer.text
    return answer.json()["value"]

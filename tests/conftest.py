"""What every test may ask for: the real programs, and stock sshd hosts made of them."""

import os
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import hypothesis
import pytest
from tools import debian, parts

from jitgate.app import local_sshd
from jitgate.app.local_sshd import LocalHost

IN_CI = bool(os.environ.get("CI"))
UNIT = Path(__file__).parent / "unit"

# Timing is never asserted in tests. In CI a run can be repeated exactly; elsewhere each run looks further.
hypothesis.settings.register_profile("here", deadline=None, max_examples=50, print_blob=True)
hypothesis.settings.register_profile("ci", parent=hypothesis.settings.get_profile("here"), derandomize=True)
hypothesis.settings.load_profile("ci" if IN_CI else "here")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.is_relative_to(UNIT):
            item.add_marker(pytest.mark.disable_socket)


@pytest.fixture(scope="session")
def programs() -> Iterator[Mapping[str, Path]]:
    """{name: path} of each real program in tools/parts.py; those that were unpacked are put before PATH too."""
    try:
        found = parts.find(list(parts.PARTS))
    except debian.MissingError as error:
        what, hint = error.args
        if IN_CI:
            raise
        pytest.skip(f"{what} ({hint})")
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("PATH", f"{parts.unpacked_folder()}:{os.environ['PATH']}")
        yield found


@pytest.fixture
def start_sshd(programs: Mapping[str, Path]) -> Iterator[Callable[..., LocalHost]]:
    """`start_sshd("web1", "ubuntu", "deploy")`: a running stock sshd with these logins, stopped after the test."""
    assert programs
    hosts: list[LocalHost] = []
    with tempfile.TemporaryDirectory(prefix="jitgate-test-") as folder:
        Path(folder).chmod(0o755)

        def start(name: str, *logins: str) -> LocalHost:
            hosts.append(local_sshd.start(Path(folder) / name, name, logins, local_sshd.find_programs()))
            return hosts[-1]

        yield start
        for host in hosts:
            host.stop()

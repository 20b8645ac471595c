"""What every test may ask for: the real programs, and stock sshd hosts made of them."""

import asyncio
import gc
import inspect
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import hypothesis
import pytest
from tools import debian, parts, peers

from jitgate.app import local_sshd
from jitgate.app.local_sshd import LocalHost

if TYPE_CHECKING:  # tests that need no service do not load one
    from tests.postgres import Postgres
    from tests.service import Nursery, Service
    from tests.world import World

    from jitgate.app.demo.openbao import OpenBao

IN_CI = bool(os.environ.get("CI"))
UNIT = Path(__file__).parent / "unit"

# Timing is never asserted in tests. In CI a run can be repeated exactly; elsewhere each run looks further.
hypothesis.settings.register_profile("here", deadline=None, max_examples=50, print_blob=True)
hypothesis.settings.register_profile("ci", parent=hypothesis.settings.get_profile("here"), derandomize=True)
hypothesis.settings.load_profile("ci" if IN_CI else "here")


# Who starts a job in the background ignores these for it, and the programs under test would inherit that.
for _each in (signal.SIGINT, signal.SIGQUIT, signal.SIGHUP):
    if signal.getsignal(_each) is signal.SIG_IGN:
        signal.signal(_each, signal.default_int_handler if _each is signal.SIGINT else signal.SIG_DFL)


# Programs that `make test` has unpacked on a machine that lacks them: some tests look for theirs when they are read.
os.environ["PATH"] += f":{parts.unpacked_folder()}"

# Tests start Python a thousand times; where this is set, each would compile all that it imports anew.
sys.dont_write_bytecode = False
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

# In memory, where there is room and programs may run: thousands of databases and folders are made, synced and removed.
# The kernel keeps them when a process is killed, as it keeps a disk's; no test cuts the power.
MEMORY = Path("/dev/shm")
ROOM = 2 << 30
if (
    "TMPDIR" not in os.environ
    and os.access(MEMORY, os.W_OK)
    and not os.statvfs(MEMORY).f_flag & os.ST_NOEXEC
    and shutil.disk_usage(MEMORY).free > ROOM
):
    os.environ["TMPDIR"] = tempfile.tempdir = str(MEMORY)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.is_relative_to(UNIT):
            item.add_marker(pytest.mark.disable_socket)


def pytest_collection_finish() -> None:
    gc.freeze()  # thousands of tests and all modules stay: nobody looks through them again and again for garbage


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """A test that is a coroutine runs in an event loop of its own."""
    if not inspect.iscoroutinefunction(pyfuncitem.obj):
        return None
    names = inspect.signature(pyfuncitem.obj).parameters
    asyncio.run(pyfuncitem.obj(**{name: pyfuncitem.funcargs[name] for name in names}))
    return True


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


@pytest.fixture(scope="session")
def dex() -> Path:
    """The real Dex, which `make test` has built."""
    if not (program := peers.place("dex")).is_file():
        what = "Dex is not built here: python3 -m tools.peers dex"
        pytest.fail(what) if IN_CI else pytest.skip(what)
    return program


@pytest.fixture(scope="session")
def postgres(programs: Mapping[str, Path]) -> "Iterator[Postgres]":
    """A running PostgreSQL, one for all tests that do not stop it (tests/postgres.py)."""
    from tests.postgres import Postgres  # noqa: PLC0415  # most tests need none

    server = Postgres(programs["initdb"], programs["postgres"])
    try:
        server.start()
        yield server
    finally:
        server.close()


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


@pytest.fixture(scope="session")
def world_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from tests.world import make_template  # noqa: PLC0415  # loading it takes seconds

    folder = tmp_path_factory.mktemp("world", numbered=True)
    make_template(folder)
    return folder


@pytest.fixture(scope="session")
def world_in_postgres(postgres: "Postgres", tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The same on PostgreSQL: its folder and the name of a database to copy."""
    from tests.world import make_template  # noqa: PLC0415  # loading it takes seconds

    folder, name = tmp_path_factory.mktemp("world", numbered=True), postgres.create()
    make_template(folder, postgres.url(name))
    return folder, name


@pytest.fixture
def database() -> str:
    """The kind of database under the service; a test marked `databases` is run on each."""
    return "sqlite"


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if metafunc.definition.get_closest_marker("databases"):
        metafunc.parametrize("database", ["sqlite", "postgres"])


@pytest.fixture
def world(database: str, request: pytest.FixtureRequest, tmp_path: Path) -> "Iterator[World]":
    """The service in this process: real store and application, a clock that stands still (tests/world.py)."""
    from tests.world import open_world  # noqa: PLC0415  # loading it takes seconds

    if database == "sqlite":
        with open_world(request.getfixturevalue("world_template"), tmp_path) as opened:
            yield opened
    else:
        server: Postgres = request.getfixturevalue("postgres")
        folder, name = request.getfixturevalue("world_in_postgres")
        with server.database(name) as url, open_world(folder, tmp_path, url) as opened:
            yield opened


@pytest.fixture(scope="session")
def openbao(tmp_path_factory: pytest.TempPathFactory) -> "Iterator[OpenBao]":
    """A real OpenBao with TLS and raft storage, one for all tests that leave others alone (tests/openbao.py)."""
    from tests.openbao import running_bao  # noqa: PLC0415  # loading it takes seconds

    with running_bao(tmp_path_factory.mktemp("openbao")) as bao:
        yield bao


@pytest.fixture(scope="session")
def nursery() -> "Iterator[Nursery]":
    from tests.service import Nursery  # noqa: PLC0415  # loading it takes seconds

    started = Nursery()
    yield started
    started.close()


@pytest.fixture
def install(nursery: "Nursery", database: str, request: pytest.FixtureRequest) -> "Iterator[Callable[..., Service]]":
    """`install()`: a new installation whose service does not run yet (tests/service.py); removed after the test."""
    from tests.service import new_service  # noqa: PLC0415  # loading it takes seconds

    with ExitStack() as stack:

        def new(**settings: Any) -> "Service":
            if database == "postgres" and not {"database", "join"} & settings.keys():
                server: Postgres = request.getfixturevalue("postgres")
                settings["database"] = stack.enter_context(server.database())
            return stack.enter_context(new_service(nursery, **settings))

        yield new


@pytest.fixture(scope="session")
def service(nursery: "Nursery") -> "Iterator[Service]":
    """The real `jitgate serve`, one for all tests that leave others alone: each makes persons and hosts of its own.

    It speaks plain HTTP, has the role of `service.ROLES` in force and a host `web1`.
    """
    from tests.service import ROLES, new_service  # noqa: PLC0415  # loading it takes seconds

    with new_service(nursery) as started:
        started.start()
        started.apply(ROLES)
        started.add_host("web1")
        yield started
        assert started.stop() == 0, started.words()

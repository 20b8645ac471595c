"""`.venv`: the checkout's Python environment, made from `requirements/*.txt` by hash; run again only when they change.

`python3 -m tools.bootstrap server|dev`. Uses uv where there is one, else plain `venv` and pip. A fresh Debian has
neither pip nor ensurepip: then pip is Debian's own wheel (package python3-pip-whl), unpacked into the cache folder.
The project itself is linked by a `.pth` file and two start scripts: no build backend is needed for that.
"""

from __future__ import annotations

import fcntl
import hashlib
import importlib.util
import os
import platform
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

from tools.debian import MissingError, say, unpacked

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
PYTHON = VENV / "bin" / "python"
DEBIAN_WHEELS = Path("usr/share/python-wheels")
# Settings of a machine or a shell that would change what is installed, or where.
IGNORED = ("FIND_LINKS", "USER", "TARGET", "PREFIX", "REQUIRE_VIRTUALENV", "CONSTRAINT", "REQUIREMENT", "NO_BINARY")

# An entry point that works whatever the length of the path and whatever is in it.
SCRIPT = """\
#!/bin/sh
'''exec' "{python}" "$0" "$@"
' '''
import sys

from {module} import {function}

sys.exit({function}())
"""


def main(which: str) -> None:
    folder = os.open(ROOT, os.O_RDONLY)  # held until we exit, so that two calls do not meet in .venv
    fcntl.flock(folder, fcntl.LOCK_EX)
    requirements = ROOT / "requirements" / f"{which}.txt"
    stamp = VENV / f".{which}"
    wanted = hashlib.sha256(requirements.read_bytes() + platform.python_version().encode()).hexdigest()
    if not _usable():
        _create()
    if not stamp.is_file() or stamp.read_text() != wanted:
        stamp.unlink(missing_ok=True)
        install(requirements, PYTHON)
        stamp.write_text(wanted)
    _link()


def _usable() -> bool:
    """Whether `.venv` is there and of the Python that runs this."""
    if not PYTHON.exists():
        return False
    probe = subprocess.run(
        [PYTHON, "-c", "import platform; print(platform.python_version())"], capture_output=True, text=True, check=False
    )
    return probe.stdout.strip() == platform.python_version()


def _create() -> None:
    say(f"making .venv with Python {platform.python_version()}")
    if VENV.exists():
        shutil.rmtree(VENV)
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", VENV], check=True)


def install(requirements: Path, python: Path, *where: str) -> None:
    """Installs what the file names, by hash, for `python`; `where`: options of pip and uv alike, such as --target."""
    count = sum(1 for line in requirements.read_text().splitlines() if line[:1].isalnum())
    what = f"{count} package{'s' * (count != 1)} of {requirements.relative_to(ROOT)}"
    environment = _clean_environment()
    options = ["--require-hashes", "--only-binary", ":all:", *where, "-r", str(requirements)]
    if _works("uv"):
        say(f"installing {what} with uv")
        command = ["uv", "pip", "install", "--quiet", "--python", str(python), *options]
        if subprocess.run(command, env=environment, check=False).returncode == 0:
            return
        say("uv could not; trying pip")
    pip = _pip_wheel()
    say(f"installing {what} with pip (a minute or so)")
    command = [str(python), "-m", "pip", "--disable-pip-version-check", "install", "--quiet", "--no-input", *options]
    if subprocess.run(command, env=environment | {"PYTHONPATH": str(pip)}, check=False).returncode != 0:
        failed = f"pip could not install {requirements.relative_to(ROOT)} (its words are above)"
        raise MissingError(failed, "is there a way to PyPI? PIP_INDEX_URL names a mirror")


def _works(program: str) -> bool:
    found = shutil.which(program)
    return found is not None and subprocess.run([found, "--version"], capture_output=True, check=False).returncode == 0


def _clean_environment() -> dict[str, str]:
    ignored = {f"{tool}_{name}" for tool in ("PIP", "UV") for name in IGNORED} | {"PYTHONPATH", "PYTHONHOME"}
    return {name: value for name, value in os.environ.items() if name not in ignored}


def _pip_wheel() -> Path:
    """A pip wheel to run pip from: Python's own (ensurepip), the machine's, else Debian's package."""
    folders = []
    if (bundled := importlib.util.find_spec("ensurepip")) and bundled.origin:
        folders.append(Path(bundled.origin).parent / "_bundled")
    folders.append(Path("/") / DEBIAN_WHEELS)
    for folder in folders:
        if wheels := sorted(folder.glob("pip-*.whl")):
            return wheels[-1]
    return next((unpacked(["python3-pip-whl"]) / DEBIAN_WHEELS).glob("pip-*.whl"))


def _link() -> None:
    """Make `.venv` import `src/` and have the project's commands."""
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    _put(VENV / "lib" / version / "site-packages" / "jitgate.pth", f"{ROOT / 'src'}\n")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    for name, target in project["scripts"].items():
        module, function = target.split(":")
        _put(VENV / "bin" / name, SCRIPT.format(python=PYTHON, module=module, function=function))
        (VENV / "bin" / name).chmod(0o755)


def _put(path: Path, text: str) -> None:
    if not path.is_file() or path.read_text() != text:
        path.write_text(text)


if __name__ == "__main__":
    try:
        main(sys.argv[1])
    except MissingError as error:
        what, hint = error.args
        sys.exit(f"make: error: {what}\nmake: hint: {hint}")

"""Coverage-guided fuzzing: python -m tests.fuzz NAME [ARGUMENTS OF LIBFUZZER]

Needs atheris, which there is not for every Python. Without -max_total_time=SECONDS it runs until it finds something.
"""

import importlib
import sys
import tempfile
from pathlib import Path


def main(program: str, *arguments: str) -> int:
    try:
        atheris = importlib.import_module("atheris")
    except ImportError:
        sys.stderr.write("fuzz: error: atheris is not installed\nfuzz: hint: pip install atheris\n")
        return 1
    with atheris.instrument_imports(include=["jitgate"]):
        from tests.fuzz import targets  # noqa: PLC0415  # so that what it imports is instrumented
    known = targets.seeds()
    if not arguments or arguments[0] not in known:
        sys.stderr.write(f"fuzz: error: no such target\nfuzz: hint: name one of {', '.join(known)}\n")
        return 2
    target, inputs = known[arguments[0]]
    with tempfile.TemporaryDirectory(prefix="fuzz-") as folder:
        for i, data in enumerate(inputs):
            (Path(folder) / f"seed{i}").write_bytes(data)
        atheris.Setup([program, *arguments[1:], folder], lambda data: targets.check(target, data) and None)
        atheris.Fuzz()
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv))

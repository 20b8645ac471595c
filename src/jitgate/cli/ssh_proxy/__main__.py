"""What ssh runs: `PYTHON -I -S THIS_FOLDER TICKETFILE`. The work is in modules: Python keeps those compiled."""

import posix
import sys


def _main(arguments: list[str]) -> int:
    # this folder alone is what was added to the path, so its modules have short names
    verdict = None
    if len(arguments) == 1:
        try:
            verdict = __import__("fast").pass_on(arguments[0])
        except KeyboardInterrupt:
            return 130
        except Exception:  # noqa: BLE001  # whatever it is: tunnel.py does it, or says what is wrong
            verdict = None
        if verdict == b"":
            return 0
    status: int = __import__("tunnel").main(arguments, verdict)
    return status


if __name__ == "__main__":
    ended = _main(sys.argv[1:])
    sys.stderr.flush()
    posix._exit(ended)  # noqa: SLF001  # ssh waits for the end: nothing is left to tidy

"""A secret that an operator put into a file."""

from pathlib import Path

from jitgate.core.errors import BadInput, NotFound, Unsafe
from jitgate.core.secret import Secret

SECRET_MAX = 4096  # characters


def read_secret(path: str) -> Secret[str]:
    """A secret's file: one line, 0600. Empty for no path."""
    if not path:
        return Secret("")
    try:
        if Path(path).stat().st_mode & 0o077:
            raise Unsafe(f"{path} can be read by others", f"chmod 600 {path}")
        text = Path(path).read_text().strip()
    except FileNotFoundError:
        raise NotFound(f"no file {path}", "it holds a secret, and is 0600") from None
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(f"cannot read {path}: {error}") from None
    if not 0 < len(text) <= SECRET_MAX or not text.isprintable():
        raise BadInput(f"{path} holds no secret", "one line of text")
    return Secret(text)

"""Opening a person's browser, or knowing why there is none."""

import os
import sys
import threading

from jitgate.cli.out import warn

_DISPLAYS = ("DISPLAY", "WAYLAND_DISPLAY", "WSL_DISTRO_NAME")


def why_none() -> str:
    """Why no browser can be opened here, in words; empty if one probably can. BROWSER always counts."""
    if os.environ.get("BROWSER"):
        return ""
    if os.environ.get("SSH_CONNECTION") or os.environ.get("SSH_TTY"):
        return "this is an ssh session: a browser would open on the other machine"
    if sys.platform == "linux" and not any(os.environ.get(name) for name in _DISPLAYS):
        return "there is no display for a browser here"
    return ""


def open_browser(url: str) -> None:
    """Begins to open it; a browser that runs in the terminal would not return before it is closed."""

    def run() -> None:
        import webbrowser  # noqa: PLC0415  # only needed here

        if not webbrowser.open(url):
            warn("no browser could be opened: visit the address yourself")

    threading.Thread(target=run, daemon=True).start()

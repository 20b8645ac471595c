"""`python -m jitgate` is `jitgate`."""

from jitgate.app.main import main

main()

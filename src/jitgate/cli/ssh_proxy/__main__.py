"""What ssh runs: `PYTHON -I -S THIS_FOLDER TICKETFILE`. The work is in a module: Python keeps those compiled."""

import sys

# this folder alone is what is added to the path then, so the module has a short name
sys.exit(__import__("tunnel").main(sys.argv[1:]))

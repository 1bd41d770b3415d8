"""The real agent, which is told to stop after so long: `python briefly.py SECONDS CONFIG`."""

from __future__ import annotations

import os
import signal
import sys

from gateway.__main__ import main

if __name__ == "__main__":
    seconds, config = sys.argv[1:]
    signal.signal(signal.SIGALRM, lambda *_: os.kill(os.getpid(), signal.SIGTERM))
    signal.setitimer(signal.ITIMER_REAL, float(seconds))
    sys.argv = ["gateway", "run", "--config", config]
    sys.exit(main())

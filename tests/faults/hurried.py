"""The agent with other times of its uplink than the product's, so that no test waits a minute: hurried.py PACE SITE."""

from __future__ import annotations

import functools
import json
import sys
from pathlib import Path

from gateway import app, log
from gateway.settings import load
from gateway.uplink.pump import Pace

app.Publisher = functools.partial(app.Publisher, pace=Pace(**json.loads(sys.argv[1])))
log.set_up()
app.run(load(Path(sys.argv[2])))

"""Print the two variables that switch tracing on."""

from __future__ import annotations

import os
import sys

from semtrace.instrument.bootstrap import SWITCH, environment

traced = environment(os.environ)
sys.stdout.write(f"{SWITCH}={traced[SWITCH]}\nPYTHONPATH={traced['PYTHONPATH']}\n")

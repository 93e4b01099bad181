"""Settings for all tests."""

from __future__ import annotations

import os

from hypothesis import settings

# Before anything imports matplotlib, here or in a subprocess: no test may need a display.
os.environ["MPLBACKEND"] = "Agg"

# No deadline: the first call of anything that loads torch takes seconds. In CI the same examples every time.
settings.register_profile("local", deadline=None)
settings.register_profile("ci", deadline=None, derandomize=True, print_blob=True)
settings.load_profile("ci" if os.environ.get("CI") else "local")

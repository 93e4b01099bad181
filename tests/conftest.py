"""Settings for all tests."""

from __future__ import annotations

import os

from hypothesis import settings

# Before anything imports matplotlib, here or in a subprocess: no test may need a display.
os.environ["MPLBACKEND"] = "Agg"

# Before anything imports torch: on networks this small a second thread gains nothing, and on a busy machine the
# threads wait for each other a hundred times longer than they compute.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# No deadline: the first call of anything that loads torch takes seconds. In CI the same examples every time.
settings.register_profile("local", deadline=None)
settings.register_profile("ci", deadline=None, derandomize=True, print_blob=True)
settings.load_profile("ci" if os.environ.get("CI") else "local")

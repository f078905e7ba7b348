"""What all tests share."""

import os

from hypothesis import settings

# Small models gain nothing from threads, and threads of several test runs hinder each other.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# A busy machine is no reason to fail: time is for benchmarks. Where a change is judged, the same
# examples are drawn each time, so that what fails is the change; elsewhere new ones are looked for.
settings.register_profile("untimed", deadline=None, derandomize="CI" in os.environ)
settings.load_profile("untimed")

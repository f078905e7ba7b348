"""What all tests share."""

import os

from hypothesis import settings

# Small models gain nothing from threads, and threads of several test runs hinder each other.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# A busy machine is no reason to fail: time is for benchmarks.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")

"""What all tests share."""

import os

# Small models gain nothing from threads, and threads of several test runs hinder each other.
os.environ.setdefault("OMP_NUM_THREADS", "1")

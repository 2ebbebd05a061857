"""Tests run side by side on few cores: one thread each, for their child processes too."""

import os

os.environ["OMP_NUM_THREADS"] = "1"

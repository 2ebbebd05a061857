"""Tests run side by side on few cores: one thread each. Their cache folder is their own."""

import atexit
import os
import shutil
import tempfile

os.environ["OMP_NUM_THREADS"] = "1"  # for their child processes too

os.environ["RESNEXT_CACHE"] = tempfile.mkdtemp(prefix="resnext-tests-")
atexit.register(shutil.rmtree, os.environ["RESNEXT_CACHE"], ignore_errors=True)

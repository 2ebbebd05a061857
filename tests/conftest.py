"""Tests run side by side on few cores: one thread each. Their cache folder is their own."""

import atexit
import multiprocessing
import os
import shutil
import tempfile
from concurrent.futures import ProcessPoolExecutor

import pytest

os.environ["OMP_NUM_THREADS"] = "1"  # for their child processes too

os.environ["RESNEXT_CACHE"] = tempfile.mkdtemp(prefix="resnext-tests-")
atexit.register(shutil.rmtree, os.environ["RESNEXT_CACHE"], ignore_errors=True)


@pytest.fixture(scope="session")
def interpret():
    """Calls a function of an importable module in a process where triton interprets kernels."""
    pytest.importorskip("triton")
    before = os.environ.get("TRITON_INTERPRET")
    os.environ["TRITON_INTERPRET"] = "1"
    try:
        pool = ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn"))
        pool.submit(os.getpid).result()  # the process begins with the first call
    finally:
        if before is None:
            del os.environ["TRITON_INTERPRET"]
        else:
            os.environ["TRITON_INTERPRET"] = before
    with pool:
        yield lambda function, *args, **options: pool.submit(function, *args, **options).result()

"""Tests run side by side on few cores: one thread each. Their cache folders are their own."""

import atexit
import multiprocessing
import os
import shutil
import tempfile
from concurrent.futures import ProcessPoolExecutor

import pytest

os.environ["OMP_NUM_THREADS"] = "1"  # for their child processes too


def _folder_of_its_own(variable: str) -> None:
    os.environ[variable] = tempfile.mkdtemp(prefix="resnext-tests-")
    atexit.register(shutil.rmtree, os.environ[variable], ignore_errors=True)


_folder_of_its_own("RESNEXT_CACHE")
if os.environ.pop("PYTHONDONTWRITEBYTECODE", None):  # each child process would compile torch anew
    _folder_of_its_own("PYTHONPYCACHEPREFIX")


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

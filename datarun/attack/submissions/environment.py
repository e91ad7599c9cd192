"""Looks for passwords and addresses in every environment in sight, its own included."""

import os

from attempts import attempt

HARMLESS = {
    *("PATH", "LANG", "TZ", "LC_CTYPE", "LD_LIBRARY_PATH", "CUDA_VISIBLE_DEVICES", "HOME", "PWD"),
    *("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "LOKY_MAX_CPU_COUNT"),
    *("PYTHONPATH", "PYTHONUTF8", "PYTHONDONTWRITEBYTECODE", "PYTHONHASHSEED"),
    *("TMPDIR", "GLIBC_TUNABLES"),
}


def attack(X, y):
    attempt("its own environment", lambda: set(os.environ) - HARMLESS)
    for process in ("self", *filter(str.isdigit, os.listdir("/proc"))):
        path = f"/proc/{process}/environ"
        attempt(path, lambda path=path: _names(path) - HARMLESS)
    attempt("arguments", _arguments)


def _names(path):
    variables = open(path, "rb").read().split(b"\0")
    return {variable.split(b"=")[0].decode() for variable in variables if b"=" in variable}


def _arguments():
    """Of any process that is not of the fold's own kind."""
    found = []
    for process in filter(str.isdigit, os.listdir("/proc")):
        words = open(f"/proc/{process}/cmdline", "rb").read()
        if words and b"consumer.execution.zygote" not in words:
            found.append(words[:50])
    return found

"""An honest submission, which also says what it finds of others: run after each attack."""

import builtins
import glob
import os
import resource
import signal
import sys

import numpy as np
from sklearn.ensemble import RandomForestRegressor

WHERE = ("/tmp", "/var/tmp", "/dev/shm", "/dev/mqueue", "~", "~/..", ".")


class Regressor:
    def fit(self, X, y):
        for found in traces():
            print("FOUND", found)
        self.ballast = np.ones(1 << 20)
        self.forest = RandomForestRegressor(n_estimators=8, random_state=0).fit(X, y)

    def predict(self, X):
        return self.forest.predict(X)


def traces():
    for folder in WHERE:
        yield from glob.glob(os.path.expanduser(folder) + "/*datarun-attack*")
    for where in (sys.modules, os.environ, vars(builtins)):
        yield from {"datarun-attack", "datarun_attack"} & set(where)
    yield from {"/tmp"} & set(sys.path)
    for path in ("/proc/sysvipc/msg", "/proc/sysvipc/sem", "/proc/sysvipc/shm"):
        yield from (line for line in open(path).readlines() if line.split()[0] == "55930")
    if np.geterr()["over"] == "raise":
        yield "numpy's error handling"
    if signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:
        yield "a signal's handler"
    if resource.getrlimit(resource.RLIMIT_DATA)[0] != resource.RLIM_INFINITY:
        yield "a limit of memory"
    yield from (f"process {name}" for name in os.listdir("/proc") if _is_neighbour(name))


def _is_neighbour(name):
    """Whether there is somebody besides this process and pid 1, where pids are the slot's own."""
    return name.isdigit() and os.getppid() == 0 and int(name) not in (1, os.getpid())

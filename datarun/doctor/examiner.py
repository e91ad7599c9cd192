"""A submission that looks around in its fold, and prints what it finds as JSON.

It runs as any submission does. Nothing of it is believed but that a door is open: for each
protection it tries to do what is not allowed.
"""

EXAMINER = '''
import ctypes, errno, json, os, resource, socket
from sklearn.dummy import DummyClassifier


def status(name):
    with open("/proc/self/status") as file:
        for line in file:
            if line.startswith(name + ":"):
                return line.split()[1:]
    return []


def refused(attempt):
    """The name of the error that the attempt ends with; None when it succeeds."""
    try:
        attempt()
    except OSError as error:
        return errno.errorcode.get(error.errno, str(error))
    return None


def connect():
    with socket.socket(socket.AF_INET) as one:
        one.settimeout(1)
        one.connect(("127.0.0.1", 9))


def examine():
    box = os.statvfs("/tmp")
    libc = ctypes.CDLL(None, use_errno=True)
    return {
        "uid": os.getuid(),
        "uid_map": open("/proc/self/uid_map").read().split(),
        "capabilities": {name: status(name)[0] for name in ("CapEff", "CapPrm", "CapBnd")},
        "no_new_privileges": status("NoNewPrivs")[0],
        "seccomp": status("Seccomp")[0],
        "namespaces": {
            name: os.readlink("/proc/self/ns/" + name) for name in os.listdir("/proc/self/ns")
        },
        "pids": sorted(int(name) for name in os.listdir("/proc") if name.isdigit()),
        "own_pid": os.getpid(),
        "connect": refused(connect),
        "netlink": refused(lambda: socket.socket(socket.AF_NETLINK, socket.SOCK_RAW).close()),
        "unshare": refused(lambda: libc_call(libc.unshare, 0x10000000)),
        "ptrace": refused(lambda: libc_call(libc.ptrace, 16, os.getppid(), 0, 0)),
        "write_usr": refused(lambda: open("/usr/datarun-doctor", "w").close()),
        "write_root": refused(lambda: open("/datarun-doctor", "w").close()),
        "top": sorted(os.listdir("/")),
        "etc": sorted(os.listdir("/etc")),
        "dev": sorted(os.listdir("/dev")),
        "box_bytes": box.f_blocks * box.f_frsize,
        "box_files": box.f_files,
        "environment": sorted(os.environ),
        "descriptors": sorted(int(name) for name in os.listdir("/proc/self/fd")),
        "limits": {
            name: resource.getrlimit(getattr(resource, "RLIMIT_" + name))[0]
            for name in ("NPROC", "CORE", "FSIZE", "NOFILE", "MEMLOCK", "CPU")
        },
        "host_name": socket.gethostname(),
    }


def libc_call(function, *arguments):
    if function(*arguments) == -1:
        raise OSError(ctypes.get_errno(), "refused")


class Classifier:
    def fit(self, X, y):
        print("EXAMINED " + json.dumps(examine()))
        self.dummy = DummyClassifier().fit(X, y)

    def predict_proba(self, X):
        return self.dummy.predict_proba(X)
'''

"""Attacks by what submissions are there to do: models, predictions, measurements."""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import partial

from datarun.attack.attack import ROOMY, Attack, Ending, Family, fails, regressor
from schemas.states import FailureKind, Phase

_attack = partial(Attack, Family.LEARNING)

_BLAMES = json.dumps({"kind": "data", "culprit": "organiser", "message": "his", "traceback": ""})
_UNPICKLED = """
    class Evil:
        def __reduce__(self):
            return os.system, ("touch /tmp/datarun-attack-unpickled",)
"""


def _bad(sentence: str) -> Ending:
    return fails(FailureKind.BAD_OUTPUT, sentence=f"bad_output: {sentence}", phase=Phase.VALIDATION)


def _bad_predictions() -> Iterator[Attack]:
    for name, predictions, sentence in (
        ("short", "np.zeros(len(X) - 1)", r"predictions have \d+ rows, expected \d+"),
        ("wide", "np.zeros((len(X), 7))", r"predictions have shape \(\d+, 7\), expected \(\d+,\)"),
        ("nan", "np.full(len(X), np.nan)", "predictions are not finite: row 0 is NaN"),
        ("infinite", "np.full(len(X), -np.inf)", "predictions are not finite: row 0 is infinite"),
        (
            "object",
            "np.array([Evil() for _ in X])",
            "predictions are of type object, expected numbers",
        ),
        (
            "complex",
            "np.full(len(X), 1j)",
            "predictions are of type complex128, expected numbers",
        ),
        (
            "text",
            "np.full(len(X), '0.0')",
            "predictions are of type <U3, expected numbers",
        ),
        ("ragged", "[[0] * (row % 3) for row in range(len(X))]", "predictions are not an array.*"),
        (
            "missing",
            "None",
            "predictions are not an array, but an object of type NoneType",
        ),
        (
            "structured",
            "np.zeros(len(X), dtype=[('a', 'f8')])",
            r"predictions are of type \[\('a', '<f8'\)\], expected numbers",
        ),
    ):
        yield _attack(
            f"{name}-predictions",
            f"Predicts `{predictions}`.",
            regressor(predict=f"return {predictions}", before=_UNPICKLED),
            _bad(sentence),
        )


ATTACKS = (
    *_bad_predictions(),
    _attack(
        "hundred-gigabytes",
        "Predicts an array of 100 GB that takes no memory until it is copied.",
        regressor(predict="return np.broadcast_to(np.zeros(1), (12_500_000_000,))"),
        fails(
            FailureKind.MEMORY,
            FailureKind.EXCEPTION,
            FailureKind.BAD_OUTPUT,
            sentence=r"memory: .* of 512\.0 MiB in validation"
            r"|.*MemoryError: Unable to allocate .* in validation"
            r"|bad_output: predictions take \d+ bytes; at most \d+ are read",
            phase=Phase.VALIDATION,
        ),
        harmful=True,
    ),
    _attack(
        "pickle-as-predictions",
        "Writes an npy file with a pickle in it to its worker's socket.",
        regressor(
            """
            import io
            file = io.BytesIO()
            np.save(file, np.array([Evil()] * 100), allow_pickle=True)
            for kind, payload in ((3, b""), (4, file.getvalue())):
                os.write(3, struct.pack(">BQ", kind, len(payload)) + payload)
            time.sleep(600)
            """,
            before=_UNPICKLED,
        ),
        _bad("predictions are no npy array that can be read"),
    ),
    _attack(
        "pickle-as-model",
        "Has a model that does harm when it is unpickled.",
        regressor("self.model = Evil(); print('trained')", before=_UNPICKLED),
        says="trained",
    ),
    _attack(
        "array-subclass",
        "Predicts an array of a class of its own, whose methods do something else.",
        regressor(
            predict="return np.zeros(len(X)).view(Liar)",
            before="""
                class Liar(np.ndarray):
                    @property
                    def shape(self):
                        return (1 << 40,)
                    def __len__(self):
                        return 7
                    def __array_finalize__(self, other):
                        print("finalized")
                    def astype(self, *_, **__):
                        os._exit(0)
                    def tobytes(self, *_, **__):
                        os._exit(0)
            """,
        ),
        says="finalized",
    ),
    _attack(
        "predictions-that-raise",
        "Predicts something that raises when it is made an array.",
        regressor(
            predict="return Raises()",
            before="""
                class Raises:
                    def __array__(self, *_, **__):
                        raise SystemExit(0)
            """,
        ),
        fails(
            FailureKind.EXCEPTION, sentence="SystemExit: 0 in validation", phase=Phase.VALIDATION
        ),
    ),
    _attack(
        "changes-its-data",
        "Overwrites X and y, and everything else that it finds mapped.",
        regressor(
            """
            y[:] = 0
            X[:] = 0
            frame = sys._getframe()
            while frame is not None:
                for value in list(frame.f_locals.values()):
                    if isinstance(value, np.ndarray):
                        try:
                            value.setflags(write=True)
                            value[...] = 0
                        except (ValueError, TypeError):
                            pass
                frame = frame.f_back
            print("changed")
            """,
            predict="""
            try:
                X.setflags(write=True)
                X[:] = 0
            except ValueError:
                pass
            libc = ctypes.CDLL(None)
            page = ctypes.c_void_p(X.ctypes.data & -4096)
            if libc.mprotect(page, X.nbytes, mmap.PROT_READ | mmap.PROT_WRITE) == 0:
                ctypes.memset(X.ctypes.data, 0, X.nbytes)
            return np.zeros(len(X))
            """,
        ),
        says="changed",
    ),
    _attack(
        "fakes-its-measurements",
        "Replaces clocks, counters and our own functions, and computes.",
        regressor("""
            import resource
            clock = time.process_time
            names = ("monotonic", "time", "perf_counter", "process_time", "times", "getrusage")
            for module in (time, os, resource):
                for name in names:
                    if hasattr(module, name):
                        setattr(module, name, lambda *_: 0.0)
            frame = sys._getframe().f_back
            while frame is not None:  # our functions that know of clocks
                frame.f_globals["time"] = types.SimpleNamespace(monotonic=lambda: 0.0)
                frame = frame.f_back
            until = clock() + 0.6
            while clock() < until:
                pass
            print("computed")
        """),
        cpu_seconds=0.5,
        says="computed",
    ),
    _attack(
        "hides-its-peak",
        "Takes memory for a moment only, and resets the kernel's record of it.",
        regressor("""
            for _ in range(2):
                taken = mmap.mmap(-1, 64 << 20, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
                for start in range(0, 64 << 20, 4096):
                    taken[start] = 1
                taken.close()
                try:
                    with open("/proc/self/clear_refs", "w") as file:
                        file.write("5")
                except OSError as error:
                    print("refused:", error)
            print("hidden")
        """),
        memory_kb=60_000,
        says="hidden",
    ),
    _attack(
        "patches-libraries",
        "Replaces functions of numpy, scikit-learn, json and socket by its own.",
        regressor("""
            import json, sklearn.base, sklearn.utils.validation
            lie = lambda *_, **__: (_ for _ in ()).throw(SystemExit(0))
            for module in (np, np.lib.format, sklearn.base, sklearn.utils.validation, json, socket):
                for name in list(vars(module)):
                    if callable(getattr(module, name)) and name not in ("zeros", "ndarray"):
                        try:
                            setattr(module, name, lie)
                        except (TypeError, AttributeError):
                            pass
            print("replaced")
        """),
        fails(
            FailureKind.EXCEPTION,
            FailureKind.CRASHED,
            sentence="SystemExit: 0 in validation|crashed: the failure could not be told; .*",
            phase=Phase.VALIDATION,
        ),
        says="replaced",
    ),
    _attack(
        "nested-jobs",
        "Asks for all cores, in every one of several processes.",
        regressor("""
            from joblib import Parallel, delayed
            from sklearn.ensemble import RandomForestRegressor
            forest = RandomForestRegressor(n_estimators=4, n_jobs=-1)
            Parallel(n_jobs=-1)(delayed(forest.fit)(X, y) for _ in range(2))
            print("trained")
        """),
        says="trained",
    ),
    _attack(
        "asks-for-input",
        "Waits for an answer from a terminal.",
        regressor("input('your password: ')"),
        fails(FailureKind.EXCEPTION, sentence="EOFError: EOF when reading a line in train"),
    ),
    _attack(
        "labels-in-an-exception",
        "Raises an error with all labels in its text, and a long chain of such errors.",
        regressor("""
            def deeper(level):
                if level == 0:
                    raise ValueError(" ".join(map(str, np.tile(y, 1000))))
                try:
                    deeper(level - 1)
                except ValueError as error:
                    raise ValueError(" ".join(map(str, np.tile(y, 1000)))) from error
            deeper(20)
        """),
        fails(FailureKind.EXCEPTION, sentence=r"ValueError: 2718\d+.* in train"),
    ),
    _attack(
        "fails-in-test",
        "Passes training and validation, and fails in the test.",
        regressor(
            predict="""
            self.calls = getattr(self, "calls", 0) + 1
            if self.calls == 2:
                raise RuntimeError("not with me")
            return np.zeros(len(X))
            """
        ),
        fails(
            FailureKind.EXCEPTION, sentence="RuntimeError: not with me in test", phase=Phase.TEST
        ),
    ),
    _attack(
        "reports-that-lie",
        "Blames the organiser in a report of its own.",
        regressor(
            f"""
            payload = {_BLAMES.encode()!r}
            os.write(3, struct.pack(">BQ", 6, len(payload)) + payload)
            time.sleep(600)
            """
        ),
        fails(FailureKind.DATA, sentence="his"),
        ROOMY,
    ),
)

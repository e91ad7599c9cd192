"""`import datarun` is quick and needs only the base install."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import datarun

ROOT = Path(datarun.__file__).parents[1]

BASE_INSTALL_ONLY = """
import sys

class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {
            "pandas", "sklearn", "scipy", "aio_pika", "psutil", "sqlalchemy", "alembic",
            "psycopg", "typer", "rich", "threadpoolctl", "joblib",
        }:
            raise ModuleNotFoundError(f"{name} is not in the base install")
        return None

sys.meta_path.insert(0, Missing())
import datarun
for name in datarun.__all__:
    getattr(datarun, name)
print(datarun.HoldOut(0.5, random_state=42), datarun.Custom("specific.py"))
from producer.report import Report
try:
    Report(1, "iris", ()).to_frame()
except ImportError as error:
    print(error)
"""


def _python(code: str) -> str:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_every_public_name_works_with_the_base_install_alone() -> None:
    out = _python(BASE_INSTALL_ONLY)

    assert "HoldOut(held_out_test=0.5, random_state=42)" in out
    assert "pip install pandas" in out


def test_importing_datarun_imports_nothing_heavy() -> None:
    out = _python("import datarun, sys; print(sorted(set(sys.modules) & {'numpy', 'pika'}))")

    assert out.strip() == "[]"


def test_an_unknown_name_is_an_attribute_error() -> None:
    assert not hasattr(datarun, "Clientele")
    assert "Client" in dir(datarun)

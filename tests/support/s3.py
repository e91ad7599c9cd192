"""A real S3 server: rclone's, on a folder, that can be killed and started again."""

from __future__ import annotations

import os
import secrets
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
import requests

from broker.loopback_ports import free_ports
from tests.support.deadline import wait_until

BUCKET = "datarun-parts"


class S3Server:
    """One bucket; every start is on the same port and the same folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (self.port,) = free_ports(1)
        self.url = f"s3://{BUCKET}/challenge"
        self._key, self._secret = secrets.token_hex(8), secrets.token_hex(16)
        self._process: subprocess.Popen[bytes] | None = None
        (folder / "data" / BUCKET).mkdir(parents=True)

    @property
    def environment(self) -> Mapping[str, str]:
        """For whoever uses it."""
        return {
            "AWS_ENDPOINT_URL_S3": f"http://127.0.0.1:{self.port}",
            "AWS_ACCESS_KEY_ID": self._key,
            "AWS_SECRET_ACCESS_KEY": self._secret,
            "AWS_EC2_METADATA_DISABLED": "true",
            "AWS_CONFIG_FILE": os.devnull,
            "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        }

    def start(self) -> None:
        """Start, and wait until it answers."""
        rclone = Path(sys.executable).with_name("rclone")
        with (self.folder / "rclone.log").open("ab") as log:
            self._process = subprocess.Popen(
                [
                    rclone,
                    "serve",
                    "s3",
                    "--addr",
                    f"127.0.0.1:{self.port}",
                    "--auth-key",
                    f"{self._key},{self._secret}",
                    str(self.folder / "data"),
                ],
                env={"PATH": os.defpath, "HOME": str(self.folder), "RCLONE_CONFIG": os.devnull},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        wait_until(self._answers, within=30, what=f"S3 ({self.folder / 'rclone.log'})")

    def kill(self) -> None:
        """-9, without any warning."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(10)

    def files(self) -> set[str]:
        """What is stored, relative to the bucket's prefix."""
        root = self.folder / "data" / BUCKET / "challenge"
        return {str(path.relative_to(root)) for path in root.rglob("*") if path.is_file()}

    def path(self, name: str) -> Path:
        """The file that holds an object."""
        return self.folder / "data" / BUCKET / "challenge" / name

    def _answers(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, (self.folder / "rclone.log").read_text()
        try:
            requests.get(self.environment["AWS_ENDPOINT_URL_S3"], timeout=5)
        except requests.ConnectionError:
            return False
        return True


@pytest.fixture(scope="module")
def s3_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """One for all tests of a file."""
    server = S3Server(tmp_path_factory.mktemp("s3"))
    server.start()
    yield server
    server.kill()


@pytest.fixture
def s3(s3_server: S3Server, monkeypatch: pytest.MonkeyPatch) -> S3Server:
    """The server, with its address and key in this process's environment."""
    for name, value in s3_server.environment.items():
        monkeypatch.setenv(name, value)
    return s3_server

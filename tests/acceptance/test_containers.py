"""The files for containers: well-formed, without secrets, and loosening no more than is needed.

What runs in them is tested in test_compose_services.py.
"""

from __future__ import annotations

import errno
import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest

from tests.support.compose import ROOT, compose_file, dockerfile, image_environment
from tests.support.container import contained, require_root
from tests.support.strict import require_strict

PROFILE = ROOT / "containers/seccomp.json"
SCHEMA = ROOT / "tests/vendor/compose/compose-spec.json"
OURS = {"setup", "users", "prepare", "folds", "collector", "gateway"}
ONCE = {"setup", "users"}
WORKERS = {"prepare", "folds"}
OBSTACLE = "from consumer.sandbox.levels import strict_obstacle; print(strict_obstacle())"
DOCTOR = """
import sys
sys.argv = ["datarun", "doctor"]
from datarun.cli.entry import main
main()
"""


# --- docker-compose.yml --------------------------------------------------------------------------


def test_the_compose_file_is_what_the_specification_takes():
    schema = json.loads(SCHEMA.read_text(encoding="utf-8"))
    validator = jsonschema_rs.Draft7Validator(schema)

    assert [str(error) for error in validator.iter_errors(compose_file())] == []
    # A schema that takes everything would show nothing
    wrong = compose_file()
    wrong["services"]["folds"]["health_check"] = {}
    assert not validator.is_valid(wrong)


def test_every_service_is_looked_after():
    services = compose_file()["services"]

    assert set(services) == OURS | {"rabbitmq", "postgres"}
    for name, service in services.items():
        if name in ONCE:  # The others wait until it has ended well.
            assert service["restart"] == "no"
            continue
        assert service["restart"] == "unless-stopped"
        assert service["healthcheck"]["test"][0] == "CMD"
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", ()))
    waited_for = dict.fromkeys(OURS - {*ONCE, "gateway"}, "users") | {"users": "setup"}
    for name, once in waited_for.items():
        assert services[name]["depends_on"][once] == {"condition": "service_completed_successfully"}
    # Folds grow by --scale: nothing of theirs can exist only once.
    assert not {"container_name", "hostname", "ports"} & set(services["folds"])


def test_what_is_named_is_there():
    compose = compose_file()

    used: dict[str, set[str]] = {"volumes": set(), "networks": set(), "secrets": set()}
    for service in compose["services"].values():
        used["volumes"] |= {volume.partition(":")[0] for volume in service.get("volumes", ())}
        used["networks"] |= set(service["networks"])
        for secret in service.get("secrets", ()):
            used["secrets"].add(secret if isinstance(secret, str) else secret["source"])
    for kind, names in used.items():
        assert names == set(compose[kind]), kind


def test_only_workers_are_loosened_and_all_of_ours_are_tightened():
    services = compose_file()["services"]

    for name in OURS:
        service = services[name]
        assert service["cap_drop"] == ["ALL"]
        assert service["read_only"] is True
        assert not {"privileged", "cap_add", "user", "pid", "network_mode"} & set(service)
    for name, service in services.items():
        assert "no-new-privileges:true" in service["security_opt"]
        loosened = set(service["security_opt"]) - {"no-new-privileges:true"}
        if name in WORKERS:
            assert loosened == {
                "seccomp=containers/seccomp.json",
                "systempaths=unconfined",
                "apparmor=unconfined",
            }
        else:
            assert not loosened
    # Whoever runs other people's code reaches RabbitMQ and nothing else.
    networks = compose_file()["networks"]
    for name in WORKERS:
        assert services[name]["networks"] == ["broker"]
    assert networks["broker"]["internal"] is True


def test_secrets_are_in_files_alone():
    compose = compose_file()

    for service in compose["services"].values():
        for name, value in (service.get("environment") or {}).items():
            assert name.endswith("_FILE") or not any(
                word in name for word in ("PASSWORD", "BROKER", "DATABASE", "SECRET")
            )
            assert "://" not in str(value)
    for secret in compose["secrets"].values():
        assert set(secret) == {"file"}
    ignored = (ROOT / ".gitignore").read_text().split()
    assert {"/secrets/", "/.env"} <= set(ignored)


def test_every_variable_has_a_default_and_is_in_the_example(tmp_path: Path):
    example = (ROOT / ".env.example").read_text(encoding="utf-8")
    text = (ROOT / "docker-compose.yml").read_text(encoding="utf-8")

    for line in example.splitlines():
        if "=" in line:
            # All of them are comments, so a copy changes nothing
            name = line.removeprefix("#").partition("=")[0]
            assert line.startswith("#")
            assert f"${{{name}:-" in text or f"      {name}:\n" in text, name
    compose_file()


def test_made_secrets_are_for_their_owner_and_stay(tmp_path: Path):
    def make() -> dict[str, str]:
        subprocess.run([ROOT / "containers/make-secrets", tmp_path / "s"], check=True, timeout=30)
        return {path.name: path.read_text() for path in (tmp_path / "s").iterdir()}

    # When they are made twice
    first = make()
    again = make()

    # Then those of the first time stay, and nobody else gets past the folder
    assert again == first
    assert (tmp_path / "s").stat().st_mode & 0o777 == 0o700
    files = {Path(secret["file"]).name for secret in compose_file()["secrets"].values()}
    assert set(first) == files | {"broker_client"}
    assert len(first["postgres_password"]) == 48
    assert first["postgres_password"] in first["database"]
    assert first["postgres_password"] not in first["broker_folds"]


# --- Dockerfile ----------------------------------------------------------------------------------


def test_the_image_is_built_from_what_is_there_and_runs_as_an_ordinary_user():
    instructions = dockerfile()
    last = instructions[-1].stage

    assert last == 1
    assert {one.name for one in instructions} <= {
        *("FROM", "RUN", "WORKDIR", "COPY", "LABEL", "ENV", "USER"),
        *("STOPSIGNAL", "CMD"),
    }
    ignored = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    for copy in (one for one in instructions if one.name == "COPY"):
        if "from" in copy.flags:
            assert copy.flags["from"] == "builder"
            continue
        for source in copy.arguments[:-1]:
            assert (ROOT / source).exists()
            assert f"!{source}" in ignored, f".dockerignore keeps {source} out"
    # The last word on who it is: no root, and a number, which an engine can check.
    (user,) = (one for one in instructions if one.name == "USER")
    assert user.stage == last
    assert user.arguments == ["10001:10001"]
    for run in (one for one in instructions if one.name == "RUN"):
        done = subprocess.run(["sh", "-n", "-c", " ".join(run.arguments)], timeout=10, check=False)
        assert done.returncode == 0
        assert "curl" not in run.text
    # All packages of the wheel go in
    packages = {path.parent.name for path in ROOT.glob("*/py.typed")}
    assert packages <= {one.arguments[0] for one in instructions if one.name == "COPY"}


def test_the_images_settings_are_settings():
    environment = image_environment()

    from schemas.settings import Settings

    known = {f"DATARUN_{name.upper()}" for name in Settings.model_fields} | {"DATARUN_SECRETS"}
    services = compose_file()["services"]
    given = {name for one in OURS for name in services[one].get("environment") or {}}
    for name in {*environment, *given}:
        assert name in known or not name.startswith("DATARUN_"), name
    assert environment["PATH"].startswith("/opt/datarun/bin:")


# --- level strict in a container -----------------------------------------------------------------


def strictness(profile: Path, *, mask_proc: bool = False) -> str:
    done = contained(OBSTACLE, profile, mask_proc=mask_proc)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def without(call: str, folder: Path) -> Path:
    """Our profile with one call as it is in Docker's, where the last rule is not."""
    profile: dict[str, Any] = json.loads(PROFILE.read_text(encoding="utf-8"))
    profile["syscalls"][-1]["names"].remove(call)
    if call == "clone":
        new_namespaces = {"index": 0, "value": 0x7E020000, "op": "SCMP_CMP_MASKED_EQ"}
        profile["syscalls"].append(
            {"names": ["clone"], "action": "SCMP_ACT_ALLOW", "args": [new_namespaces]}
        )
    path = folder / "profile.json"
    path.write_text(json.dumps(profile), encoding="utf-8")
    folder.chmod(0o755)
    return path


@pytest.fixture
def open_folder() -> Any:
    """A folder that the container's user can read, which pytest's are not."""
    import tempfile

    folder = Path(tempfile.mkdtemp(prefix="datarun-test-profile-"))
    yield folder
    shutil.rmtree(folder)


def test_strict_holds_in_a_container_with_what_the_compose_file_asks_for():
    require_root()
    require_strict()

    # Given an ordinary user without capabilities, with our profile and an open /proc
    done = contained(DOCTOR, PROFILE, mask_proc=False)

    # Then a whole strict fold runs, and every protection holds
    assert done.returncode == 0, done.stdout + done.stderr
    assert "strict isolation holds" in done.stdout


def test_without_systempaths_unconfined_the_worker_refuses_and_says_so():
    require_root()
    require_strict()

    obstacle = strictness(PROFILE, mask_proc=True)

    assert "--security-opt systempaths=unconfined" in obstacle


@pytest.mark.parametrize(
    "call", ["clone", "mount", "pivot_root", "sethostname", "umount2", "unshare"]
)
def test_each_call_that_the_profile_adds_is_needed(call: str, open_folder: Path):
    require_root()
    require_strict()

    assert strictness(without(call, open_folder)) != "None"


def test_the_profile_adds_those_calls_and_nothing_else():
    profile = json.loads(PROFILE.read_text(encoding="utf-8"))

    rules = profile["syscalls"]
    assert profile["defaultAction"] == "SCMP_ACT_ERRNO"
    assert {rule["action"] for rule in rules} == {"SCMP_ACT_ALLOW", "SCMP_ACT_ERRNO"}
    plain = [name for rule in rules for name in rule["names"] if not rule.get("includes")]
    for call in ("bpf", "ptrace", "kexec_load", "init_module", "setns", "keyctl", "reboot"):
        assert call not in plain
    assert sorted(rules[-1]["names"]) == [
        *("clone", "mount", "pivot_root", "sethostname", "umount2", "unshare"),
    ]
    (refused,) = (rule for rule in rules if rule["action"] == "SCMP_ACT_ERRNO")
    assert refused["names"] == ["clone3"]  # with ENOSYS, so that clone is asked instead
    assert refused["errnoRet"] == errno.ENOSYS

"""Settings come from arguments, the environment, a file, then defaults; errors name the setting."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from schemas.errors import ConfigurationError
from schemas.permissions import BrokerUser
from schemas.settings import broker_url, find_home, load_settings, read_connection
from schemas.states import Isolation
from schemas.topology import QueueType


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty current folder, and no DATARUN_ variable."""
    for name in os.environ:
        if name.startswith("DATARUN_"):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def connection(folder: Path, text: str = 'broker = "amqp://found/"\n') -> Path:
    home = folder / ".datarun"
    home.mkdir(parents=True)
    (home / "connection.toml").write_text(text)
    return home


def test_defaults_make_one_machine_work():
    settings = load_settings()
    assert settings.home == Path(".datarun")
    assert settings.broker is None
    assert settings.queue_type is QueueType.CLASSIC
    assert settings.pools == ("default",)
    assert settings.wall_seconds == 1200


def test_arguments_go_before_the_environment_and_that_before_the_file(
    folder: Path, monkeypatch: pytest.MonkeyPatch
):
    # Given three settings in the file, two of them in the environment, one of those as argument
    (folder / "datarun.toml").write_text("slots = 1\nmax_attempts = 1\nprocesses = 1\n")
    monkeypatch.setenv("DATARUN_SLOTS", "2")
    monkeypatch.setenv("DATARUN_MAX_ATTEMPTS", "2")
    settings = load_settings(slots=3, isolation=None)

    # Then each comes from the nearest
    assert (settings.slots, settings.max_attempts, settings.processes) == (3, 2, 1)
    assert settings.isolation is None


def test_the_environment_sets_every_kind_of_value(monkeypatch: pytest.MonkeyPatch):
    for name, value in {
        "BROKER": "amqps://user:secret@host/v",
        "QUEUE_TYPE": "quorum",
        "ISOLATION": "strict",
        "POOLS": "cpu, gpu",
        "WALL_SECONDS": "1.5",
        "CONSUMER_TIMEOUT_RAISED": "true",
        "HOME": "/srv/datarun",
    }.items():
        monkeypatch.setenv(f"DATARUN_{name}", value)
    settings = load_settings()
    assert settings.queue_type is QueueType.QUORUM
    assert settings.isolation is Isolation.STRICT
    assert settings.pools == ("cpu", "gpu")
    assert settings.wall_seconds == 1.5
    assert settings.consumer_timeout_raised
    assert settings.home == Path("/srv/datarun")
    assert "secret" not in repr(settings)
    assert broker_url() == "amqps://user:secret@host/v"


@pytest.mark.parametrize("text", ["cpu,gpu", " cpu , gpu ", '["cpu", "gpu"]'])
def test_pools_are_names_with_commas_or_a_json_list(text: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("DATARUN_POOLS", text)
    assert load_settings().pools == ("cpu", "gpu")


def test_datarun_settings_names_another_file(folder: Path, monkeypatch: pytest.MonkeyPatch):
    (folder / "other.toml").write_text('pools = ["a", "b"]\n')
    monkeypatch.setenv("DATARUN_SETTINGS", "other.toml")
    assert load_settings().pools == ("a", "b")


def test_a_settings_file_that_is_named_and_missing_is_said(
    folder: Path, monkeypatch: pytest.MonkeyPatch
):
    for name in ("missing.toml", str(folder)):
        monkeypatch.setenv("DATARUN_SETTINGS", name)
        with pytest.raises(ConfigurationError, match=rf"DATARUN_SETTINGS names '{name}'"):
            load_settings()


def test_the_null_device_means_no_settings_file(folder: Path, monkeypatch: pytest.MonkeyPatch):
    # Given a settings file in the current folder, which a child process is not to read
    (folder / "datarun.toml").write_text("slots = 7\n")
    monkeypatch.setenv("DATARUN_SETTINGS", os.devnull)
    assert load_settings().slots is None


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("slots", "0"),
        ("slots", "many"),
        ("queue_type", "stream"),
        ("isolation", "total"),
        ("wall_seconds", "0.09"),
        ("cpu_seconds", "0.09"),
        ("max_attempts", "1.5"),
        ("log_level", "LOUD"),
        ("pools", "a b"),
        ("pools", ""),
        ("pools", "a,,b"),
        ("pools", "[a"),
        ("pools", "[]"),
        ("pools", "[[1]]"),
        ("pool", "../x"),
    ],
)
def test_an_error_names_the_setting_and_its_variable(
    name: str, value: str, folder: Path, monkeypatch: pytest.MonkeyPatch
):
    # Given a wrong value, in the environment and then in the file
    sentence = rf"setting {name} \(DATARUN_{name.upper()}\): (?!Value error)\S"
    monkeypatch.setenv(f"DATARUN_{name.upper()}", value)
    with pytest.raises(ConfigurationError, match=sentence):
        load_settings()
    monkeypatch.delenv(f"DATARUN_{name.upper()}")
    (folder / "datarun.toml").write_text(f"{name} = '{value}'\n")
    with pytest.raises(ConfigurationError, match=sentence):
        load_settings()


def test_a_misspelt_setting_in_the_file_is_not_silently_ignored(folder: Path):
    (folder / "datarun.toml").write_text("max_atempts = 1\n")
    says = r"datarun\.toml: .*max_atempts.*mean max_attempts"
    with pytest.raises(ConfigurationError, match=says):
        load_settings()


def test_another_variable_with_our_prefix_is_no_error(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("DATARUN_OF_SOMEBODY_ELSE", "1")
    load_settings()


@pytest.mark.parametrize("content", [b"slots = ", b"\xff\xfe", b"slots = 1\nslots = 2\n"])
def test_a_settings_file_that_is_not_toml_is_said(folder: Path, content: bytes):
    (folder / "datarun.toml").write_bytes(content)
    with pytest.raises(ConfigurationError, match="cannot read the settings file"):
        load_settings()


def test_home_is_found_upwards(folder: Path, monkeypatch: pytest.MonkeyPatch):
    # Given a .datarun/ two folders up, and a nearer one without a connection file
    home = connection(folder)
    below = folder / "a" / "b"
    (below / ".datarun").mkdir(parents=True)

    # Then the one with a connection file is found, from there and from the current folder
    assert find_home(below) == home
    monkeypatch.chdir(below)
    assert find_home() == home
    assert broker_url() == "amqp://found/"


def test_a_stack_that_is_stopped_hides_one_that_runs_above(
    folder: Path, monkeypatch: pytest.MonkeyPatch
):
    # Given a running stack, with users of a broker, and a nearer one that was started once
    home = connection(folder)
    (home / "broker-users.toml").write_text('producer = "amqp://of-the-users/"\n')
    stopped = folder / "a" / ".datarun"
    stopped.mkdir(parents=True)
    (stopped / "up.lock").touch()

    # When a broker is looked for at a place below both, then it is said that the nearer one rests
    below = folder / "a" / "b"
    below.mkdir()
    monkeypatch.chdir(below)
    assert find_home() is None
    with pytest.raises(ConfigurationError, match=f"the stack of {stopped} is not running"):
        broker_url()


def test_no_home_is_found_where_there_is_none(folder: Path):
    assert find_home(folder) is None


def test_datarun_home_is_the_only_place_looked_at(folder: Path, monkeypatch: pytest.MonkeyPatch):
    # Given a connection file upwards, and DATARUN_HOME elsewhere
    connection(folder)
    elsewhere = connection(folder / "elsewhere", 'broker = "amqp://elsewhere/"\n')
    monkeypatch.setenv("DATARUN_HOME", str(elsewhere))
    assert find_home() == elsewhere
    assert broker_url() == "amqp://elsewhere/"

    # Then without a connection file there, none is found
    monkeypatch.setenv("DATARUN_HOME", str(folder / "nothing"))
    assert find_home() is None


def test_the_broker_comes_from_the_nearest_source(folder: Path, monkeypatch: pytest.MonkeyPatch):
    connection(folder)
    assert broker_url() == "amqp://found/"
    (folder / "datarun.toml").write_text('broker = "amqp://file/"\n')
    assert broker_url() == "amqp://file/"
    monkeypatch.setenv("DATARUN_BROKER", "amqp://environment/")
    assert broker_url() == "amqp://environment/"
    assert broker_url("amqps://argument/") == "amqps://argument/"


def test_each_user_finds_a_login_of_its_own(folder: Path):
    # Given the file of `datarun broker users`, then services and clients find theirs in it
    home = connection(folder)
    (home / "connection.toml").unlink()
    urls = "".join(f'{user} = "amqp://{user}:secret@kept/"\n' for user in BrokerUser)
    (home / "broker-users.toml").write_text(urls)
    assert broker_url() == "amqp://producer:secret@kept/"
    assert broker_url(user=BrokerUser.COLLECTOR) == "amqp://collector:secret@kept/"

    # And that of a running stack goes before it, with one login for those that it does not name
    running = 'broker = "amqp://found/"\n[users]\nworker = "amqp://worker@found/"\n'
    (home / "connection.toml").write_text(running)
    assert broker_url(user=BrokerUser.WORKER) == "amqp://worker@found/"
    assert broker_url(user=BrokerUser.COLLECTOR) == "amqp://found/"


def test_a_login_that_is_none_is_named(folder: Path):
    (folder / ".datarun").mkdir()
    (folder / ".datarun" / "broker-users.toml").write_text('producer = "secret"\n')
    with pytest.raises(ConfigurationError, match=r"broker-users\.toml, each value") as caught:
        broker_url()
    assert "secret" not in str(caught.value)


def test_files_for_tls_go_into_the_url_but_not_instead_of_others(
    folder: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("DATARUN_BROKER_CA", "ca file.pem")
    monkeypatch.setenv("DATARUN_BROKER_KEY", "/etc/own.key")
    assert broker_url("amqps://host/v?heartbeat=5&keyfile=/etc/other.key") == (
        f"amqps://host/v?cacertfile={folder}/ca%20file.pem&keyfile=/etc/other.key&heartbeat=5"
    )

    # Then without TLS they are refused, where somebody has named that broker, and else of no use
    with pytest.raises(ConfigurationError, match="not encrypted: write amqps://"):
        broker_url("amqp://host/v")
    connection(folder)
    assert broker_url() == "amqp://found/"


def test_without_a_broker_the_error_says_how_to_get_one():
    with pytest.raises(ConfigurationError, match=r"datarun up.*DATARUN_BROKER"):
        broker_url()


def test_a_stopped_stack_here_or_above_is_named_with_the_command_that_starts_it(
    folder: Path, monkeypatch: pytest.MonkeyPatch
):
    # Given the home of a stopped stack, and a nearer .datarun/ in which none ever ran
    home = folder / ".datarun"
    (folder / "below" / ".datarun").mkdir(parents=True)
    home.mkdir()
    (home / "up.lock").touch()

    # Then it is named, from its folder, from below, and by DATARUN_HOME
    says = f"the stack of {home} is not running; "
    with pytest.raises(ConfigurationError, match=f"^{says}`datarun up` starts it"):
        broker_url()
    monkeypatch.chdir(folder / "below")
    with pytest.raises(ConfigurationError, match=f"^{says}`datarun up --home {home}` starts it"):
        broker_url()
    monkeypatch.setenv("DATARUN_HOME", str(home))
    with pytest.raises(ConfigurationError, match=f"^{says}`datarun up` starts it"):
        broker_url()


def test_a_url_of_another_kind_is_refused_without_showing_its_password():
    for url in ("http://user:secret@host/", "", "host:5672", "redis://:secret@h"):
        with pytest.raises(ConfigurationError, match="amqp://") as caught:
            broker_url(url)
        assert "secret" not in str(caught.value)


@pytest.mark.parametrize("text", ["broker = ", "broker = 5", "broker = ['amqp://a/']"])
def test_a_connection_file_that_is_damaged_is_said(folder: Path, text: str):
    home = connection(folder, text)
    with pytest.raises(ConfigurationError, match=r"connection\.toml"):
        broker_url()
    (home / "connection.toml").write_bytes(b"\xff")
    with pytest.raises(ConfigurationError, match="cannot read"):
        read_connection(home)


def test_secrets_are_files_of_a_folder_and_go_between_the_environment_and_the_file(
    folder: Path, monkeypatch: pytest.MonkeyPatch
):
    # Given a folder as container engines fill it, a settings file, and one of them as a variable
    secrets = folder / "secrets"
    secrets.mkdir()
    (secrets / "datarun_broker").write_text("amqp://from-a-secret/\n")
    (secrets / "datarun_database").write_text("sqlite:///of-a-secret")
    (secrets / "postgres_password").write_text("somebody else's")
    (folder / "datarun.toml").write_text('broker = "amqp://of-the-file/"\nslots = 3\n')
    monkeypatch.setenv("DATARUN_SECRETS", str(secrets))
    monkeypatch.setenv("DATARUN_DATABASE", "sqlite:///of-the-environment")

    # Then each comes from the nearest
    settings = load_settings()
    assert settings.broker is not None
    assert settings.broker.get_secret_value() == "amqp://from-a-secret/"
    assert settings.database is not None
    assert settings.database.get_secret_value() == "sqlite:///of-the-environment"
    assert settings.slots == 3


def test_a_folder_of_secrets_that_is_named_and_missing_is_said(
    folder: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("DATARUN_SECRETS", str(folder / "missing"))
    with pytest.raises(ConfigurationError, match=r"DATARUN_SECRETS names .*missing"):
        load_settings()


@pytest.mark.parametrize(
    ("given", "is_read_as"),
    [
        ("file:///srv/datarun/blobs/", "file:///srv/datarun/blobs"),
        ("s3://bucket", "s3://bucket"),
        ("s3://bucket/some/prefix/", "s3://bucket/some/prefix"),
        ("gs://bucket/p", "gs://bucket/p"),
    ],
)
def test_an_object_store_is_a_url(given: str, is_read_as: str):
    assert load_settings(blobs=given).blobs == is_read_as


@pytest.mark.parametrize(
    "given",
    [
        "/srv/blobs",
        "file://relative/blobs",
        "file:///",
        "file:///srv/../etc",
        "s3://",
        "s3:///bucket",
        "https://host/bucket",
        "simplecache::s3://bucket",
        "s3://bucket/a?versionId=1",
        "s3://olga:sesame@bucket/prefix",
    ],
)
def test_a_url_of_no_object_store_is_refused_by_name_without_its_password(
    monkeypatch: pytest.MonkeyPatch, given: str
):
    monkeypatch.setenv("DATARUN_BLOBS", given)
    with pytest.raises(ConfigurationError, match=r"setting blobs \(DATARUN_BLOBS\)") as caught:
        load_settings()
    assert "sesame" not in str(caught.value)

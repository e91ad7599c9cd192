"""Settings: `DATARUN_*` environment variables, secrets in files, a TOML file, then defaults."""

from __future__ import annotations

import difflib
import json
import os
import shlex
import tomllib
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import parse_qsl, quote, urlencode, urlsplit

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr, ValidationError
from pydantic_settings import (
    BaseSettings,
    NoDecode,
    PydanticBaseSettingsSource,
    SecretsSettingsSource,
    SettingsConfigDict,
    SettingsError,
    TomlConfigSettingsSource,
)

from schemas.blobs import checked_store_url
from schemas.errors import ConfigurationError
from schemas.messages import LEAST_SECONDS, PoolName
from schemas.permissions import BrokerUser
from schemas.states import Isolation, Role
from schemas.topology import QueueType

HOME_NAME = ".datarun"
CONNECTION_FILE = "connection.toml"
"""Written by `datarun up`, mode 0600: broker, database, gateway and how to reach them."""

LOCK_FILE = "up.lock"
"""In the home of every stack that was ever started; locked while it runs."""

BROKER_USERS_FILE = "broker-users.toml"
"""Written by `datarun broker users`, mode 0600: an AMQP URL for each of RabbitMQ's users."""

SETTINGS_FILE = "datarun.toml"


class LogFormat(StrEnum):
    """How the lines of a service's log are written."""

    AUTO = "auto"
    """Text on a terminal, else JSON."""

    TEXT = "text"
    """The sentence, then `key=value`."""

    JSON = "json"
    """One JSON object a line."""


def _names(value: object) -> object:
    if not isinstance(value, str):
        return value
    if value.startswith("["):
        return json.loads(value)
    return tuple(name.strip() for name in value.split(","))


class Settings(BaseSettings):
    """Everything that can be set. Each field is also an environment variable, `DATARUN_<FIELD>`."""

    model_config = SettingsConfigDict(env_prefix="DATARUN_", extra="forbid", frozen=True)

    home: Path = Path(HOME_NAME)
    """Folder of the private node, the database, caches and logs."""

    broker: SecretStr | None = None
    """AMQP URL; None: the private node that connection.toml names."""

    broker_ca: Path | None = None
    """PEM file of the authority that RabbitMQ's certificate is from; None: the system's."""

    broker_cert: Path | None = None
    """PEM file of a client certificate (and those between it and its authority), for TLS."""

    broker_key: Path | None = None
    """PEM file of its key, without a passphrase; None: in the certificate's file."""

    management: SecretStr | None = None
    """URL of RabbitMQ's management API, with an administrator and his password."""

    database: SecretStr | None = None
    """SQLAlchemy URL; None: SQLite in `home`."""

    blobs: Annotated[str, AfterValidator(checked_store_url)] | None = None
    """Object store of the parts of data sets: `file:///srv/datarun/blobs`, `s3://bucket/prefix`.
    None: they are streams of RabbitMQ. The same for the collector and every worker; an own endpoint
    and credentials as AWS_ENDPOINT_URL_S3, AWS_ACCESS_KEY_ID and so on."""

    queue_type: QueueType = QueueType.CLASSIC
    role: Role = Role.FOLDS
    """What a worker takes from the queues."""

    pool: PoolName = "default"
    pools: Annotated[
        tuple[PoolName, ...], NoDecode, BeforeValidator(_names), Field(min_length=1)
    ] = ("default",)
    """Pools of workers that `broker setup` declares queues for; as a variable `a, b`, or JSON."""

    slots: Annotated[int, Field(ge=1)] | None = None
    """Folds at one time; None: one a core."""

    isolation: Isolation | None = None
    """None: the strongest that this host and this version offer."""

    wall_seconds: Annotated[float, Field(ge=LEAST_SECONDS)] = 1200
    """Default wall-clock limit of a fold."""

    cpu_seconds: Annotated[float, Field(ge=LEAST_SECONDS)] | None = None
    """Default CPU limit of a fold; None: wall limit x threads of a slot."""

    memory_bytes: Annotated[int, Field(gt=0)] | None = None
    """Default memory limit of a fold; None: the host's memory divided by slots."""

    processes: Annotated[int, Field(gt=0)] = 256
    """Default limit of processes and threads of a fold."""

    prepare_wall_seconds: Annotated[float, Field(gt=0)] = 3600
    """Wall-clock limit of splitting one data set."""

    max_attempts: Annotated[int, Field(ge=1)] = 3
    """Workers that may die under one run before it fails as `worker_lost`."""

    dataset_wait_seconds: Annotated[float, Field(gt=0)] = 600
    """How long a fold waits for its data set before it fails."""

    heartbeat_seconds: Annotated[float, Field(gt=0)] = 5
    worker_lost_after_seconds: Annotated[float, Field(gt=0)] = 16
    """Without a heartbeat for so long, a worker counts as dead."""

    grace_seconds: Annotated[float, Field(ge=0)] = 30
    """How long running folds may go on after the first SIGTERM."""

    consumer_timeout_raised: bool = False
    """The operator has raised RabbitMQ's consumer_timeout above the folds' wall limit."""

    cache: Path | None = None
    """Folder of the data-set cache; None: in `home`."""

    cache_bytes: Annotated[int, Field(gt=0)] = 20 << 30
    retain_superseded_seconds: Annotated[float, Field(ge=0)] = 7 * 24 * 3600
    """How long an old version of a data set stays after a newer one is ready."""

    gateway_host: str = "127.0.0.1"
    """Address that the gateway listens on; beyond loopback, put a server with TLS before it."""

    gateway_port: Annotated[int, Field(ge=1, le=65535)] | None = None
    """None: with `datarun up` a free port, the same each time; else 8000."""

    gateway_body_bytes: Annotated[int, Field(gt=0)] = 256 << 20
    """Largest body of a request, which is that of a data set; a larger one is answered with 413,
    unread. Bodies of other calls are smaller."""

    gateway_large_bodies: Annotated[int, Field(ge=1)] = 2
    """Bodies of more than 256 KiB, or that inflate to more than 4 MiB, in memory at a time; others
    wait. Each may take twice `gateway_body_bytes`."""

    private_submissions: bool = False
    """Users see the folds and predictions of their own submissions only; admins see all."""

    pulse: Path | None = None
    """File that a worker or a collector touches every `heartbeat_seconds` while it is at work, for
    `datarun health`; None: no file."""

    connect_timeout_seconds: Annotated[float, Field(gt=0)] = 30
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    log_format: LogFormat = LogFormat.AUTO
    """`text`, `json`, or `auto`: text on a terminal, else JSON. One line an event either way."""

    metrics_port: Annotated[int, Field(ge=1, le=65533)] | None = None
    """Where a worker or a collector answers Prometheus over HTTP; None: nowhere. With `datarun up`
    it is the collector's; the folds worker has the next one, the prepare worker the one after."""

    metrics_host: str = "127.0.0.1"
    """Address of `metrics_port`. Whoever reaches it may read: beyond loopback, mind who does."""

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - pydantic's signature
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Arguments, the environment, the folder that DATARUN_SECRETS names, the file that
        DATARUN_SETTINGS names.

        In the folder each setting is a file of its own, `datarun_broker` say, as container engines
        have it: what is in there is in no list of processes, and in no description of a container.
        """
        file = Path(os.environ.get("DATARUN_SETTINGS", SETTINGS_FILE))
        toml = TomlConfigSettingsSource(settings_cls, toml_file=file)
        folder = os.environ.get("DATARUN_SECRETS")
        if folder is None:
            return init_settings, env_settings, toml
        secrets = SecretsSettingsSource(settings_cls, secrets_dir=folder)
        return init_settings, env_settings, secrets, toml


def load_settings(**overrides: Any) -> Settings:
    """Settings with `overrides` that are not None. Raises ConfigurationError naming the setting."""
    named = os.environ.get("DATARUN_SETTINGS")
    if named is not None and (not Path(named).exists() or Path(named).is_dir()):
        raise ConfigurationError(f"DATARUN_SETTINGS names {named!r}, which is not a file")
    secrets = os.environ.get("DATARUN_SECRETS")
    if secrets is not None and not Path(secrets).is_dir():
        raise ConfigurationError(f"DATARUN_SECRETS names {secrets!r}, which is not a folder")
    given = {name: value for name, value in overrides.items() if value is not None}
    try:
        return Settings(**given)
    except ValidationError as error:
        fault = error.errors(include_url=False, include_input=False)[0]
        name = str(fault["loc"][0])
        what = fault["msg"].removeprefix("Value error, ")
        if fault["type"] == "extra_forbidden":
            # Of the file alone: the environment is full of others' names.
            close = difflib.get_close_matches(name, Settings.model_fields, n=1)
            meant = f"; did you mean {close[0]}?" if close else ""
            raise ConfigurationError(
                f"{named or SETTINGS_FILE}: there is no setting {name!r}{meant}"
            ) from error
        raise ConfigurationError(f"setting {name} (DATARUN_{name.upper()}): {what}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, OSError, SettingsError) as error:
        raise ConfigurationError(f"cannot read the settings file: {error}") from error


def find_home(start: Path | None = None, file: str = CONNECTION_FILE) -> Path | None:
    """The nearest `.datarun/` with a connection file, from `start` (default: here) upwards.

    None where a stack that is stopped is nearer: nobody there means one that happens to run above,
    or, when `file` is another one, what that folder says.
    DATARUN_HOME, when set, is the only place looked at.
    """
    if "DATARUN_HOME" in os.environ:
        home = Path(os.environ["DATARUN_HOME"])
        return home if (home / file).is_file() else None
    here = (start or Path.cwd()).resolve()
    for folder in (here, *here.parents):
        # Not Path.is_file, which raises in a .datarun/ of somebody else that lies on the way up.
        if os.path.isfile(folder / HOME_NAME / file):
            return folder / HOME_NAME
        if os.path.isfile(folder / HOME_NAME / LOCK_FILE):
            return None
    return None


def _how_to_get_a_broker() -> str:
    """For whoever stands where no connection file is found."""
    here = Path.cwd()
    if "DATARUN_HOME" in os.environ:
        homes = [Path(os.environ["DATARUN_HOME"]).expanduser().absolute()]
    else:
        homes = [folder / HOME_NAME for folder in (here, *here.parents)]
    for home in homes:
        if os.path.isfile(home / LOCK_FILE):
            nearest = home.parent == here or len(homes) == 1
            command = "datarun up" if nearest else f"datarun up --home {shlex.quote(str(home))}"
            return f"the stack of {home} is not running; `{command}` starts it"
    return (
        "no RabbitMQ is configured: start a stack in this folder with `datarun up`, go to the "
        f"folder of one that runs (the one that has {HOME_NAME}/ in it, or any below), or set "
        "DATARUN_BROKER=amqp://user:password@host/vhost"
    )


def read_connection(home: Path) -> dict[str, Any]:
    """The connection file of `home`. Raises ConfigurationError when it cannot be read."""
    return _read_toml(home / CONNECTION_FILE)


def read_broker_users(home: Path) -> dict[BrokerUser, str]:
    """The URLs that `datarun broker users` has kept in `home`; empty when there are none.

    Raises ConfigurationError when the file cannot be read.
    """
    path = home / BROKER_USERS_FILE
    if not path.is_file():
        return {}
    found = _read_toml(path)
    urls = {user: found[user] for user in BrokerUser if user in found}
    if any(not isinstance(url, str) or not _is_amqp(url) for url in urls.values()):
        raise ConfigurationError(f"in {path}, each value has to be a URL that begins with amqp")
    return urls


def broker_url(url: str | None = None, user: BrokerUser = BrokerUser.PRODUCER) -> str:
    """The AMQP URL: the one given, else DATARUN_BROKER or the settings file, else that of `user`
    in the nearest connection file, else in the nearest file of `datarun broker users`.

    What the settings say on TLS is in its query. Raises ConfigurationError that says how to get
    one.
    """
    settings = load_settings()
    if url is None and settings.broker is not None:
        url = settings.broker.get_secret_value()
    given = url is not None
    if url is None:
        url = _found_url(user)
    if url is None:
        raise ConfigurationError(_how_to_get_a_broker())
    if not _is_amqp(url):
        raise ConfigurationError("the RabbitMQ URL must begin with amqp:// or amqps://")
    return _with_tls_files(url, settings, given=given)


def _found_url(user: BrokerUser) -> str | None:
    home = find_home()
    if home is not None:
        connection = read_connection(home)
        users = connection.get("users")
        own = users.get(user) if isinstance(users, dict) else None
        found = own or connection.get("broker")
        if found is not None and not isinstance(found, str):
            raise ConfigurationError(f"broker in {home}/{CONNECTION_FILE} is not a URL")
        return found
    home = find_home(file=BROKER_USERS_FILE)
    return None if home is None else read_broker_users(home).get(user)


def _with_tls_files(url: str, settings: Settings, *, given: bool) -> str:
    """The URL, naming the files of TLS as RabbitMQ's own clients do.

    https://www.rabbitmq.com/docs/uri-query-parameters
    """
    files = {
        "cacertfile": settings.broker_ca,
        "certfile": settings.broker_cert,
        "keyfile": settings.broker_key,
    }
    named = {name: str(path.absolute()) for name, path in files.items() if path is not None}
    if not named:
        return url
    parts = urlsplit(url)
    if parts.scheme != "amqps":
        if given:
            raise ConfigurationError(
                "files for TLS are set (DATARUN_BROKER_CA, _CERT or _KEY), and the RabbitMQ URL "
                "begins with amqp://, which is not encrypted: write amqps://, or unset them"
            )
        return url
    query = named | dict(parse_qsl(parts.query))
    return parts._replace(query=urlencode(query, safe="/", quote_via=quote)).geturl()


def _is_amqp(url: str) -> bool:
    return url.startswith(("amqp://", "amqps://"))


def _read_toml(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigurationError(f"cannot read {path}: {error}") from error

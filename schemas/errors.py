"""The error tree: whose fault it is, what was wrong, what to do.

DatarunError
 +-- ConfigurationError        a setting, a file or an environment of this installation
 |    +-- NodeError            the private RabbitMQ node could not be started or stopped
 +-- MessageError              bytes from outside that are not a message of ours
 |    +-- ArrayError           an array that is malformed, too large or of a refused type
 |    +-- FileError            a file whose name, size or content is refused
 |         +-- MissingFileError  a file that is not there; a FileNotFoundError too
 +-- BrokerError               RabbitMQ refused or did not answer
 |    +-- BrokerUnreachable    no connection within the deadline
 |    |    +-- AccessRefused   the user, the password or the virtual host is refused
 |    +-- PublishError         no confirm within the deadline, or the message was returned
 |    +-- TopologyError        a queue or an exchange is missing, or of another shape
 |    +-- BlobError            a data-set part is missing, incomplete or altered
 |         +-- StoreUnreachable  the object store does not answer, or not as it should
 +-- RequestError              the collector refused a request
 |    +-- CollectorUnreachable the collector could not answer within the deadline
 +-- DataError                 a data set could not be prepared; carries the verdict
 +-- UserError                 a user of the gateway: an unknown or taken name, a refused password
 +-- StorageError              the database refused
      +-- DatabaseAway         the database cannot be used just now; trying again may help

`MessageError`, `DataError` and `UserError` are the caller's; the others are the installation's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from schemas.verdicts import Verdict


class DatarunError(Exception):
    """Root of every error that datarun raises on purpose."""


class ConfigurationError(DatarunError):
    """A setting, a file or the environment of this installation is wrong."""


class NodeError(ConfigurationError):
    """The private RabbitMQ node could not be started or stopped."""


class MessageError(DatarunError, ValueError):
    """Bytes from outside are not a message of ours; the sentence says where and why."""


class ArrayError(MessageError):
    """An array is malformed, larger than it declares, or of a refused type."""


class FileError(MessageError):
    """A file's name, size or content is refused."""


class MissingFileError(FileError, FileNotFoundError):
    """A file or folder that was named is not there."""


class BrokerError(DatarunError):
    """RabbitMQ refused, or did not answer."""


class BrokerUnreachable(BrokerError):
    """No connection to RabbitMQ within the deadline."""


class AccessRefused(BrokerUnreachable):
    """RabbitMQ refuses the user, the password or the virtual host: trying again does not help."""


class PublishError(BrokerError):
    """A message was returned, or its confirm did not come within the deadline."""


class TopologyError(BrokerError):
    """A queue or an exchange is missing, or has other arguments than ours."""


class BlobError(BrokerError):
    """A part of a data set is missing, incomplete or altered."""


class StoreUnreachable(BlobError):
    """The object store of data-set parts does not answer: trying again later may help."""


class RequestError(DatarunError):
    """The collector refused a request."""


class CollectorUnreachable(RequestError):
    """The collector did not answer within the deadline, or its database was away all the time."""


class DataError(DatarunError):
    """A data set could not be prepared; `verdict` says what happened and whose fault it was."""

    def __init__(self, message: str, verdict: Verdict | None = None) -> None:
        super().__init__(message)
        self.verdict = verdict


class UserError(DatarunError):
    """A user of the gateway is unknown, his name is taken, or his name or password is refused."""


class StorageError(DatarunError):
    """The database refused a row or a statement."""


class DatabaseAway(StorageError):
    """The database cannot be used just now: no connection, a lock, a full disk."""

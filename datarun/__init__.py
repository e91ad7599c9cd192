"""datarun: machine-learning submissions trained and tested on cross-validation folds.

    from datarun import Client, Custom, HoldOut

Every name is imported when it is first used; the base install is enough for all of them.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from datarun import post_api as post_api
    from producer.client import Client as Client
    from producer.fold_messages import Dataset as Dataset
    from producer.report import Report as Report
    from producer.report import Submission as Submission
    from producer.results import Result as Result
    from schemas import errors as errors
    from schemas.datasets import Custom as Custom
    from schemas.datasets import HoldOut as HoldOut
    from schemas.errors import BrokerError as BrokerError
    from schemas.errors import CollectorUnreachable as CollectorUnreachable
    from schemas.errors import DataError as DataError
    from schemas.errors import DatarunError as DatarunError
    from schemas.errors import MessageError as MessageError
    from schemas.files import File as File
    from schemas.messages import FoldMessage as FoldMessage
    from schemas.messages import Limits as Limits
    from schemas.states import DatasetState as DatasetState
    from schemas.states import FoldState as FoldState
    from schemas.states import Priority as Priority
    from schemas.verdicts import Verdict as Verdict

_HOMES = {
    "Client": "producer.client",
    "Dataset": "producer.fold_messages",
    "Report": "producer.report",
    "Submission": "producer.report",
    "Result": "producer.results",
    "Custom": "schemas.datasets",
    "HoldOut": "schemas.datasets",
    "BrokerError": "schemas.errors",
    "CollectorUnreachable": "schemas.errors",
    "DataError": "schemas.errors",
    "DatarunError": "schemas.errors",
    "MessageError": "schemas.errors",
    "File": "schemas.files",
    "FoldMessage": "schemas.messages",
    "Limits": "schemas.messages",
    "DatasetState": "schemas.states",
    "FoldState": "schemas.states",
    "Priority": "schemas.states",
    "Verdict": "schemas.verdicts",
}

_MODULES = {"errors": "schemas.errors", "post_api": "datarun.post_api"}

__all__ = sorted({*_HOMES, *_MODULES})


def __getattr__(name: str) -> Any:
    value: Any
    if name in _MODULES:
        value = importlib.import_module(_MODULES[name])
    elif name in _HOMES:
        value = getattr(importlib.import_module(_HOMES[name]), name)
    else:
        raise AttributeError(f"module 'datarun' has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})

"""Fixtures that every test may ask for; each is made in a file of its own in tests/support."""

import signal

from tests.support.bare_gateway import bare_stack
from tests.support.databases import database_url, engine, shared_engine
from tests.support.folds import folds, iris, process_folds
from tests.support.postgres import postgres, postgres_url
from tests.support.rabbitmq import rabbitmq, vhost
from tests.support.rest import rest, shared_rest
from tests.support.scripted_collector import (
    broker_url,
    declared,
    scripted_collector,
    shared_vhost,
)
from tests.support.stack import postgres_stack, shared_process_stack, shared_stack, stack
from tests.support.store import store
from tests.support.tcp_proxy import proxy

__all__ = [
    "bare_stack",
    "broker_url",
    "database_url",
    "declared",
    "engine",
    "folds",
    "iris",
    "postgres",
    "postgres_stack",
    "postgres_url",
    "process_folds",
    "proxy",
    "rabbitmq",
    "rest",
    "scripted_collector",
    "shared_engine",
    "shared_process_stack",
    "shared_rest",
    "shared_stack",
    "shared_vhost",
    "stack",
    "store",
    "vhost",
]

# A shell without job control starts what runs in the background with SIGINT ignored, and children
# inherit that: Ctrl-C would do nothing in the tests that send it.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

"""One running stack for all files of this folder."""

from tests.support.wire import wire

__all__ = ["wire"]

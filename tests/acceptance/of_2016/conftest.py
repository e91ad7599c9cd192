"""One running stack for all files of this folder."""

from tests.support.documents_2016 import documented

__all__ = ["documented"]

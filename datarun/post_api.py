"""The functions of 2016, under the name that programs import: `from datarun import post_api`."""

from producer.post_api import *  # noqa: F403 - this module is that one, by another name

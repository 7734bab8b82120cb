"""What all tests share: how they are run, and the fixtures of `tests/fixtures`."""

import os

# Before OpenMP is loaded: on a busy machine threads that spin while they wait make a fit take
# a hundred times as long.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

from hypothesis import settings

# In CI the same examples every time: a change is judged by what it changes, not by luck. On a
# desk new ones are tried.
settings.register_profile("ci", derandomize=True)
if os.environ.get("CI"):
    settings.load_profile("ci")

pytest_plugins = [
    "tests.fixtures.postgresql",
    "tests.fixtures.s3",
    "tests.fixtures.truth",
    "tests.fixtures.workshop",
]

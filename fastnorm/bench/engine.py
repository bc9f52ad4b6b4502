"""What an engine is: a named library, and how to prepare one call of it.

SPDX-License-Identifier: MIT
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

from .cases import Array, Case, Data


def single(result: Any) -> tuple[Array, ...]:
    """The one array that most calls return."""
    return (np.asarray(result),)


def pair(result: Any) -> tuple[Array, ...]:
    """A (mean, variance) result."""
    mean, var = result
    return np.asarray(mean), np.asarray(var)


@dataclass(frozen=True)
class Job:
    """One prepared call, and how to read what it computed as arrays.

    What a user would do once (tensors, sessions, buffers) has been done; `call` is
    what one does per batch, and nothing else. `allocates` marks a call that makes a
    new array although the case gives one.
    """

    call: Callable[[], Any]
    read: Callable[[Any], tuple[Array, ...]] = single
    allocates: bool = False


Builder = Callable[[Case, Data], "Job | None"]


@contextmanager
def no_session(_threads: int) -> Iterator[None]:
    """For engines with no setting of their own for the whole run."""
    yield


@dataclass(frozen=True)
class Engine:
    """A library that is given the same work.

    `builders` has a function per operation that makes a Job, or returns None where the
    library lacks the layout. It imports the library itself, so that an engine can be
    named without being installed. `session` holds the library to a number of threads.
    """

    name: str
    modules: tuple[str, ...]
    builders: Mapping[str, Builder]
    session: Callable[[int], AbstractContextManager[None]] = no_session

    def available(self) -> bool:
        """Whether all that it needs is installed, and loads."""
        try:
            for module in self.modules:
                importlib.import_module(module)
        except (ImportError, OSError):
            return False
        return True

    def prepare(self, case: Case, data: Data) -> Job | None:
        """The job for this case, or None if the library has no such operation."""
        build = self.builders.get(case.op)
        return build(case, data) if build else None

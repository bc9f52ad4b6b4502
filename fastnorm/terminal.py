# SPDX-License-Identifier: MIT
"""fastnorm.terminal - the command line's errors, signals, types and progress."""

from __future__ import annotations

import re
import signal
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import FrameType
from typing import Any, Self

import click
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

__all__ = ["Axes", "Bar", "Bytes", "run_command"]


def run_command(command: click.Command, arguments: Sequence[str]) -> int:
    """Runs the command and returns the exit status; errors become one sentence."""
    try:
        with _termination_raises():
            status = command.main(
                list(arguments), prog_name="fastnorm", standalone_mode=False
            )
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message(), err=True)
        return 2
    except click.ClickException as error:
        return _complain(error.format_message())
    except _Terminated as error:
        number = int(error.args[0])
        _complain("interrupted" if number == signal.SIGINT else "terminated")
        return 128 + number
    except MemoryError:
        return _complain("not enough memory, a smaller --memory may help")
    except OSError as error:
        if error.filename is None or error.strerror is None:
            return _complain(str(error))
        return _complain(f"{error.filename}: {error.strerror}")
    except (ValueError, RuntimeError) as error:
        return _complain(str(error))
    return status if isinstance(status, int) else 0


def _complain(sentence: str) -> int:
    click.echo("fastnorm: " + " ".join(sentence.split()), err=True)
    return 2


class _Terminated(BaseException):
    """A signal asks the process to end; not an Exception, so that nothing eats it."""


@contextmanager
def _termination_raises() -> Iterator[None]:
    """Turns signals that end a process into an exception, for files to be tidied up.

    SIGINT too: click would answer a KeyboardInterrupt with words of its own.
    """

    def handler(number: int, frame: FrameType | None) -> None:  # noqa: ARG001
        raise _Terminated(number)

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    names = [name for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]
    numbers = [getattr(signal, name) for name in names]
    # A signal that is ignored (nohup) stays ignored.
    numbers = [n for n in numbers if signal.getsignal(n) is not signal.SIG_IGN]
    before = [(number, signal.signal(number, handler)) for number in numbers]
    try:
        yield
    finally:
        for number, old in before:
            signal.signal(number, old)


class Bytes(click.ParamType[int]):
    """A number of bytes such as 500K, 64M or 2G (powers of 1024)."""

    name = "bytes"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> int:
        match = re.fullmatch(r"(\d+)([KMGT]?)i?B?", str(value), re.IGNORECASE)
        if match is None or int(match[1]) == 0:
            self.fail(f"{value!r} is not a size such as 64M", param, ctx)
        return int(match[1]) << 10 * " KMGT".index(match[2].upper() or " ")


class Axes(click.ParamType[tuple[int, ...]]):
    """One axis or several, separated by commas."""

    name = "n[,n]"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[int, ...]:
        if isinstance(value, tuple):
            return value
        try:
            return tuple(int(part) for part in value.split(","))
        except ValueError:
            self.fail(f"{value!r} is not an axis or a list such as 1,2", param, ctx)


class Bar:
    """A progress bar on stderr, if that is a terminal."""

    def __init__(self, title: str, items: int, quiet: bool) -> None:
        console = Console(stderr=True)
        self._progress = Progress(
            TextColumn("{task.description}"), BarColumn(),
            TextColumn("{task.percentage:>3.0f}%"), TimeRemainingColumn(),
            console=console, disable=quiet or not console.is_terminal, transient=True,
        )  # fmt: skip
        self._task = self._progress.add_task(title, total=items)
        self._total = items

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._progress.stop()

    def expect(self, items: int) -> None:
        self._total += items
        self._progress.update(self._task, total=self._total)

    def advance(self, items: int) -> None:
        self._progress.advance(self._task, items)

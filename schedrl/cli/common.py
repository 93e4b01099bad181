"""What the commands share: errors in one line, KEY=VALUE options, consoles, progress."""

from __future__ import annotations

import errno
import re
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from schedrl.errors import SchedrlError, printable, shortened
from schedrl.files import parse_object, parse_value

if TYPE_CHECKING:
    from rich.console import Console


EnvOption = Annotated[
    str,
    typer.Option(
        "--env", help="Environment: an id of `schedrl envs`, module:id, or a variant's own .toml file."
    ),
]
SetOption = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="KEY=VALUE",
        help="Change a field of the environment, e.g. episode.steps_per_phase=50. Repeatable.",
    ),
]
DeviceOption = Annotated[str, typer.Option(help="Torch device that the networks are trained on.")]
DownloadOption = Annotated[
    bool, typer.Option("--download", help="Download the image set with torchvision if it is missing.")
]
BarOption = Annotated[
    bool,
    typer.Option("-P", "--progress", help="Show the progress bar even when the output is not a terminal."),
]


_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EROFS)


class Group(TyperGroup):
    """Commands whose bad input ends as one line on stderr and exit code 2, never as a traceback."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except MemoryError:
            note("error: there is not enough memory for this")
            raise typer.Exit(2) from None
        except (SchedrlError, OSError) as error:
            text = str(error)
            if isinstance(error, OSError):
                if error.errno not in _DISK:
                    raise
                text = f"cannot write {error.filename or 'what was asked for'}: {error.strerror}"
            note(f"error: {' '.join(text.split())}")
            raise typer.Exit(2) from None


def parse_settings(texts: Sequence[str] | None, option: str) -> dict[str, Any]:
    """Read ``KEY=VALUE`` options, whose values are JSON, else TOML, else plain words.

    Args:
        texts: What was given.
        option: Name of the option, for messages.

    Examples:
        >>> parse_settings(["training.batch_size=8", "reward.kind=own_loss", "data={name='digits'}"], "--set")
        {'training.batch_size': 8, 'reward.kind': 'own_loss', 'data': {'name': 'digits'}}
    """
    settings: dict[str, Any] = {}
    for text in texts or ():
        key, separator, value = text.partition("=")
        key = key.strip()
        if not separator or not re.fullmatch(r"\w+(\.\w+)*", key):
            raise SchedrlError(
                f"{option}: must be KEY=VALUE, as in training.batch_size=8 (got {shortened(text)})"
            )
        settings[key] = _value(value.strip(), text, option)
    return settings


def _value(text: str, whole: str, option: str) -> Any:
    with suppress(SchedrlError):
        return parse_value(text, option)
    with suppress(SchedrlError):
        return parse_object(f"value = {text}", option, toml=True)["value"]
    if re.fullmatch(r"[\w./~:+-]+", text):
        return text
    raise SchedrlError(f"{option}: the value must be JSON, TOML or a plain word (got {shortened(whole)})")


def checked_device(device: str) -> str:
    """Make sure that torch can use a device.

    Raises:
        SchedrlError: It cannot.
    """
    import torch

    try:
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).strip().splitlines()[0]
        raise SchedrlError(f"device '{device}': torch cannot use it: {reason}") from None
    return device


def console(*, err: bool = False) -> Console:
    """A console that is plain, and wide enough for a table, when it is not a terminal."""
    from rich.console import Console

    class Plain(Console):
        """Shows text as it is: no markup, no emoji, no control characters."""

        def render_str(self, text: str, **options: Any) -> Any:
            return super().render_str(printable(text), **options)

    plain: dict[str, Any] = {"stderr": err, "highlight": False, "markup": False, "emoji": False}
    made = Plain(**plain)
    return made if made.is_terminal else Plain(**plain, width=100)


def say(text: str) -> None:
    """Print a result; control characters are shown, not obeyed."""
    typer.echo(printable(text))


def note(text: str) -> None:
    """Print a remark on stderr, apart from the results."""
    typer.echo(printable(text), err=True)


class Ticker:
    """Progress of a piece of work: a bar with the time left, or a line now and then.

    Args:
        total: Amount of work.
        doing: What it is.
        every: Without a bar, a line is printed at every ``every``-th call.
        bar: A started rich progress display, or None.
    """

    def __init__(self, total: int, doing: str, every: int, bar: Any | None = None) -> None:
        self.total, self.doing, self.every, self.bar = total, printable(doing), every, bar
        self.calls, self.began, self.first = 0, 0.0, 0
        self.task = bar.add_task(self.doing, total=total) if bar is not None else None

    def __call__(self, done: int, text: str) -> None:
        """Report the work done, and something to say about it."""
        if self.bar is not None:
            self.bar.update(self.task, completed=done, description=printable(f"{self.doing}: {text}"))
            return
        if self.calls == 0:  # earlier work, of a run that is resumed, says nothing about the speed
            self.first, self.began = done, time.monotonic()
        if self.calls % self.every == 0 or done >= self.total:
            note(f"{self.doing}: {done}/{self.total}, {text}{self._left(done)}")
        self.calls += 1

    def _left(self, done: int) -> str:
        spent, progressed = time.monotonic() - self.began, done - self.first
        if progressed <= 0 or done >= self.total:
            return ""
        left = spent * (self.total - done) / progressed
        return f", about {left:.0f} s left" if left < 90.0 else f", about {left / 60.0:.0f} min left"


@contextmanager
def ticker(total: int, doing: str, *, every: int = 10, force_bar: bool = False) -> Iterator[Ticker]:
    """Show progress on stderr while the block runs."""
    if not (force_bar or sys.stderr.isatty()):
        yield Ticker(total, doing, every)
        return
    from rich import progress
    from rich.console import Console

    columns = (
        progress.TextColumn("{task.description}", markup=False),
        progress.BarColumn(bar_width=24),
        progress.MofNCompleteColumn(),
        progress.TimeElapsedColumn(),
        progress.TextColumn("left"),
        progress.TimeRemainingColumn(),
    )
    target = Console(stderr=True, force_terminal=True if force_bar else None)
    with progress.Progress(*columns, console=target, transient=False) as bar:
        yield Ticker(total, doing, every, bar)

"""How far training has come: a bar with the time left; in a log, a line each epoch."""

from __future__ import annotations

from collections.abc import Mapping
from types import TracebackType

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.progress import Progress as Bar


class Progress:
    """Counts steps over all epochs of one network.

    Args:
        title: what is being trained.
    """

    def __init__(self, title: str) -> None:
        self._console = Console(stderr=True)
        self._bar = Bar(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=self._console,
            disable=not self._console.is_terminal,
        )
        self._task = self._bar.add_task(title)
        self._title = title
        self._steps = 0
        self._epochs = 0

    def __enter__(self) -> Progress:
        self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._bar.stop()

    def begin(self, steps_per_epoch: int, epochs: int, epochs_done: int) -> None:
        """There are so many steps to come; some epochs were done before."""
        self._steps, self._epochs = steps_per_epoch, epochs
        total = steps_per_epoch * epochs
        self._bar.reset(self._task, total=total)
        self._bar.update(self._task, completed=steps_per_epoch * epochs_done)

    def step(self) -> None:
        """One batch is done."""
        self._bar.advance(self._task)

    def skip_to(self, epochs_done: int) -> None:
        """A stage has ended, with all of its epochs or before."""
        self._bar.update(self._task, completed=self._steps * epochs_done)

    def epoch_done(self, figures: Mapping[str, float]) -> None:
        """An epoch is done, with these figures."""
        self._console.print(
            f"{self._title}: epoch {int(figures['epoch']) + 1} of {self._epochs}, "
            f"loss {figures['loss']:.4f}, validation loss {figures['val_loss']:.4f}, "
            f"AUC {figures['val_auc']:.4f}",
            highlight=False,
            soft_wrap=True,
        )

"""python -m trainer explore: look at a data set before training on it."""

from __future__ import annotations

import argparse
from pathlib import Path

from trainer.commands import train


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Give `parser` the flags of `explore`."""
    add = parser.add_argument
    train.add_source(parser)
    add(
        "--output",
        type=Path,
        required=True,
        help="folder for explore.html, figures, files.csv, pairs.csv and summary.json",
    )
    train.add_patients(parser)
    train.add_classes(parser)


def run(arguments: argparse.Namespace) -> int:
    """Read the data, write the page, say what was found; the exit code.

    Raises:
        DatasetError: there are no files, or the table cannot be understood.
        ValueError: the output lies in the data, where it would be read as data.
        FileExistsError: the output is a file.
    """
    data, output = arguments.data, arguments.output
    if not data.exists():
        raise FileNotFoundError(f"--data {data}: there is no such file or folder")
    if data.is_dir() and output.resolve().is_relative_to(data.resolve()):
        raise ValueError(
            f"--output {output} is in --data {data}, and would be read as images the "
            "next time; choose another folder"
        )
    # Here, so that --help answers at once: scikit-learn and Matplotlib take a second.
    from rich.console import Console
    from rich.progress import Progress

    from trainer.data.dataset import Naming
    from trainer.exploration import explore
    from trainer.exploration import page as pages

    output.mkdir(parents=True, exist_ok=True)
    console = Console(stderr=True)
    with Progress(console=console, disable=not console.is_terminal) as bar:
        task = bar.add_task("reading")
        found = explore.explore(
            data,
            Naming(arguments.patient_pattern, arguments.class_pattern),
            lambda count, total: bar.update(task, advance=count, total=total),
        )
    explore.write_tables(found, output)
    page = pages.write(found, data.resolve().name, output)
    for concern in found.concerns:
        print(f"{concern.level:>5}: {concern.text}")
    print(f"{page}: {len(found.survey.measured):,} files")
    return 0

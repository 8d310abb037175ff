"""One module for each subcommand: its flags, and what it runs.

A module has `add_arguments(parser)` and `run(arguments)`, which gives the exit code.
Whatever is slow to import, TensorFlow first, is imported in `run`, so that --help
answers at once. `trainer.__main__` has the list.
"""

"""x."""


def add_arguments(parser): ...
def run(a):
    return 0

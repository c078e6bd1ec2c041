"""``iscl-node`` and ``python -m iscl_node``."""

import os

from iscl_node.cli import app


def main() -> None:
    """Run the command line."""
    _open_standard_descriptors()
    app()


def _open_standard_descriptors() -> None:
    """Open those that the process was started without, or a file would get the number and what is printed to it."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # gets the lowest number that is free (open(2))


if __name__ == "__main__":
    main()

"""``iscl-node`` and ``python -m iscl_node``."""

from iscl_node.cli import app


def main() -> None:
    """Run the command line."""
    app()


if __name__ == "__main__":
    main()

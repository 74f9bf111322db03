"""The command ``geoseg``, and ``python -m geoseg``."""

from geoseg.signals import leave_at_once


def main() -> None:
    """Load the command line, which takes a moment in which Ctrl-C may come, and run it."""
    leave_at_once()
    from geoseg.cli import main as command

    command()


if __name__ == "__main__":
    main()

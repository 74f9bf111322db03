"""``python -m geoseg``: the command line."""

from geoseg.cli import main

main()

"""`python -m dispatcher.cli`: the `podrelay` command where no script is installed."""

from dispatcher.cli import main

main()

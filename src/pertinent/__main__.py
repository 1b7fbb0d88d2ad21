"""`python -m pertinent`: the command line, for launchers such as torchrun that start a module."""

from pertinent.cli import main

main()

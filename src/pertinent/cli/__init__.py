"""The command line: one thin file a command, each parsing its arguments and calling one public function."""

from pertinent.cli.app import main

__all__ = ["main"]

"""The data set, the run and the programs that tests of the commands have, too."""

from _cli.conftest import data, folder, trained

__all__ = ["data", "folder", "trained"]

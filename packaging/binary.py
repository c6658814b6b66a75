"""The program inside the single executable that `nox -s binary` builds."""

from dfs.cli import main

main()

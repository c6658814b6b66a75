"""The program inside the single executable that `nox -s binary` builds."""

from dfs.__main__ import main

main()

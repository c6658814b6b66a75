"""`python -m dfs` is `dfs`."""

from dfs.cli import main

if __name__ == "__main__":
    main()

"""`python -m dfs` is `dfs`; its console scripts begin here, on guard against Ctrl-C before all imports."""

from dfs.interrupts import guard


def main() -> None:
    """Run `dfs`."""
    guard()
    from dfs.cli import main as run

    run()


def main_classic() -> None:
    """Run `dfc`, the one-shot commands of the original."""
    guard()
    from dfs.cli import main_classic as run

    run()


if __name__ == "__main__":
    main()

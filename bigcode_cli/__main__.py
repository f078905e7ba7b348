"""``python -m bigcode_cli``, and what the console script ``bigcode`` runs."""

import sys


def main() -> None:
    """Run the program; a Ctrl-C while it is being imported ends it like any later one."""
    try:
        from bigcode_cli.cli.app import main as run
    except KeyboardInterrupt:
        sys.exit(130)
    run()


if __name__ == "__main__":
    main()

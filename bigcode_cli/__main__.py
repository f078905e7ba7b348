"""``python -m bigcode_cli``, and what the console script ``bigcode`` runs."""

from bigcode_cli.cli.app import main

if __name__ == "__main__":
    main()

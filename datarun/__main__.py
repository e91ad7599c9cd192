"""`python -m datarun` is the `datarun` command."""

from datarun.cli.entry import main

if __name__ == "__main__":
    main()

"""Starts the command line `blendfold`, also where the user's own folder holds a `models.py` or a `search.py`."""

from typing import NoReturn

from blendfold.own_packages import put_first


def main() -> NoReturn:
    """Run the command line and exit as `data_prep.console.run_app` does."""
    put_first()
    from blendfold.command_line import app  # noqa: PLC0415 - after `put_first`
    from data_prep.console import run_app  # noqa: PLC0415 - as above

    run_app(app)


if __name__ == "__main__":
    main()

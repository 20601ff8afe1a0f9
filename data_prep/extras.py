"""The extras: what other verbs than `predict` need, and the sentence for what is not installed."""

from importlib.util import find_spec

from data_prep.errors import InputError

EXTRAS = {
    "blend": ("matplotlib", "pandas", "scipy", "sklearn", "threadpoolctl"),
    "search": ("optuna", "ray"),
    "report": ("jinja2", "plotly"),
    "aws": ("boto3",),
    "track": ("mlflow", "tensorboardX"),
}
"""The modules that each brings; `search` and `report` bring those of `blend`, too, and `report` Optuna."""


def require(*modules: str) -> None:
    """Refuse to begin without these modules of extras.

    Raises:
        InputError: with the command that installs those that are missing.
    """
    if missing := [module for module in modules if find_spec(module) is None]:
        raise InputError(str(how_to_install(*missing)))


def how_to_install(*missing: str) -> str | None:
    """Return the sentence for modules that are not installed; None where no extra brings the first of them."""
    extras = [extra for extra, modules in EXTRAS.items() if set(modules) & set(missing)]
    if not extras:
        return None
    names = f"{', '.join(missing)} {'is' if len(missing) == 1 else 'are'}"
    return f"{names} needed and not installed: pip install 'blendfold[{','.join(extras)}]'"

"""blendfold: the one name for the four packages, on the command line and in Python.

From two tables to a submission:

    import blendfold as bf

    data = bf.prepare(train, test, task="pppm", folds=5)       # DataFrames, or paths of CSV files
    run = bf.search("studies/pppm.yaml", data)                 # a study file, or a dict
    blend = run.blend(clip=True)
    blend.submission                                           # a DataFrame, checked and also on disk

Everything writes the files that the command of that name writes, byte for byte, so both can be mixed.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from blendfold.python.bundles import bundle, predict
    from blendfold.python.cluster_search import ClusterSearch, launch
    from blendfold.python.fitted_blend import Blend
    from blendfold.python.imported_run import import_predictions
    from blendfold.python.prepared_data import PreparedData, audit, prepare
    from blendfold.python.replaying import replay
    from blendfold.python.run import Run
    from blendfold.python.searching import Plan, plan, search
    from blendfold.python.submission_ledger import Ledger
    from data_prep.audit.audit_report import AuditReport
    from data_prep.errors import InputError
    from data_prep.task import Task

_MODULES = {
    "blendfold.python.bundles": ("bundle", "predict"),
    "blendfold.python.cluster_search": ("ClusterSearch", "launch"),
    "blendfold.python.fitted_blend": ("Blend",),
    "blendfold.python.imported_run": ("import_predictions",),
    "blendfold.python.prepared_data": ("PreparedData", "audit", "prepare"),
    "blendfold.python.replaying": ("replay",),
    "blendfold.python.run": ("Run",),
    "blendfold.python.searching": ("Plan", "plan", "search"),
    "blendfold.python.submission_ledger": ("Ledger",),
    "data_prep.audit.audit_report": ("AuditReport",),
    "data_prep.errors": ("InputError",),
    "data_prep.task": ("Task",),
}
"""Where each public name is; it is imported when it is first used, as the command line needs few of them."""
_EXTRAS = {
    "blendfold.python.cluster_search": ("blend", "search"),
    "blendfold.python.replaying": ("blend", "search"),
    "blendfold.python.searching": ("blend", "search"),
    "data_prep.errors": (),
    "data_prep.task": (),
}
"""The extras that a module needs; the others need `blend`."""

__all__ = [
    "AuditReport",
    "Blend",
    "ClusterSearch",
    "InputError",
    "Ledger",
    "Plan",
    "PreparedData",
    "Run",
    "Task",
    "audit",
    "bundle",
    "import_predictions",
    "launch",
    "plan",
    "predict",
    "prepare",
    "replay",
    "search",
]


def __getattr__(name: str) -> Any:
    module = next((module for module, names in _MODULES.items() if name in names), None)
    if module is None:
        raise AttributeError(f"module 'blendfold' has no attribute {name!r}; it has {', '.join(__all__)}")
    from blendfold.own_packages import require_own  # noqa: PLC0415 - not for the command line

    require_own()
    from data_prep.extras import EXTRAS, require  # noqa: PLC0415 - after the check

    needed = [library for extra in _EXTRAS.get(module, ("blend",)) for library in EXTRAS[extra]]
    require(*("pandas",) if name == "predict" else needed)
    from blendfold.python.notebook_output import without_wish_for_widgets  # noqa: PLC0415 - after the check

    with without_wish_for_widgets():
        found = globals()[name] = getattr(importlib.import_module(module), name)
    return found


def __dir__() -> list[str]:
    return __all__

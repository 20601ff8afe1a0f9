"""Part 7, run it again: versions, hashes, commands, study file."""

import importlib.metadata
import platform
from collections.abc import Iterator

from blendfold.report.facts.report_source import ReportSource
from blendfold.report.page.blocks import Block, Code, Column, DataTable, Part, Row
from blendfold.report.parts.panels import panels
from data_prep.store.files import read_bytes
from data_prep.store.tables import read_metadata
from data_prep.wording import command

LIBRARIES = (
    "torch",
    "transformers",
    "tokenizers",
    "ray",
    "optuna",
    "numpy",
    "scipy",
    "scikit-learn",
    "pandas",
    "pyarrow",
)


def rerun_part(source: ReportSource) -> Part:
    """Return the part."""
    return Part(
        "rerun",
        "Rerun",
        [
            *panels("Commands", lambda: [Code("Commands", "\n".join(_commands(source)))]),
            *panels("Hashes", lambda: [_hashes(source)]),
            *panels("Versions", lambda: [_versions(source)]),
            *panels("Study", lambda: _study(source)),
        ],
    )


def _commands(source: ReportSource) -> Iterator[str]:
    run, manifest = source.run, source.run.data.manifest
    options: dict[str, object] = {
        "--train": "train.csv",
        "--test": "test.csv" if manifest.rows["test"] else None,
        "--task": None if manifest.task.name == "pppm" else f"{manifest.task.name}.yaml",
        "--cpc": "titles.csv" if "cpc" in manifest.inputs else None,
        "--scheme": manifest.scheme,
        "--folds": manifest.folds_per_repeat,
        "--repeats": manifest.repeats if manifest.repeats > 1 else None,
        "--seed": manifest.seed,
        "--holdout": manifest.holdout or None,
        "--out": run.data.path,
    }
    yield command("blendfold prepare", options=options)
    if not run.study.get("imported"):
        yield command("blendfold run", f"{run.study.get('name', 'study')}.yaml")
    yield command("blendfold leaderboard", run.path)
    blend = source.blend
    name = source.whole_blend.name if source.whole_blend else None
    if blend is not None:
        runs = list(dict.fromkeys([run.path, *(member.run for member in blend.members)]))
        rows: dict[str, object] = {
            "--name": name,
            "--clip": blend.clip,
            "--score-on": list(blend.scored_rows.chosen) if blend.scored_rows else None,
            "--fit-on": list(blend.fitted_rows.chosen) if blend.fitted_rows else None,
        }
        yield command("blendfold blend", *runs, options=rows)
    yield command("blendfold report", run.path, options={"--blend": blend.name if blend else None})


def _hashes(source: ReportSource) -> DataTable:
    run, blend = source.run, source.blend
    manifest = run.data.manifest
    found = {"data_hash": manifest.data_hash, "split_hash": manifest.split_hash}
    found |= {f"sha256 of the {role} file": digest for role, digest in manifest.inputs.items()}
    if blend and blend.submission:
        found["sha256 of submission.csv"] = blend.submission.sha256
    rows = [Row(name, [name, value]) for name, value in found.items()]
    return DataTable("hashes", "Hashes", [Column("what", "what"), Column("hash", "value", is_code=True)], rows)


def _versions(source: ReportSource) -> DataTable:
    found = {
        "this report": f"blendfold {importlib.metadata.version('blendfold')}",
        "Python here": platform.python_version(),
    }
    if wrote := sorted(_writers(source)):
        found["fold runs"] = ", ".join(f"blendfold {version}" for version in wrote)
    if source.blend:
        found["blend"] = f"blendfold {source.blend.version}"
    for name in LIBRARIES:
        try:
            found[f"{name} here"] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    rows = [Row(name, [name, value]) for name, value in found.items()]
    return DataTable("versions", "Versions", [Column("what", "what"), Column("version", "version")], rows)


def _writers(source: ReportSource) -> set[str]:
    """Return the versions that wrote the first table of each candidate."""
    store, found = source.run.store, set()
    first = dict(reversed(list(store.fold_runs())))
    for candidate, fold in first.items():
        metadata = read_metadata(store.path("oof", candidate, fold)) or {}
        found.add(metadata.get("version", "of unknown version"))
    return found


def _study(source: ReportSource) -> Iterator[Block]:
    path = source.run.study_path
    yield Code(f"Study file, every default spelled out: {path}", read_bytes(path).decode(errors="replace"))

"""The bundle: one folder with everything that a blend needs to predict new rows on any machine."""

import hashlib
import importlib.metadata
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.numpy

from blend.blend_folder import data_faults
from blend.blend_record import BlendRecord, MemberRecord, TargetsRecord, WholeRecord
from blend.fit.stacking import stackings
from data_prep.bundle_manifest import BUNDLE_FORMAT, BUNDLE_MANIFEST_FILE, BundledFile, BundledMember, BundleManifest
from data_prep.cpc import section_titles, shipped_texts
from data_prep.errors import InputError
from data_prep.prepared import Prepared
from data_prep.scoring.combination import Combination, CombinationPart
from data_prep.store.candidate_records import candidate_path, read_settings
from data_prep.store.files import (
    base_name,
    exists,
    is_file,
    join,
    list_sizes,
    read_bytes,
    remove,
    write_bytes,
)
from data_prep.store.oof_store import OofStore, Provenance, home_of
from data_prep.store.safetensors_files import checksum_of_tensors, parse_header
from data_prep.store.sealed_records import read_record, seal, write_record
from data_prep.store.weight_folders import (
    EMBEDDING_FILE,
    LISTING_FILE,
    WEIGHTS_FILE,
    backbone_folder,
    find_weights,
    weights_file,
)
from data_prep.wording import command

LARGEST_HALF = float(np.finfo(np.float16).max)


@dataclass(frozen=True)
class GatheredMember:
    """A member, with the files of it that go into the bundle."""

    record: MemberRecord
    run: str
    """Its run directory, as found from here."""
    folds: list[int]
    backbone: str
    sources: dict[str, str]
    """Path inside the bundle -> file to copy."""
    digests: dict[str, str]
    """Path inside the bundle -> sha256 that was stored with the file, where there is one."""


def write_bundle(
    run: str,
    blend: WholeRecord,
    data: Prepared,
    out: str | Path,
    *,
    half: bool = False,
    report: Callable[[str, int], None] = lambda _path, _size: None,
    write: Callable[[bytes, str], None] = write_bytes,
) -> BundleManifest:
    """Copy everything that a blend predicts with into a folder; its `manifest.json` is written last.

    `out` is new or empty, or holds an unfinished bundle of the same blend. Members without weight are left out; `half`
    stores weights in half precision. `report` is called with each file that was written, and its size.

    Raises:
        InputError: members trained elsewhere, files not kept, other data, files already in `out`; nothing is written.
        OSError: for example, the disk is full; what was written is removed, and there is no manifest.
    """
    blends = list(blend.by_target.values())
    for one in blends:
        _check_stack(run, one, blend.name)
    weighty = {part.candidate: member for one in blends for member, part in _pairs(one) if part.weight}
    members = [_gather(member, run) for member in weighty.values()]
    parts = [part for one in blends for _, part in _pairs(one) if part.weight]
    faults = [*data_faults(blend, data), *_member_faults(members, run, blend.name), *_part_faults(members, parts)]
    if faults:
        raise InputError(*faults)
    sources = {path: source for member in members for path, source in member.sources.items()}
    digests = {path: digest for member in members for path, digest in member.digests.items()}
    _check_folder(out, sources)
    written: dict[str, BundledFile] = {}
    try:
        for path, source in sources.items():
            content = _read(source, digests.get(path), half=half)
            write(content, join(out, path))
            written[path] = BundledFile(sha256=hashlib.sha256(content).hexdigest(), size=len(content))
            report(path, len(content))
        contents = _describe(blend, data, members, written, half=half)
        write_record(contents.model_dump(mode="json"), join(out, BUNDLE_MANIFEST_FILE))
    except BaseException:
        for path in written:
            remove(join(out, path))
        raise
    return contents


def _check_stack(run: str, blend: BlendRecord, name: str) -> None:
    if not blend.combination.stack:
        return
    stacked = [making.name for making in stackings()]
    others = [making for making in blend.makings if making not in stacked]
    again = command("blendfold blend", run, options={"--method": others[0], "--name": f"{name}-linear"})
    raise InputError(
        f"blend {blend.name} is {blend.method}, and a bundle knows neither numeric columns nor trees; "
        f"fit one that it can hold with `{again}`"
    )


def _pairs(blend: BlendRecord) -> Iterator[tuple[MemberRecord, CombinationPart]]:
    return zip(blend.members, blend.combination.parts, strict=True)


def _with_weight(blend: BlendRecord) -> Combination:
    """Return the arithmetic without parts that add nothing."""
    return blend.combination.model_copy(update={"parts": tuple(part for _, part in _pairs(blend) if part.weight)})


def _describe(
    blend: WholeRecord,
    data: Prepared,
    members: list[GatheredMember],
    written: dict[str, BundledFile],
    *,
    half: bool,
) -> BundleManifest:
    texts, sections = _texts(data)
    several = {name: _with_weight(one) for name, one in blend.by_target.items() if name}
    return BundleManifest(
        format=BUNDLE_FORMAT,
        blend=blend.name,
        version=importlib.metadata.version("blendfold"),
        data_hash=blend.data_hash,
        split_hash=blend.split_hash,
        precision="fp16" if half else "fp32",
        task=data.task,
        texts=texts,
        section_titles=sections,
        members=tuple(
            BundledMember(
                candidate=member.record.candidate,
                label=member.record.label,
                backbone=member.backbone,
                folds=tuple(member.folds),
            )
            for member in members
        ),
        combination=None if isinstance(blend, TargetsRecord) else _with_weight(blend),
        combinations=several,
        clip=blend.clip,
        total_bytes=sum(file.size for file in written.values()),
        files=written,
    )


def _gather(member: MemberRecord, run: str) -> GatheredMember:
    """Return the files of a member that belong into the bundle, whether they exist or not."""
    place = home_of(member.candidate, run, member.run)
    folds = OofStore(place).folds(member.candidate)
    backbone = _read_backbone(place, member.candidate)
    sources = {candidate_path(".", member.candidate)[2:]: candidate_path(place, member.candidate)}
    sources |= {
        weights_file(".", member.candidate, fold)[2:]: weights_file(place, member.candidate, fold) for fold in folds
    }
    kept = backbone_folder(place, backbone)
    target = backbone_folder(".", backbone)[2:]
    listing = _listing(kept)
    sources |= {join(target, name): join(kept, name) for name in listing}
    digests = {join(target, name): digest for name, digest in listing.items()}
    return GatheredMember(member, place, folds, backbone, sources, digests)


def _read_backbone(run: str, candidate: str) -> str:
    """Return the backbone that a candidate's settings name; empty for a model that was not trained here."""
    if not exists(candidate_path(run, candidate)):
        return ""
    settings = read_settings(run, candidate)
    named = {"backbone", "recipe", "head", "loss"} <= settings.keys()
    return str(settings["backbone"]) if named else ""


def _listing(folder: str) -> dict[str, str]:
    """Return the names of a backbone's files with their sha256; empty if one is missing."""
    path = join(folder, LISTING_FILE)
    remedy = "remove it, then make it again with `blendfold refit`"
    files: dict[str, str] = read_record(path, dict, remedy=remedy) if exists(path) else {}
    return files if all(exists(join(folder, name)) for name in files) else {}


def _part_faults(members: list[GatheredMember], parts: list[CombinationPart]) -> Iterator[str]:
    gathered = {member.record.candidate: member for member in members}
    for part in parts:
        member = gathered[part.candidate]
        if len(part.scalings) not in (1, len(member.folds)):
            yield (
                f"{member.run}: candidate {part.candidate} has {len(member.folds)} folds, but {len(part.scalings)} "
                "scalings for them in blend.json; put back what is missing, or fit the blend again"
            )


def _member_faults(members: list[GatheredMember], run: str, name: str) -> list[str]:
    foreign = [f"{member.record.candidate} ({member.record.label})" for member in members if not member.backbone]
    faults = []
    if foreign:
        faults.append(
            f"blend {name} has members that were not trained here, so there are no models to bundle: "
            f"{', '.join(foreign)}; fit a blend without them (--exclude)"
        )
    missing = [sentence for member in members if member.backbone for sentence in _missing(member)]
    if missing:
        faults += missing
        faults.append(
            f"train these folds again with `{command('blendfold refit', run, options={'--blend': name})}`, "
            f"which keeps their weights, then run this command again"
        )
    return faults


def _missing(member: GatheredMember) -> Iterator[str]:
    """Yield what is missing of a member that was trained here."""
    who = f"{member.run}: candidate {member.record.candidate} ({member.record.label})"
    store = OofStore(member.run)
    found = {
        fold: find_weights(member.run, Provenance.of(store.read("oof", member.record.candidate, fold)))
        for fold in member.folds
    }
    absent, other = ([fold for fold in found if found[fold] == state] for state in ("absent", "other"))
    if absent:
        yield f"{who}: the weights of fold {', '.join(map(str, absent))} were not kept"
    if other:
        yield (
            f"{who}: the weights of fold {', '.join(map(str, other))} are damaged, or do not belong to its predictions"
        )
    if not member.digests:
        yield f"{who}: config, tokenizer and embeddings of backbone {member.backbone!r} were not kept"


# What goes into the folder


def _check_folder(folder: str | Path, sources: dict[str, str]) -> None:
    """Refuse a folder that holds anything but files of this bundle without its manifest."""
    if is_file(folder):
        raise InputError(f"--out {folder}: is a file; choose a folder that is new or empty")
    strange = sorted(path for path in list_sizes(folder) if path not in sources)
    if strange:
        what = (
            "a bundle already" if BUNDLE_MANIFEST_FILE in strange else f"other files already ({', '.join(strange[:3])})"
        )
        raise InputError(f"--out {folder}: holds {what}; choose a folder that is new or empty")


def _read(path: str, digest: str | None, *, half: bool) -> bytes:
    """Return a file's content, weights in half precision if `half`; InputError if it was changed after writing."""
    content = read_bytes(path)
    name = base_name(path)
    if name == WEIGHTS_FILE:
        intact = _is_intact(content)
    else:
        intact = digest is None or hashlib.sha256(content).hexdigest() == digest
    if not intact:
        raise InputError(
            f"{path}: content does not match its checksum, so the file was changed after it was written; remove it, "
            f"then make it again with `blendfold refit`"
        )
    return halve(content) if half and name in (WEIGHTS_FILE, EMBEDDING_FILE) else content


def _is_intact(weights: bytes) -> bool:
    try:
        return checksum_of_tensors(weights) == parse_header(weights).metadata.get("checksum")
    except ValueError:
        return False


def halve(content: bytes) -> bytes:
    """Return a safetensors file with its float32 tensors, if in range, in half precision, and the checksum updated."""
    header = parse_header(content)
    tensors = {name: _halved(value) for name, value in safetensors.numpy.load(content).items()}
    metadata = dict(header.metadata)
    if "checksum" in metadata:
        metadata["checksum"] = checksum_of_tensors(safetensors.numpy.save(tensors))
        metadata = seal(metadata)
    return bytes(safetensors.numpy.save(tensors, metadata or None))


def _halved(value: "np.ndarray[Any, Any]") -> "np.ndarray[Any, Any]":
    fits = value.dtype == np.float32 and (value.size == 0 or np.abs(value).max() <= LARGEST_HALF)
    return value.astype(np.float16) if fits else value


def _texts(data: Prepared) -> tuple[dict[str, str], dict[str, str]]:
    """Return texts of CPC codes (the data's, then shipped ones unless it had other titles) and section titles."""
    if data.task.cpc_column is None:
        return {}, {}
    shipped = {} if "cpc" in data.manifest.inputs else shipped_texts()
    known: dict[str, str] = {}
    for table in (data.train, data.test):
        pairs = table.select([data.task.cpc_column, "context_text"]).group_by([data.task.cpc_column, "context_text"])
        distinct = pairs.aggregate([])
        known |= dict(
            zip(distinct[data.task.cpc_column].to_pylist(), distinct["context_text"].to_pylist(), strict=True)
        )
    try:
        sections = data.section_titles
    except InputError:  # an older version did not keep other titles; no recipe of this blend needs them then
        sections = {}
    return {**shipped, **known}, sections or section_titles(shipped)

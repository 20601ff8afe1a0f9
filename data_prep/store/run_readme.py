"""The `README.txt` of a run directory: what each file in it is, for whoever finds it later."""

from data_prep.store.files import exists, join, read_bytes, write_bytes

README_FILE = "README.txt"
TEXT = """\
This is a run directory of blendfold: everything that a search (or an import of predictions) decided and produced.
Every finished result is here; nothing needs the machine that made it.

  see how it stands       blendfold status DIR
  rank the candidates     blendfold leaderboard DIR
  tell one in full        blendfold explain DIR CANDIDATE
  see where it is wrong   blendfold errors DIR
  blend the candidates    blendfold blend DIR
  continue the search     give its `blendfold run STUDY.yaml` again

DIR is this folder. Only these files can be there; which ones are depends on what was run:

  study.yaml                        the study as it runs, every default spelled out, and the hashes of data and split
  candidates/<candidate>.json       the settings of a candidate; the file name is its id
  sampled.json, sampled.journal     what the sampler drew, in order
  curves.arrow, curves.journal      every report of a fold run, in order of arrival
  oof/<candidate>/fold-<k>.arrow    out-of-fold predictions: id, fold, score, prediction; it means "finished"
  test/<candidate>/fold-<k>.arrow   the fold model's predictions for the test rows
  holdout/<candidate>/fold-<k>.arrow   and for the holdout rows, if the data has some
  status.json                       where every candidate stands, with the reason
  pulse.json                        what the driver last said about itself; may be deleted
  driver.json                       which process works here now; gone when none does
  memory.json                       resources of backbones that ran out of memory
  checkpoints/                      the state of unfinished fold runs; deleted as they finish
  weights/                          models of candidates that a blend may use, and what their backbones need
  damaged/                          tables that failed their checksum, set aside
  ray/                              Ray Tune's own files; may be deleted when no search runs
  blends/<name>/                    a blend: blend.json (members, weights, evidence), oof.arrow (its nested
                                    predictions), submission.csv with submission.json (what it is and its hash)

The .arrow files are Arrow IPC: `pyarrow.ipc.open_file(path).read_all()`, or `pandas.read_feather(path)`.
Every table and record carries a checksum, so do not edit them; delete no journal.
"""


def write_run_readme(run_dir: str) -> None:
    """Write the file, unless it is there already."""
    path = join(run_dir, README_FILE)
    if not exists(path) or read_bytes(path) != TEXT.encode():
        write_bytes(TEXT.encode(), path)

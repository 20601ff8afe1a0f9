"""Which rows a fold run trains on and predicts."""

import numpy as np
from transformers import AutoTokenizer

from data_prep.store.tables import HOLDOUT_FOLD
from models.candidate import Candidate
from models.text.fold_pools import load_fold_pools
from wide_run import ONE, wide_data


def test_a_fold_of_a_repeat_is_predicted_by_what_the_others_of_its_repeat_teach(tiny_bert, tmp_path):
    data = wide_data(tmp_path, ONE, n_rows=60, n_folds=2, repeats=2, holdout=0.2)
    tokenizer = AutoTokenizer.from_pretrained(tiny_bert)
    candidate = Candidate(backbone=tiny_bert, recipe="texts", max_length=32)
    ids, held = np.array(data.train["id"].to_pylist()), data.in_fold(HOLDOUT_FOLD)
    for fold in range(4):
        pools = load_fold_pools(data, fold, candidate=candidate, tokenizer=tokenizer)
        mine = data.folds[fold // 2] == fold
        for pool, rows in ((pools.train, ~mine & ~held), (pools.validation, mine), (pools.holdout, held)):
            assert pool is not None
            assert pool.table["id"].to_pylist() == ids[rows].tolist()

"""Shares of families: weights in which every family takes part."""

from collections.abc import Sequence

import numpy as np

from data_prep.scoring.combination import Floats

LEAST_SHARE = 0.02
"""The least weight of a family, where every family takes part."""


def raise_families(weights: Floats, families: Sequence[str], alone: Floats) -> Floats:
    """Give every family at least `LEAST_SHARE` of `weights` [members], at the others' cost in proportion.

    In a family with too little, the member with the best utility `alone` [members] gets all of it.
    """
    names = sorted(set(families))
    share = {name: sum(w for w, family in zip(weights, families, strict=True) if family == name) for name in names}
    short = [name for name in names if share[name] < LEAST_SHARE]
    if not short or len(names) * LEAST_SHARE >= 1.0:
        return weights
    raised = weights.copy()
    for name in short:
        places = [place for place, family in enumerate(families) if family == name]
        raised[places] = 0.0
        raised[max(places, key=lambda place: alone[place])] = LEAST_SHARE
    rich = np.array([family not in short for family in families])
    raised[rich] *= (1.0 - LEAST_SHARE * len(short)) / raised[rich].sum()
    return raised

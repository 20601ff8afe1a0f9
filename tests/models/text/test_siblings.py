import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.text.recipes import Siblings
from models.text.siblings import gather_siblings, number_rows, sibling_groups


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(10, 15)), min_size=1, max_size=30))
@settings(deadline=None)
def test_members_are_the_distinct_phrases_of_the_group_in_file_order(rows):
    group = np.unique([number for number, _ in rows], return_inverse=True)[1]
    phrase = np.array([number for _, number in rows])
    members = gather_siblings(group, phrase)
    assert (np.diff(members.row) >= 0).all()
    for row in range(len(rows)):
        expected = list(dict.fromkeys(phrase[group == group[row]].tolist()))
        assert members.phrase[members.row == row].tolist() == expected
        assert members.phrase[members.own & (members.row == row)].tolist() == [phrase[row]]


@pytest.mark.parametrize(("section_of", "n_groups"), [(None, 4), ("code", 3)])
def test_rows_agree_in_every_key_column(section_of, n_groups):
    table = pa.table({"anchor": ["a", "a", "b", "a", "b"], "code": ["A01", "A02", "A01", "H01", "A01"]})
    group = sibling_groups(table, Siblings("target", ("anchor", "code"), section_of=section_of))
    assert sorted(set(group.tolist())) == list(range(n_groups))
    assert group[2] == group[4] != group[0]
    assert (group[0] == group[1]) == (section_of is not None)
    assert group[3] not in group[:3]


def test_combinations_are_numbered_whatever_the_chunks():
    first, second = pa.chunked_array([["x", "y"], ["x"]]), pa.chunked_array([["1"], ["1", "1"]])
    assert number_rows([first, second]).tolist() == [0, 1, 0]

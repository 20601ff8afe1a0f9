import dataclasses

import pytest

from data_prep.errors import InputError
from models.candidate import Candidate
from models.text.context_texts import CONTEXT_FORMS, with_context

FORMS = Candidate.model_fields["context"].annotation.__args__


def test_every_form_is_known():
    assert set(CONTEXT_FORMS) == set(FORMS) - {"full", "code"}


@pytest.mark.parametrize("form", FORMS)
def test_only_the_context_text_changes(form, few_rows):
    for table in (few_rows.train, few_rows.test):
        found = with_context(table, few_rows, form)
        assert found.column_names == table.column_names
        assert found.drop_columns("context_text").equals(table.drop_columns("context_text"))
        assert found["context_text"].equals(table["context_text"]) == (form not in CONTEXT_FORMS)


@pytest.mark.parametrize("form", CONTEXT_FORMS)
def test_texts_of_other_titles_are_refused(form, few_rows):
    manifest = few_rows.manifest.model_copy(update={"section_titles": {"A": "HUMAN", "H": "HEAT; LIGHT"}})
    data = dataclasses.replace(few_rows, manifest=manifest)
    with pytest.raises(InputError, match=r"'A\d\d' must begin with the title of its section, which is 'HUMAN'"):
        with_context(data.train, data, form)

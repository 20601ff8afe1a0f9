import pytest

from data_prep.errors import InputError
from data_prep.task import PPPM, Task
from models.candidate import Candidate
from models.recipes import RECIPES

SENTENCES = Task(name="sentences", text_columns=("first", "second"), score_range=(0.0, 5.0))
ANSWERS = Task(name="answers", text_columns=("question", "answer", "subject"), score_range=(0.0, 1.0))
REVIEWS = Task(name="reviews", text_columns=("review",), score_range=(1.0, 5.0))


def test_registry_names_its_recipes():
    assert all(name == recipe.name and recipe.summary for name, recipe in RECIPES.items())


@pytest.mark.parametrize("name", RECIPES)
@pytest.mark.parametrize("task", [PPPM, ANSWERS], ids=lambda task: task.name)
def test_layouts_name_columns_of_the_prepared_table(name, task):
    columns = {*task.text_columns, *(["context_text"] if task.cpc_column else [])}
    layout = RECIPES[name].layout(task, Candidate())
    first = [layout.columns[0], layout.siblings.column if layout.packed and layout.siblings else layout.columns[1]]
    assert first == list(task.text_columns[:2])
    assert set(layout.yielding) < set(layout.columns) <= columns
    if layout.siblings:
        assert layout.siblings.column == task.text_columns[1]
        assert set(layout.siblings.key) <= columns - {layout.siblings.column}


def test_pppm_reads_titles_and_groups_by_code():
    assert RECIPES["pair_context"].layout(PPPM, Candidate()).columns == ("anchor", "target", "context_text")
    siblings = RECIPES["grouped"].layout(PPPM, Candidate()).siblings
    assert siblings is not None
    assert siblings.key == ("anchor", "context")


def test_without_codes_the_third_text_is_the_context():
    assert RECIPES["grouped"].layout(ANSWERS, Candidate()).columns == ("question", "answer", "subject")


@pytest.mark.parametrize("name", ["pair_context", "grouped", "packed"])
def test_a_task_without_context_is_refused(name):
    with pytest.raises(InputError, match=r"neither cpc_column nor a third text column.*use recipe pair"):
        RECIPES[name].layout(SENTENCES, Candidate())
    with pytest.raises(InputError, match="use recipe pair"):
        RECIPES[name].layout(REVIEWS, Candidate())


def test_pair_takes_what_there_is():
    assert RECIPES["pair"].layout(SENTENCES, Candidate()).columns == ("first", "second")
    assert RECIPES["pair"].layout(REVIEWS, Candidate()).columns == ("review",)

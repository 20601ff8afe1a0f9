"""What passes through a fold run, counted without its tokenizer."""

import pytest

from models.backbones.locate_backbone import locate_backbone
from models.candidate import Candidate
from models.cost.token_counts import TokenCounter, stand_in_tokenizer
from small_models import train


@pytest.mark.parametrize(
    "settings", [{}, {"recipe": "packed", "batch_size": 8}, {"recipe": "grouped", "max_length": 24}]
)
def test_steps_and_rows_are_those_of_the_fold_run(settings, prepared_tiny, tiny_bert):
    candidate = Candidate(backbone=tiny_bert, epochs=2, precision="fp32", **settings)
    found = TokenCounter(prepared_tiny, rung_rows=20).of(candidate)
    steps = []
    train(candidate, prepared_tiny, 0, rungs=(0.5,), rung_rows=20, report=lambda report: steps.append(report) or True)
    assert found.steps == len(found.epoch) * 2
    assert found.rows == 60 + 40 + 30
    if "recipe" not in settings:
        assert found.epoch[:, 0].sum() == 234 - 60
        assert found.scored[:, 0].sum() == steps[0].rows == 20
        assert found.steps == 12


def test_what_is_written_alike_is_counted_once(prepared_tiny):
    counter = TokenCounter(prepared_tiny, rung_rows=None)
    first = counter.of(Candidate(epochs=1))
    again = counter.of(Candidate(epochs=3, head="cls", backbone="roberta-base"))
    assert again.epoch is first.epoch
    assert again.steps == 3 * first.steps
    assert counter.of(Candidate(max_length=12)).tokens < first.tokens


def test_the_stand_in_makes_about_as_many_tokens_as_word_pieces():
    from models.backbones.tiny_checkpoints import sample_phrases

    phrases = sample_phrases()
    count = lambda tokenizer: sum(map(len, tokenizer(phrases, add_special_tokens=False)["input_ids"]))  # noqa: E731
    assert count(stand_in_tokenizer()) == pytest.approx(count(locate_backbone("minilm-l6").tokenizer), rel=0.1)

"""A first study for a task, in a size that this machine can train."""

from data_prep.cpc import shipped_texts
from data_prep.prepare.guess_task import TaskGuess
from data_prep.task import Task
from models.backbones.families import SHIPPED

LENGTHS = (32, 64, 128, 256, 512)
TOKENS_OF_A_WORD = 1.4
FRAME = 6
"""Special tokens of a row, about."""
EPOCHS = {2_000: 5, 20_000: 3}
"""Passes over the rows, by how many rows there are at most."""
MOST_EPOCHS = 2
LARGE = "microsoft/deberta-v3-small"


def first_study(guess: TaskGuess, *, name: str, data: str, cores: int, has_gpu: bool) -> str:
    """Return the text of a study file with two candidates, each choice with its reason."""
    titles = sorted(len(text.split()) for text in shipped_texts().values()) if guess.task.cpc_column else [0]
    words = guess.words + titles[9 * len(titles) // 10]  # nine titles of CPC codes in ten are not longer
    wanted = words * TOKENS_OF_A_WORD + FRAME
    length = next((size for size in LENGTHS if size >= wanted), LENGTHS[-1])
    epochs = next((number for rows, number in EPOCHS.items() if guess.n_rows <= rows), MOST_EPOCHS)
    n_texts = len(guess.task.text_columns)
    recipe = "pair_context" if guess.task.cpc_column else "pair" if n_texts == 2 else "texts"
    backbone, rate = (LARGE, "5.0e-5") if has_gpu else (SHIPPED, "2.0e-4")
    gpu = ", gpu: 1" if has_gpu else ""
    why = "a GPU is here" if has_gpu else "no GPU is here: small enough for a CPU"
    shared = f"backbone: {backbone}, recipe: {recipe}, max_length: {length}, epochs: {epochs}, backbone_lr: {rate}"
    with_titles = " with the titles of their CPC codes" if guess.task.cpc_column else ""
    tokens = f"{wanted:.0f} tokens at {TOKENS_OF_A_WORD:g} a word"
    first, second = _losses(guess.task)
    cut = "" if wanted <= length else "; longer texts are cut"
    return f"""# A first study, by `blendfold init`: two candidates, to see that all works and what a fold costs.
name: {name}
data: {data}
resources: {{cpu: 1{gpu}}}  # {cores} cores here
ladder: {{enabled: false}}  # too few candidates to stop any early
candidates:
  # backbone: {why}
  # recipe: all texts of the task, in reading order
  # max_length: 99 % of the rows have at most {words:,} words{with_titles}, about {tokens}{cut}
  # epochs: {guess.n_rows:,} rows
  mean-{first}: {{{shared}, head: mean, loss: {first}}}
  attention-{second}: {{{shared}, head: attention, loss: {second}}}
"""


def _losses(task: Task) -> tuple[str, str]:
    """Return the losses of both candidates."""
    if task.classes is not None:
        return "cross_entropy", "bce"
    has_labels = task.score_columns is not None and task.score_levels == (0, 1)
    return ("bce" if has_labels else "mse"), "bce"

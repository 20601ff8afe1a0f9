"""`BatchSchedule`: which batch each step of a fold run takes, over all its epochs."""

import math
from collections.abc import Iterator

from models.candidate import Candidate
from models.text.batches import Batch, training_batches
from models.text.row_pool import RowPool


class BatchSchedule:
    """A fold run's steps, a pure function of rows and candidate; `within_groups` puts rows of an anchor together."""

    def __init__(self, rows: RowPool, candidate: Candidate, *, within_groups: bool) -> None:
        self._rows, self._candidate, self._within_groups = rows, candidate, within_groups
        first_epoch = rows.encode(0)
        self._texts_per_step = first_epoch.texts_per_batch(candidate.batch_size)
        self.steps_per_epoch = math.ceil(len(first_epoch) / self._texts_per_step)
        self.n_steps = self.steps_per_epoch * candidate.epochs

    def epoch(self, step: int) -> float:
        """Return the epochs that so many steps are."""
        return step / self.steps_per_epoch

    def batches(self, step: int) -> Iterator[Batch]:
        """Yield the batches of all steps after the first `step`."""
        first_epoch, first = divmod(step, self.steps_per_epoch)
        for epoch in range(first_epoch, self._candidate.epochs):
            encoded = self._rows.encode(epoch)
            plan = training_batches(
                encoded.lengths,
                self._texts_per_step,
                seed=self._candidate.seed,
                epoch=epoch,
                groups=encoded.text_groups if self._within_groups else None,
            )
            for texts in plan[first if epoch == first_epoch else 0 :]:
                yield encoded.batch(texts)

"""`CandidateSupply`: the candidates of a study, explicit ones first, then draws of the sampler within the budget."""

from collections import deque
from collections.abc import Callable, Collection

from data_prep.store.candidate_records import candidate_path, write_settings
from data_prep.store.files import exists
from models.candidate import Candidate
from search.run_dir.drawn_candidates import DrawnCandidates
from search.run_dir.run_dir import RunDir
from search.study.read_candidates import read_candidates
from search.study.read_space import read_space
from search.study.sampler import Sampler
from search.study.study_file import Study


class CandidateSupply:
    """Gives out candidates that have not started; with `only` (ids) no other starts, and nothing is drawn."""

    def __init__(
        self, study: Study, run_dir: str, *, only: Collection[str] | None, message: Callable[[str], None]
    ) -> None:
        self.known: dict[str, Candidate] = {}
        self._study = study
        self._run_dir = RunDir(run_dir)
        self._only = only
        self._message = message
        self._draws = DrawnCandidates(run_dir)
        self._sampler = Sampler(read_space(study.space), kind=study.sampler, seed=study.seed) if study.space else None
        for candidate in read_candidates(study.candidates, allow_twins=True).values():
            self._add(candidate)
        for drawn in self._draws.entries:
            assert self._sampler is not None
            self._add(drawn.candidate)
            self._sampler.restore(drawn)
        self._not_started = deque(self.known.values())

    def candidate(self, candidate: str) -> Candidate:
        """Return a candidate by its id; one that the study no longer names is read from the run directory."""
        if candidate not in self.known:
            self.known[candidate] = self._run_dir.candidate(candidate)
        return self.known[candidate]

    def skip(self, started: Collection[str]) -> None:
        """Leave out the candidates that have started, and those that may not start."""
        self._not_started = deque(
            candidate
            for candidate in self._not_started
            if candidate.id not in started and (self._only is None or candidate.id in self._only)
        )

    @property
    def has_more(self) -> bool:
        """Whether a candidate may be left that has not started."""
        return bool(self._not_started) or self._may_draw()

    @property
    def n_to_come(self) -> int:
        """How many candidates have not started, as far as the budget tells."""
        limit = self._study.budget.candidates
        undrawn = 0 if not self._may_draw() or limit is None else max(limit - len(self.known), 0)
        return len(self._not_started) + undrawn

    def take(self) -> Candidate | None:
        """Return the next candidate to start; None: the space has no new one left."""
        if self._not_started:
            return self._not_started.popleft()
        assert self._sampler is not None
        drawn = self._sampler.ask(self.known)
        if drawn is None:
            self._sampler = None
            if self._study.sampler != "grid":
                self._message("the space gives no candidate that is not known already; no more are drawn")
            return None
        self._add(drawn.candidate)
        self._draws.append(drawn)
        return drawn.candidate

    def tell_result(self, candidate: str, utility: float | None, progress: float) -> None:
        """Let the sampler learn the result of a candidate on fold 0; see `Sampler.tell`."""
        if self._sampler is not None:
            self._sampler.tell(candidate, utility, progress=progress)

    def close(self) -> None:
        """Bring all draws into the file that others read."""
        self._draws.compact()

    def _may_draw(self) -> bool:
        limit = self._study.budget.candidates
        return self._sampler is not None and self._only is None and (limit is None or len(self.known) < limit)

    def _add(self, candidate: Candidate) -> None:
        self.known[candidate.id] = candidate
        if not exists(candidate_path(self._run_dir.path, candidate.id)):
            write_settings(candidate.model_dump(mode="json"), self._run_dir.path, candidate.id)

"""`Faults`: everything wrong with a set of input files, told in one error."""

from data_prep.errors import InputError

N_EXAMPLES = 20
LONGEST_QUOTE = 48


class Faults:
    """Collects faults, groups those that break the same rule, and raises them together."""

    def __init__(self) -> None:
        self._examples: dict[tuple[str, str], list[str]] = {}
        self._counts: dict[tuple[str, str], int] = {}

    def __bool__(self) -> bool:
        return bool(self._counts)

    def add(self, where: str, rule: str, *, line: int | None = None, found: str | None = None) -> None:
        """Note one fault.

        Args:
            where: the file, with its column where there is one.
            rule: what should be so, and what to do; faults with the same `where` and `rule` are listed together.
            line: line of the file, 1 for its first.
            found: the offending text.
        """
        key = (where, rule)
        self._counts[key] = self._counts.get(key, 0) + 1
        examples = self._examples.setdefault(key, [])
        if line is not None and len(examples) < N_EXAMPLES:
            examples.append(f"line {line}" + ("" if found is None else f" {quote(found)}"))

    def raise_all(self) -> None:
        """Raise what was collected, if anything.

        Raises:
            InputError: one fault per broken rule, with its first examples and their number.
        """
        if self:
            raise InputError(*(self._sentence(key) for key in self._counts))

    def _sentence(self, key: tuple[str, str]) -> str:
        where, rule = key
        examples, count = self._examples[key], self._counts[key]
        if not examples:
            return f"{where}: {rule}"
        more = f" and {count - len(examples):,} more" if count > len(examples) else ""
        return f"{where}: {rule}; found {count:,}: {', '.join(examples)}{more}"


def quote(text: str) -> str:
    """Return `text` in quotes with control characters escaped, cut to a readable length."""
    return repr(text if len(text) <= LONGEST_QUOTE else text[:LONGEST_QUOTE] + "...")

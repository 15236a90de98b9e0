"""What readers of annotation files share: parsing, and checks of lists of entries with ids."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from amodal2.structures.mask_checks import Problem
from amodal2.utils.errors import AnnotationError
from amodal2.utils.json_input import is_id, is_text, read_json
from amodal2.utils.logging import get_logger

logger = get_logger(__name__)


def parse_annotations(path: str | Path, lists: Sequence[str], reader: str) -> dict[str, Any]:
    """Parse a JSON file and check that it is an object with certain lists.

    Args:
        path: an existing file.
        lists: keys of the lists.
        reader: name of the calling function, for messages.

    Returns:
        dict: the content.

    Raises:
        AnnotationError: if it is no JSON or a list is missing.
    """
    data = read_json(path, reader)
    for key in lists:
        if not isinstance(data, dict) or not isinstance(data.get(key), list):
            names = f"{', '.join(lists[:-1])} and {lists[-1]}"
            raise AnnotationError(
                f"{reader}: expected an object with lists {names}", file=path, key=key
            )
    return data


class EntryChecks:
    """Checks the entries of one file; holds what its error messages need.

    Args:
        file: path of the file.
        skip_invalid: leave invalid entries out and count them, instead of stopping.
        reader: name of the reading function, for messages.
        parent: what annotations belong to, "image" or "video".
    """

    def __init__(self, file: str, skip_invalid: bool, reader: str, parent: str) -> None:
        self.file = file
        self.skip_invalid = skip_invalid
        self.skipped = 0
        self._reader, self._parent = reader, parent

    def keep(
        self, entries: list[Any], check: Callable[[dict[str, Any]], Problem | None], kind: str
    ) -> list[dict[str, Any]]:
        """Return the entries that have an id of their own and pass a check.

        Args:
            entries: of the file.
            check: returns the problem of an entry, or None.
            kind: "category", "annotation" or the parent's.

        Raises:
            AnnotationError: at the first invalid entry, unless they are left out.
        """
        kept: list[dict[str, Any]] = []
        seen: set[int] = set()
        for position, entry in enumerate(entries):
            if not isinstance(entry, dict):
                problem: Problem | None = (kind, f"expected an object, got {entry!r:.80}")
                entry = {}
            elif not is_id(entry.get("id")):
                got = entry.get("id")
                problem = ("id", f"expected an integer id in {kind} number {position}, got {got!r}")
            elif entry["id"] in seen:
                problem = ("id", f"expected unique {kind} ids, got {entry['id']} twice")
            else:
                problem = check(entry)
            if problem is not None:
                self.reject(kind, entry, problem)
                continue
            seen.add(entry["id"])
            kept.append(entry)
        return kept

    def keep_categories(self, entries: list[Any]) -> list[dict[str, Any]]:
        """Return the categories that have an id and a name of their own.

        Results are reported, and predictions matched, by these names.

        Args:
            entries: of the file.

        Raises:
            AnnotationError: as :meth:`keep`.
        """
        names: set[str] = set()

        def problem_of(category: dict[str, Any]) -> Problem | None:
            name = category.get("name")
            if not isinstance(name, str) or not is_text(name):
                return "name", f"expected a category name, got {name!r:.80}"
            if name in names:
                return "name", f"expected unique category names, got {name!r:.80} twice"
            names.add(name)
            return None

        return self.keep(entries, problem_of, "category")

    def reject(self, kind: str, entry: dict[str, Any], problem: Problem) -> None:
        """Stop at an invalid entry, or count it.

        Args:
            kind: as in :meth:`keep`.
            entry: the entry.
            problem: its key and what was expected and found.

        Raises:
            AnnotationError: unless invalid entries are left out.
        """
        key, text = problem
        places = {f"{kind}_id": entry.get("id")} if kind != "category" else {}
        if kind == "annotation":
            places[f"{self._parent}_id"] = entry.get(f"{self._parent}_id")
        if not self.skip_invalid:
            raise AnnotationError(f"{self._reader}: {text}", file=self.file, key=key, **places)
        self.skipped += 1
        logger.debug("%s: left out %s %s, key %s: %s", self.file, kind, entry.get("id"), key, text)

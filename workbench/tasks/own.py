"""A set of samples from a user's own file, and how it was read."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from workbench.errors import UserError, unknown
from workbench.tasks.columns import NAMEABLE, Reading
from workbench.tasks.json_rows import RowList
from workbench.tasks.pieces import PIECE_WORDS, cut
from workbench.tasks.rows import samples_from
from workbench.tasks.samples import Sample
from workbench.tasks.sources import hub, rows

HUB = "hub:"  # before a data set's name: hub:OWNER/NAME, hub:OWNER/NAME/CONFIG, either with :SPLIT


def own_set(
    source: str, prefix: str, named: Mapping[str, str] | None = None, piece_words: int = PIECE_WORDS
) -> tuple[list[Sample], Reading]:
    """The samples of a file, or of a data set of the hub; long plain texts are cut into pieces.

    Args:
        source: the path, or `hub:` and a name.
        prefix: the set's name, of which ids are made for rows without one.
        named: key -> column, where the columns' names do not tell; a source without any of these is read as usual.
        piece_words: the most words of a plain text's piece.

    Returns:
        (samples, how the rows were read; its `named` is empty where the source has none of those columns).

    Raises:
        UserError: it cannot be read, has no rows, or a row is wrong; the line names the place.
    """
    records = _from_hub(source) if source.startswith(HUB) else list(rows(Path(source)))
    if not records:
        raise UserError(f"{source}: the {prefix} set is empty; give at least one row")
    columns = dict.fromkeys(name for _, row in records for name in row)
    missing = [name for name in (named or {}).values() if name not in columns]
    if named and missing and len(missing) < len(named):
        raise UserError(f"{source}: no column '{missing[0]}', which --columns names; there are {', '.join(columns)}")
    reading = Reading(source, {} if missing else named or {})
    samples = samples_from([(where, reading.row(where, row)) for where, row in records], prefix)
    pieces = [cut(sample, piece_words) for sample in samples]
    if long := [each for each in pieces if len(each) > 1]:
        note = f"cut into {sum(map(len, long))} pieces of at most {piece_words} words"
        reading.notes[note] += len(long)
    return [piece for each in pieces for piece in each], reading


def check_named(named: Mapping[str, str] | None) -> None:
    """Raise for a key that no row has."""
    for key in named or {}:
        if key not in NAMEABLE:
            raise unknown("key of --columns", key, list(NAMEABLE))


def _from_hub(source: str) -> RowList:
    name, _, split = source.removeprefix(HUB).partition(":")
    owner, _, rest = name.partition("/")
    name, _, config = rest.partition("/")
    if not (owner and name):
        raise UserError(f"{source}: write {HUB}OWNER/NAME, {HUB}OWNER/NAME/CONFIG, and :SPLIT after either")
    return hub(f"{owner}/{name}", config or None, split or "train", "check the name, or save it as a file")

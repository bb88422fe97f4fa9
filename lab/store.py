"""A study's preferences in SQLite: a row a completion, a row a ranking. Nothing is deleted."""

from __future__ import annotations

import json
import sqlite3
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from .errors import AlreadyAnswered, DamagedStudy, LabError
from .preferences import Completion, Pair, Ranking, pairs_of
from .schema import SCHEMA, SCHEMA_VERSION, UPGRADES

NOT_DAMAGE = (  # somebody else writes, the disk is full, access is missing
    sqlite3.SQLITE_BUSY,
    sqlite3.SQLITE_LOCKED,
    sqlite3.SQLITE_FULL,
    sqlite3.SQLITE_READONLY,
    sqlite3.SQLITE_CANTOPEN,
    sqlite3.SQLITE_PERM,
    sqlite3.SQLITE_IOERR,
)
STANDING = """undone IS NULL AND (:policy IS NULL OR :policy = (
    SELECT policy FROM completions WHERE completions.id = json_extract(shown, '$[0]')))
    AND (:rater IS NULL OR rater = :rater)"""


class PreferenceStore:
    """Completions, rankings and cached features of one study.

    Safe to use from several threads and several notebooks: one connection behind a lock, and a
    rollback journal with `synchronous=FULL`, since WAL fails on network home folders. When a
    method that writes has returned, the row is on disk.

    Raises:
        DamagedStudy: the file is no sound store. It is kept aside under another name.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._lock = threading.RLock()
        new = not self.path.exists() or self.path.stat().st_size == 0
        self._db = sqlite3.connect(self.path, check_same_thread=False, timeout=30)
        try:
            self._db.execute("PRAGMA synchronous=FULL")
            if new:
                self._db.executescript(SCHEMA)  # all of it or nothing, whoever else opens it now
            sound = self._db.execute("PRAGMA quick_check").fetchone()[0] == "ok"
            version = int(self._meta("schema_version")) if sound else 0
        except (sqlite3.DatabaseError, TypeError, ValueError) as error:
            code = getattr(error, "sqlite_errorcode", 0) & 0xFF
            if code in NOT_DAMAGE:
                self._db.close()
                raise LabError(
                    f"{self.path} can't be opened now ({error}). The file is untouched: close what "
                    "else holds it, or free the disk, and try again."
                ) from error
            sound, version = False, 0
        if not sound:
            self._db.close()
            raise keep_aside(
                self.path,
                "The next opening starts an empty store; `sqlite3 FILE .recover` may "
                "bring back what the old one holds.",
            )
        if version > SCHEMA_VERSION:
            self._db.close()
            raise LabError(
                f"{self.path} was written by a newer lab (schema {version}; this one knows "
                f"{SCHEMA_VERSION}). Update the lab; the file is untouched."
            )

        self._upgrade(version)

    def _upgrade(self, version: int) -> None:
        """Bring an older store up to this version, each step whole or not at all."""
        for step in range(version + 1, SCHEMA_VERSION + 1):
            try:
                self._db.executescript(UPGRADES[step])
            except sqlite3.OperationalError:
                self._db.rollback()
                if int(self._meta("schema_version")) < step:  # nobody else did it meanwhile
                    raise

    def close(self) -> None:
        """Close the file. Nothing needs saving: everything acknowledged is on disk."""
        with self._lock:
            self._db.close()

    def _write(self, sql: str, values: Sequence) -> int:
        with self._lock, self._db:
            return self._db.execute(sql, values).lastrowid

    def _read(self, sql: str, values: Sequence | Mapping = ()) -> list[tuple]:
        with self._lock:
            return self._db.execute(sql, values).fetchall()

    def _meta(self, key: str) -> str | None:
        rows = self._read("SELECT value FROM meta WHERE key = ?", (key,))
        return rows[0][0] if rows else None

    @property
    def guidelines(self) -> str:
        """What the study's owner asks of its raters."""
        return self._meta("guidelines") or ""

    @guidelines.setter
    def guidelines(self, text: str) -> None:
        self._write("INSERT OR REPLACE INTO meta VALUES ('guidelines', ?)", (clean(text),))

    # Completions

    def add_completions(
        self, completions: Iterable[Completion], extractor: str = "", features=None
    ) -> list[int]:
        """Store completions, with their features [n, H] where they are known. Returns the ids."""
        ids = []
        with self._lock, self._db:
            for i, c in enumerate(completions):
                row = (clean(c.prompt), clean(c.text), json.dumps(c.token_ids), c.finished, c.model)
                row += (c.source, c.policy, json.dumps(c.sampling), time.time())
                sql = "INSERT INTO completions VALUES (NULL,?,?,?,?,?,?,?,?,?)"
                ids.append(self._db.execute(sql, row).lastrowid)
                if features is not None:
                    self._add_feature(ids[-1], extractor, features[i])
        return ids

    def completions(self, prompt: str | None = None, policy: str | None = None) -> list[Completion]:
        """Stored completions, oldest first; of one prompt, or of one policy, if given."""
        wanted = {"prompt": prompt, "policy": policy}
        given = {name: value for name, value in wanted.items() if value is not None}
        where = " AND ".join(f"{name} = :{name}" for name in given) or "TRUE"
        sql = f"SELECT * FROM completions WHERE {where} ORDER BY id"
        return [as_completion(row) for row in self._read(sql, given)]

    def count(self, prompt: str, policy: str) -> int:
        """How many completions of a prompt a policy has."""
        sql = "SELECT COUNT(*) FROM completions WHERE prompt = ? AND policy = ?"
        return self._read(sql, (clean(prompt), policy))[0][0]

    def ids_by_prompt(self, policy: str) -> dict[str, list[int]]:
        """Ids of a policy's completions of each prompt, oldest first."""
        found: dict[str, list[int]] = {}
        sql = "SELECT prompt, id FROM completions WHERE policy = ? ORDER BY id"
        for prompt, id in self._read(sql, (policy,)):
            found.setdefault(prompt, []).append(id)
        return found

    def completion(self, id: int) -> Completion:
        """One completion by its id."""
        rows = self._read("SELECT * FROM completions WHERE id = ?", (id,))
        if not rows:
            raise LabError(f"There is no completion {id} in {self.path}.")
        return as_completion(rows[0])

    # Rankings

    def add_ranking(self, ranking: Ranking) -> Ranking:
        """Store a judgement; it is on disk when this returns.

        Raises:
            LabError: the tiers are not an arrangement of the completions shown.
            AlreadyAnswered: what it edits no longer stands.
        """
        if ranking.tiers is not None:
            placed = [c for tier in ranking.tiers for c in tier]
            if sorted(placed) != sorted(ranking.shown) or len(set(placed)) != len(placed):
                raise LabError(
                    f"The tiers {ranking.tiers} are not an arrangement of the completions shown "
                    f"{ranking.shown}: each must be in exactly one tier."
                )
        created = ranking.created or time.time()  # one that comes from another store has its own
        row = (clean(ranking.prompt), json.dumps(ranking.tiers), json.dumps(ranking.shown))
        row += (ranking.selection_probability, clean(ranking.rater), ranking.simulated)
        row += (ranking.seconds, json.dumps(ranking.predicted), created, ranking.selection)
        row += (ranking.all_bad, None if ranking.note is None else clean(ranking.note))
        row += (ranking.edits, ranking.repeats)
        sql = "INSERT INTO rankings VALUES (NULL,?,?,?,?,?,?,?,?,?,NULL,?,?,?,?,?)"
        with self._lock, self._db:
            id = self._db.execute(sql, row).lastrowid
            replaced = "UPDATE rankings SET undone = ? WHERE id = ? AND undone IS NULL"
            count = self._db.execute(replaced, (created, ranking.edits)).rowcount
            if ranking.edits is not None and not count:
                raise AlreadyAnswered(
                    f"Ranking {ranking.edits} was changed or taken back elsewhere meanwhile. It is "
                    "left as it is there."
                )
        return replace(ranking, id=id, created=created)

    def rankings(
        self,
        skipped: bool = False,
        policy: str | None = None,
        after: int = 0,
        rater: str | None = None,
        repeats: bool = False,
    ) -> list[Ranking]:
        """Rankings that stand, oldest first; with `skipped`, the skipped prompts as well; of one
        policy's completions or one rater, if given; newer than the id `after`. Those that repeat
        an earlier one are left out, unless they are wanted too."""
        sql = f"SELECT * FROM rankings WHERE {STANDING} AND id > :after ORDER BY id"
        values = {"policy": policy, "rater": rater, "after": after}
        found = [as_ranking(row) for row in self._read(sql, values)]
        return [
            r for r in found if (skipped or r.tiers is not None) and (repeats or r.repeats is None)
        ]

    def ranking(self, id: int) -> Ranking:
        """One judgement by its id, also one that was taken back."""
        rows = self._read("SELECT * FROM rankings WHERE id = ?", (id,))
        if not rows:
            raise LabError(f"There is no ranking {id} in {self.path}.")
        return as_ranking(rows[0])

    def judged(
        self, skipped: bool = False, policy: str | None = None, rater: str | None = None
    ) -> list[str]:
        """The prompts of `rankings(skipped, policy, rater=rater)`, each once, in the order of the
        first."""
        sql = f"""SELECT prompt FROM rankings WHERE {STANDING} AND (:skipped OR tiers != 'null')
                  GROUP BY prompt ORDER BY MIN(id)"""
        values = {"policy": policy, "rater": rater, "skipped": skipped}
        return [prompt for (prompt,) in self._read(sql, values)]

    def was_guessed(self, prompt: str, rater: str) -> bool:
        """Whether a rater has ranked a prompt before and seen the reward model's guess, though it
        was taken back."""
        sql = """SELECT 1 FROM rankings WHERE prompt = ? AND rater = ? AND undone IS NOT NULL
                 AND tiers != 'null' AND predicted != 'null' LIMIT 1"""
        return bool(self._read(sql, (clean(prompt), clean(rater))))

    def ranked(self) -> list[tuple[str, str]]:
        """Prompt and policy of each of `rankings()`, without reading what was ranked."""
        return self._read(
            """SELECT prompt,
               (SELECT policy FROM completions WHERE completions.id = json_extract(shown, '$[0]'))
               FROM rankings WHERE undone IS NULL AND tiers != 'null' AND repeats IS NULL
               ORDER BY id"""
        )

    def undone(self) -> set[int]:
        """Ids of the judgements that were taken back."""
        return {id for (id,) in self._read("SELECT id FROM rankings WHERE undone IS NOT NULL")}

    def undo(self, rater: str | None = None, id: int | None = None) -> Ranking | None:
        """Take back the last judgement that stands (of one rater, or the one with an id, if given);
        what it had edited stands again. The row stays in the store, marked. Returns what was taken
        back, or None if there was nothing."""
        last = "SELECT * FROM rankings WHERE undone IS NULL AND (:rater IS NULL OR rater = :rater)"
        last += " AND (:id IS NULL OR id = :id) ORDER BY id DESC LIMIT 1"
        values = {"rater": rater and clean(rater), "id": id}
        with self._lock, self._db:
            found = [as_ranking(row) for row in self._read(last, values)]
            for ranking in found:
                mark = "UPDATE rankings SET undone = ? WHERE id = ?"
                self._db.execute(mark, (time.time(), ranking.id))
                self._db.execute(mark, (None, ranking.edits))
        return found[0] if found else None

    def pairs(self) -> list[Pair]:
        """The preference pairs of all rankings that stand."""
        return [pair for ranking in self.rankings() for pair in pairs_of(ranking)]

    # Features

    def _add_feature(self, completion: int, extractor: str, vector) -> None:
        blob = np.asarray(vector, dtype="<f4").tobytes()
        sql = "INSERT OR REPLACE INTO features VALUES (?,?,?)"
        self._db.execute(sql, (completion, extractor, blob))

    def add_features(self, ids: Sequence[int], extractor: str, features) -> None:
        """Keep features [n, H] of completions under an extractor's name."""
        with self._lock, self._db:
            for id, vector in zip(ids, features, strict=True):
                self._add_feature(id, extractor, vector)

    def features(self, extractor: str, after: int = 0) -> dict[int, np.ndarray]:
        """Cached features [H] by completion id, of completions newer than the id `after`."""
        sql = "SELECT completion, vector FROM features WHERE extractor = ? AND completion > ?"
        return {i: np.frombuffer(v, "<f4") for i, v in self._read(sql, (extractor, after))}

    # Onward

    def export_jsonl(self, path: str | Path) -> int:
        """Write strict pairs as lines of {"prompt", "chosen", "rejected", "weight"}; ties have no
        place in that format. Returns how many."""
        texts = {c.id: c.text for c in self.completions()}
        strict = [p for p in self.pairs() if p.target == 1]
        with Path(path).open("w", encoding="utf-8") as file:
            for p in strict:
                row = {"prompt": p.prompt, "chosen": texts[p.chosen]}
                row |= {"rejected": texts[p.rejected], "weight": round(p.weight, 6)}
                file.write(json.dumps(row, ensure_ascii=False) + "\n")
        return len(strict)


def as_completion(row: tuple) -> Completion:
    id, prompt, text, token_ids, finished, model, source, policy, sampling, _ = row
    ids = tuple(json.loads(token_ids))
    return Completion(
        prompt, text, ids, bool(finished), model, source, policy, json.loads(sampling), id
    )


def as_ranking(row: tuple) -> Ranking:
    id, prompt, tiers, shown, probability, rater, simulated, seconds, predicted, created = row[:10]
    selection, all_bad, note, edits, repeats = row[11:]
    tiers, predicted = json.loads(tiers), json.loads(predicted)
    return Ranking(
        prompt=prompt,
        tiers=None if tiers is None else tuple(map(tuple, tiers)),
        shown=tuple(json.loads(shown)),
        rater=rater,
        simulated=bool(simulated),
        selection_probability=probability,
        seconds=seconds,
        predicted=None if predicted is None else tuple(predicted),
        created=created,
        id=id,
        selection=selection,
        all_bad=bool(all_bad),
        note=note,
        edits=edits,
        repeats=repeats,
    )


def clean(text: str) -> str:
    """Lone surrogates, which SQLite and UTF-8 can't hold, become U+FFFD."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def keep_aside(path: Path, advice: str) -> DamagedStudy:
    """Rename a damaged file so that nothing overwrites it; returns the error to raise."""
    n = 1
    while (aside := path.with_name(f"{path.name}.damaged-{n}")).exists():
        n += 1
    path.rename(aside)
    return DamagedStudy(f"{path} can't be read. It is kept as {aside.name} beside it. {advice}")

"""The tables of a study's SQLite file, and how an older file is brought up to date."""

from __future__ import annotations

SCHEMA_VERSION = 2
SCHEMA = """
BEGIN IMMEDIATE;
CREATE TABLE IF NOT EXISTS meta (key TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS completions (
    id INTEGER PRIMARY KEY, prompt TEXT NOT NULL, text TEXT NOT NULL, token_ids TEXT NOT NULL,
    finished INTEGER NOT NULL, model TEXT NOT NULL, source TEXT NOT NULL, policy TEXT NOT NULL,
    sampling TEXT NOT NULL, created REAL NOT NULL);
CREATE INDEX IF NOT EXISTS completions_by_prompt ON completions (prompt);
CREATE TABLE IF NOT EXISTS rankings (
    id INTEGER PRIMARY KEY, prompt TEXT NOT NULL, tiers TEXT, shown TEXT NOT NULL,
    selection_probability REAL, rater TEXT NOT NULL, simulated INTEGER NOT NULL, seconds REAL,
    predicted TEXT, created REAL NOT NULL, undone REAL);
CREATE TABLE IF NOT EXISTS features (
    completion INTEGER NOT NULL REFERENCES completions (id), extractor TEXT NOT NULL,
    vector BLOB NOT NULL, PRIMARY KEY (completion, extractor));
INSERT OR IGNORE INTO meta VALUES ('schema_version', '1');
COMMIT;
"""
UPGRADES = {  # from the version before
    2: """
BEGIN IMMEDIATE;
ALTER TABLE rankings ADD COLUMN selection TEXT NOT NULL DEFAULT 'random';
ALTER TABLE rankings ADD COLUMN all_bad INTEGER NOT NULL DEFAULT 0;
ALTER TABLE rankings ADD COLUMN note TEXT;
ALTER TABLE rankings ADD COLUMN edits INTEGER REFERENCES rankings (id);
ALTER TABLE rankings ADD COLUMN repeats INTEGER REFERENCES rankings (id);
CREATE TABLE votes (
    id INTEGER PRIMARY KEY, prompt TEXT NOT NULL, variants TEXT NOT NULL, texts TEXT NOT NULL,
    winner TEXT NOT NULL, rater TEXT NOT NULL, simulated INTEGER NOT NULL, seconds REAL,
    sampling TEXT NOT NULL, created REAL NOT NULL, undone REAL);
UPDATE meta SET value = '2' WHERE key = 'schema_version';
COMMIT;
"""
}

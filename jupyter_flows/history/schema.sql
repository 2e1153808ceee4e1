-- The store's schema, as the steps that lead to it.
--
-- Each step is named by the version it leads to, which SQLite's user_version
-- holds. A step that only adds (a table, an index, a column with a default)
-- raises the last three digits: packages that know an earlier version of the same
-- thousand go on sharing the file. Any other step begins a new thousand, and older
-- packages say that they are too old. Steps once released are never changed.
--
-- A place is where a row of a run lies: run key * 2^32 + number. As the row's own
-- integer key it keeps a run's rows together and in order, and appending is cheap.

-- name: 1000
CREATE TABLE kernels (
    id TEXT PRIMARY KEY,
    pid INTEGER NOT NULL,
    process_started REAL NOT NULL,
    host TEXT NOT NULL,
    connection_file TEXT,
    heartbeat REAL NOT NULL            -- when it last said that it lives
);

CREATE TABLE run_keys (
    next INTEGER NOT NULL              -- writers take theirs from here, some at a time
);
INSERT INTO run_keys VALUES (1);

CREATE TABLE runs (
    key INTEGER PRIMARY KEY,           -- what the places of its rows are made of
    id TEXT NOT NULL UNIQUE,
    name TEXT NOT NULL,
    flow TEXT NOT NULL,
    worker TEXT NOT NULL,              -- RunRecord.on; ON is a word of SQL
    kernel TEXT NOT NULL,
    parent TEXT,
    state_type TEXT NOT NULL,
    state_name TEXT NOT NULL,
    state_message TEXT NOT NULL,
    state_time REAL NOT NULL,
    asked TEXT,
    reason TEXT,
    waiting TEXT,                      -- JSON
    created REAL NOT NULL,
    started REAL,
    ended REAL,
    paused_seconds REAL NOT NULL,
    paused_since REAL,
    attempt INTEGER NOT NULL,
    tags TEXT NOT NULL,                -- JSON
    parameters TEXT NOT NULL,          -- JSON
    cell TEXT,
    progress TEXT NOT NULL,            -- JSON
    task_count INTEGER NOT NULL,
    log_first INTEGER NOT NULL,
    log_count INTEGER NOT NULL,
    live TEXT NOT NULL,                -- JSON
    output_count INTEGER NOT NULL,
    output_changes INTEGER NOT NULL,
    result TEXT,
    error TEXT                         -- JSON
);
CREATE INDEX runs_by_age ON runs (created);
CREATE INDEX runs_by_state ON runs (state_type, created);

CREATE TABLE transitions (
    place INTEGER PRIMARY KEY,
    time REAL NOT NULL,
    type TEXT NOT NULL,
    name TEXT NOT NULL,
    message TEXT NOT NULL
);

CREATE TABLE tasks (
    place INTEGER PRIMARY KEY,
    parent INTEGER,
    name TEXT NOT NULL,
    flow_run TEXT,
    state_type TEXT NOT NULL,
    state_name TEXT NOT NULL,
    state_message TEXT NOT NULL,
    created REAL NOT NULL,
    started REAL,
    ended REAL,
    attempt INTEGER NOT NULL,
    transitions TEXT NOT NULL          -- JSON: [time, type, name, message] each
);

CREATE TABLE lines (
    place INTEGER PRIMARY KEY,
    time REAL NOT NULL,
    level INTEGER NOT NULL,
    source TEXT NOT NULL,
    message TEXT NOT NULL
);

-- name: 1001
ALTER TABLE runs ADD COLUMN stopping TEXT;  -- JSON

-- name: 1002
ALTER TABLE runs ADD COLUMN replay_of TEXT;
ALTER TABLE runs ADD COLUMN metadata TEXT NOT NULL DEFAULT '{}';  -- JSON
-- name: 1003
ALTER TABLE tasks ADD COLUMN upstream TEXT NOT NULL DEFAULT '[]';  -- JSON: numbers of tasks
ALTER TABLE tasks ADD COLUMN tags TEXT NOT NULL DEFAULT '[]';  -- JSON
-- name: 1004
CREATE TABLE limits (
    name TEXT PRIMARY KEY,
    slots INTEGER NOT NULL
);

CREATE TABLE leases (
    ticket INTEGER PRIMARY KEY AUTOINCREMENT,  -- the order in which they came
    names TEXT NOT NULL,               -- JSON: the limits
    occupy INTEGER NOT NULL,           -- how many slots of each
    kernel TEXT NOT NULL,
    held INTEGER NOT NULL              -- 0 while it waits
);

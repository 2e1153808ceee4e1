-- Every statement that reads or changes the store, by name.
--
-- Columns are listed in the order of the records' fields. `:first_place` and
-- `:last_place` enclose a run's rows, see schema.sql. A run is active in the states
-- SCHEDULED, PENDING, RUNNING, PAUSED and CANCELLING, and has ended in the other four.

-- name: write_lines
-- Many rows in one statement, which lets go of the interpreter once and not once a
-- row. {rows} is so many groups of question marks; rows of NULLs fill it up.
INSERT OR REPLACE INTO lines (place, time, level, source, message)
SELECT * FROM (VALUES {rows}) WHERE column1 IS NOT NULL;

-- name: count_lines
-- A run's record is written when the run changes, which a run that only prints does not.
UPDATE runs SET log_count = :count WHERE key = :key AND log_count < :count;

-- name: write_tasks
-- As write_lines.
INSERT OR REPLACE INTO tasks (
    place, parent, name, flow_run, state_type, state_name, state_message,
    created, started, ended, attempt, upstream, tags, transitions
)
SELECT * FROM (VALUES {rows}) WHERE column1 IS NOT NULL;

-- name: write_transitions
-- As write_lines.
INSERT OR REPLACE INTO transitions (place, time, type, name, message)
SELECT * FROM (VALUES {rows}) WHERE column1 IS NOT NULL;

-- name: write_runs
-- As write_lines.
INSERT OR REPLACE INTO runs (
    key, id, name, flow, worker, kernel, parent,
    state_type, state_name, state_message, state_time, asked, reason, waiting, stopping,
    created, started, ended, paused_seconds, paused_since, attempt,
    replay_of, metadata,
    tags, parameters, cell, progress, task_count, log_first, log_count, live,
    output_count, output_changes, result, error
)
SELECT * FROM (VALUES {rows}) WHERE column1 IS NOT NULL;

-- name: write_kernel
-- A kernel says who it is.
INSERT OR REPLACE INTO kernels (id, pid, process_started, host, connection_file, heartbeat)
VALUES (?, ?, ?, ?, ?, ?);

-- name: beat
-- A kernel says that it lives.
UPDATE kernels SET heartbeat = :now WHERE id = :kernel;

-- name: next_key
-- The first run key that nobody has taken.
SELECT next FROM run_keys;

-- name: take_keys
-- Takes that one and those after it.
UPDATE run_keys SET next = next + :count;

-- name: run_key
-- The key that a run already has.
SELECT key FROM runs WHERE id = :id;

-- name: run
-- One run.
SELECT
    id, name, flow, worker, kernel, parent,
    state_type, state_name, state_message, state_time, asked, reason, waiting, stopping,
    created, started, ended, paused_seconds, paused_since, attempt,
    replay_of, metadata,
    tags, parameters, cell, progress, task_count, log_first, log_count, live,
    output_count, output_changes, result, error
FROM runs WHERE id = :id;

-- name: runs
-- The newest runs; `:states` and `:names` are JSON arrays, or NULL for all.
SELECT
    id, name, flow, worker, kernel, parent,
    state_type, state_name, state_message, state_time, asked, reason, waiting, stopping,
    created, started, ended, paused_seconds, paused_since, attempt,
    replay_of, metadata,
    tags, parameters, cell, progress, task_count, log_first, log_count, live,
    output_count, output_changes, result, error
FROM runs
WHERE (:states IS NULL OR state_type IN (SELECT value FROM json_each(:states)))
  AND (:names IS NULL OR name IN (SELECT value FROM json_each(:names)))
ORDER BY created DESC, key DESC
LIMIT :limit;

-- name: find
-- The runs whose ids begin so; char(1114111) sorts after every character of an id.
SELECT id FROM runs
WHERE id >= :prefix AND id < :prefix || char(1114111)
ORDER BY id LIMIT :limit;

-- name: kernel
-- One kernel and its last heartbeat.
SELECT id, pid, process_started, host, connection_file, heartbeat FROM kernels WHERE id = :id;

-- name: lines
-- Some lines of a run.
SELECT place & 4294967295, time, level, source, message FROM lines
WHERE place >= :start AND place < :stop ORDER BY place;

-- name: line_range
-- The numbers of a run's first and last line; each a subquery, so that SQLite seeks.
SELECT
    (SELECT min(place) & 4294967295 FROM lines WHERE place BETWEEN :first_place AND :last_place),
    (SELECT max(place) & 4294967295 FROM lines WHERE place BETWEEN :first_place AND :last_place);

-- name: tasks
-- Some tasks of a run.
SELECT
    place & 4294967295, parent, name, flow_run, state_type, state_name, state_message,
    created, started, ended, attempt, upstream, tags, transitions
FROM tasks WHERE place >= :start AND place < :stop ORDER BY place;

-- name: transitions
-- Every move of a run.
SELECT time, type, name, message FROM transitions
WHERE place BETWEEN :first_place AND :last_place ORDER BY place;

-- name: active
-- The active runs with their kernels, to see which kernels are gone.
SELECT
    runs.key, runs.id, kernels.id, kernels.pid, kernels.process_started, kernels.host,
    kernels.connection_file, kernels.heartbeat
FROM runs JOIN kernels ON kernels.id = runs.kernel
WHERE runs.state_type IN ('SCHEDULED', 'PENDING', 'RUNNING', 'PAUSED', 'CANCELLING');

-- name: last_sign
-- When a run last gave a sign of itself: its state, its last line, its kernel's heartbeat.
SELECT max(
    runs.state_time,
    kernels.heartbeat,
    coalesce((
        SELECT time FROM lines WHERE place BETWEEN :first_place AND :last_place
        ORDER BY place DESC LIMIT 1
    ), 0)
)
FROM runs JOIN kernels ON kernels.id = runs.kernel
WHERE runs.key = :key
  AND runs.state_type IN ('SCHEDULED', 'PENDING', 'RUNNING', 'PAUSED', 'CANCELLING');

-- name: crash_run
-- The run ended with its kernel, at `:time`.
UPDATE runs SET
    state_type = 'CRASHED', state_name = 'Crashed', state_message = :message, state_time = :time,
    asked = NULL, waiting = NULL, stopping = NULL, ended = :time,
    paused_seconds = paused_seconds + coalesce(max(:time - paused_since, 0), 0),
    paused_since = NULL,
    log_count = coalesce((
        SELECT (max(place) & 4294967295) + 1 FROM lines
        WHERE place BETWEEN :first_place AND :last_place
    ), log_count)
WHERE key = :key;

-- name: crash_transition
-- The move that goes with crash_run.
INSERT INTO transitions (place, time, type, name, message)
SELECT coalesce(max(place) + 1, :first_place), :time, 'CRASHED', 'Crashed', :message
FROM transitions WHERE place BETWEEN :first_place AND :last_place;

-- name: crash_tasks
-- Its tasks that had not ended went with it.
UPDATE tasks SET
    state_type = 'CRASHED', state_name = 'Crashed', state_message = :message, ended = :time,
    transitions = json_insert(
        transitions, '$[#]', json_array(:time, 'CRASHED', 'Crashed', :message)
    )
WHERE place BETWEEN :first_place AND :last_place
  AND state_type IN ('SCHEDULED', 'PENDING', 'RUNNING', 'PAUSED', 'CANCELLING');

-- name: oldest_ended
-- The run to forget first, of those that ended before `:before`.
SELECT key FROM runs
WHERE state_type IN ('COMPLETED', 'FAILED', 'CANCELLED', 'CRASHED')
  AND coalesce(ended, created) < :before
ORDER BY created LIMIT 1;

-- name: longest_active
-- The active run with the most lines.
SELECT key FROM (
    SELECT key, (
        (SELECT max(place) FROM lines WHERE place BETWEEN key << 32 AND (key << 32) + 4294967295)
        - (SELECT min(place) FROM lines WHERE place BETWEEN key << 32 AND (key << 32) + 4294967295)
    ) AS held
    FROM runs WHERE state_type IN ('SCHEDULED', 'PENDING', 'RUNNING', 'PAUSED', 'CANCELLING')
)
WHERE held > 0 ORDER BY held DESC LIMIT 1;

-- name: forget_lines
-- Some of a run's oldest lines.
DELETE FROM lines WHERE place IN (
    SELECT place FROM lines WHERE place BETWEEN :first_place AND :last_place
    ORDER BY place LIMIT :count
);

-- name: forget_tasks
-- Some of a run's tasks.
DELETE FROM tasks WHERE place IN (
    SELECT place FROM tasks WHERE place BETWEEN :first_place AND :last_place
    ORDER BY place LIMIT :count
);

-- name: forget_transitions
-- A run's moves.
DELETE FROM transitions WHERE place BETWEEN :first_place AND :last_place;

-- name: forget_run
-- The run itself.
DELETE FROM runs WHERE key = :key;

-- name: forget_kernels
-- The kernels that have been silent since `:before` and have no runs left.
DELETE FROM kernels
WHERE heartbeat < :before AND NOT EXISTS (SELECT 1 FROM runs WHERE runs.kernel = kernels.id);

-- name: write_limit
-- Declares how many slots a limit has.
INSERT OR REPLACE INTO limits (name, slots) VALUES (:name, :slots);

-- name: forget_limit
-- Lifts a limit.
DELETE FROM limits WHERE name = :name;

-- name: limits
-- The limits that are declared.
SELECT name, slots FROM limits ORDER BY name;

-- name: write_lease
-- Stands in line.
INSERT INTO leases (names, occupy, kernel, held) VALUES (:names, :occupy, :kernel, 0);

-- name: hold_lease
-- It is its turn.
UPDATE leases SET held = 1 WHERE ticket = :ticket;

-- name: forget_lease
-- Gives slots back, or a place in line.
DELETE FROM leases WHERE ticket = :ticket AND kernel = :kernel;

-- name: forget_leases
-- Takes them from a kernel that is gone.
DELETE FROM leases WHERE kernel = :kernel;

-- name: leases
-- Who holds slots and who waits, in order, and when their kernels last said that they live.
SELECT ticket, names, occupy, leases.kernel, held, heartbeat
FROM leases LEFT JOIN kernels ON kernels.id = leases.kernel
ORDER BY ticket;

-- name: lessees
-- The kernels that hold slots or wait for them; NULLs for one that nobody knows any more.
SELECT DISTINCT
    leases.kernel, kernels.id, kernels.pid, kernels.process_started, kernels.host,
    kernels.connection_file, kernels.heartbeat
FROM leases LEFT JOIN kernels ON kernels.id = leases.kernel;

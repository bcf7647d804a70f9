--
-- pg_stat_nbmf_cas and nbmf_cas_lookup
--
CREATE FUNCTION key_of(id bigint, bits bigint) RETURNS nbmf_key LANGUAGE sql IMMUTABLE AS $$
    SELECT (md5(id::text) || ':' || lpad(to_hex(bits), 16, '0'))::nbmf_key $$;
CREATE VIEW counts AS SELECT indexrelname, lookups, exact_hits, near_hits, unverified_hits, misses, hit_rate, exact_rate, near_rate, unverified_rate, divergence FROM pg_stat_nbmf_cas ORDER BY indexrelname;
CREATE TABLE seen (id int, key nbmf_key);
CREATE INDEX seen_key ON seen USING nbmf_cas (key);
SELECT * FROM counts;

-- inserts: the third is there already
INSERT INTO seen VALUES (1, key_of(1, 0)), (2, key_of(2, 255)), (3, key_of(1, 0)), (4, NULL);
SELECT * FROM counts;
SELECT pg_stat_nbmf_cas_reset('seen_key');

-- lookups: exact, near, and a near one that is farther than the index counts
SET enable_seqscan = off;
SELECT count(*) FROM seen WHERE key = key_of(1, 0);
SELECT count(*) FROM seen WHERE key = key_of(3, 0);
SELECT count(*) FROM seen WHERE key ~= key_of(2, 255);
SELECT count(*) FROM seen WHERE key ~= key_of(3, 127);
SELECT count(*) FROM seen WHERE key ~= key_of(3, -1);
SELECT count(*) FROM seen WHERE key <@ nbmf_ball(key_of(3, 65535), 0.85);
SELECT count(*) FROM (SELECT FROM seen WHERE key IS NOT NULL ORDER BY key <~> key_of(1, 0)) AS s;
SELECT * FROM counts;
SELECT relname, schemaname = current_schema() AS schema, bytes > 70000 AS bytes, avg_lookup_ms > 0 AS avg, p95_lookup_ms > 0 AS p95, stats_reset <= now() + interval '1 minute' AS reset, preloaded IS NOT NULL AS preloaded FROM pg_stat_nbmf_cas;
BEGIN;
SELECT count(*) FROM seen WHERE key = key_of(1, 0);
ROLLBACK;
SELECT exact_hits FROM counts;
ALTER INDEX seen_key SET (simhash_threshold = 0.85);
SELECT count(*) FROM seen WHERE key <@ nbmf_ball(key_of(3, 65535), 0.85);
SELECT unverified_hits FROM counts;
RESET enable_seqscan;

-- a constraint's check finds the row itself, which is no hit; what ON CONFLICT
-- looks at before and after counts once
CREATE TABLE once (id int, key nbmf_key, CONSTRAINT once_key EXCLUDE USING nbmf_cas (key WITH ~=));
SELECT pg_stat_nbmf_cas_reset();
INSERT INTO once VALUES (1, key_of(1, 0));
INSERT INTO once VALUES (2, key_of(2, -1)) ON CONFLICT DO NOTHING;
SELECT lookups, exact_hits, near_hits, unverified_hits, misses FROM counts WHERE indexrelname = 'once_key';
INSERT INTO once VALUES (3, key_of(3, 1)) ON CONFLICT DO NOTHING;
INSERT INTO once VALUES (4, key_of(1, 0)) ON CONFLICT DO NOTHING;
INSERT INTO once VALUES (5, key_of(1, 0));
INSERT INTO once VALUES (6, key_of(4, 1));
INSERT INTO once VALUES (7, key_of(5, 65535));
SELECT lookups, exact_hits, near_hits, unverified_hits, misses, hit_rate, unverified_rate FROM counts WHERE indexrelname = 'once_key';

-- who may look, and who may reset
CREATE ROLE regress_nbmf_cas_reader;
SET ROLE regress_nbmf_cas_reader;
SELECT count(*) FROM pg_stat_nbmf_cas;
SELECT pg_stat_nbmf_cas_reset();
RESET ROLE;
GRANT pg_read_all_stats TO regress_nbmf_cas_reader;
SET ROLE regress_nbmf_cas_reader;
SELECT count(*) FROM pg_stat_nbmf_cas;
RESET ROLE;

-- lookups with their contents compared
CREATE TABLE notes (id int, tenant int, body nbmf);
CREATE INDEX notes_body ON notes USING nbmf_cas (tenant, body);
INSERT INTO notes VALUES (1, 1, 'the agent has read the report of monday and will answer tomorrow'), (2, 2, 'the agent has read the report of monday and will answer tomorrow'),
    (3, 1, 'something quite different, about the weather in spring and its colours'), (4, 1, NULL), (5, 1, '\x00ff');
SELECT n.id, l.distance, l.similarity, l.exact FROM nbmf_cas_lookup('notes_body', 'the agent has read the report of monday and will answer tomorrow', 1) AS l JOIN notes AS n ON n.ctid = l.ctid ORDER BY n.id;
SELECT count(*) FILTER (WHERE exact), bool_and(similarity BETWEEN 0 AND 1) AS similarity, bool_and(distance BETWEEN 0 AND 32) AS distance
FROM nbmf_cas_lookup('notes_body', 'the agent has read the report of monday and will answer tomorrow', 0.5);
SELECT * FROM nbmf_cas_lookup('notes_body', NULL);
SELECT * FROM nbmf_cas_lookup(NULL, 'x');
SELECT count(*) FROM nbmf_cas_lookup('seen_key', 'x');
SELECT * FROM nbmf_cas_lookup('notes_body', 'x', 0.4);
SELECT * FROM nbmf_cas_lookup('notes', 'x');
SET ROLE regress_nbmf_cas_reader;
SELECT * FROM nbmf_cas_lookup('notes_body', 'x');
RESET ROLE;
GRANT SELECT (body) ON notes TO regress_nbmf_cas_reader;
SET ROLE regress_nbmf_cas_reader;
SELECT count(*) FROM nbmf_cas_lookup('notes_body', 'the agent has read the report of monday and will answer tomorrow', 1);
RESET ROLE;
ALTER TABLE notes ENABLE ROW LEVEL SECURITY;
SET ROLE regress_nbmf_cas_reader;
SELECT * FROM nbmf_cas_lookup('notes_body', 'x');
RESET ROLE;
DROP OWNED BY regress_nbmf_cas_reader;
DROP ROLE regress_nbmf_cas_reader;

-- where contents are compared, they say what is a hit: the second is the same, the
-- third near, the fourth new, the fifth near the fourth by fingerprint, not by content
CREATE VIEW by_content AS SELECT indexrelname, lookups, exact_hits, near_hits, unverified_hits, misses, hit_rate, near_rate, divergence FROM pg_stat_nbmf_cas;
CREATE TABLE report (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, body nbmf CHECK (body <> 'not this'));
CREATE INDEX report_body ON report USING nbmf_cas (body) WITH (simhash_threshold = 0.8);
SELECT inserted, exact, distance, similarity FROM nbmf_put('report', 'body', 'the agent has read the report of monday and will answer tomorrow');
SELECT inserted, exact, distance, similarity FROM nbmf_put('report', 'body', 'the agent has read the report of monday and will answer tomorrow');
SELECT inserted, exact, distance, similarity FROM nbmf_put('report', 'body', 'The agent has read the report of Monday and will answer tomorrow.');
SELECT inserted, exact, distance, similarity FROM nbmf_put('report', 'body', '{"entity": "A", "year": 2019, "revenue": 1033, "unit": "USD", "form": "10-K"}');
SELECT * FROM by_content WHERE indexrelname = 'report_body';
SELECT inserted, exact, distance, similarity FROM nbmf_put('report', 'body', '{"entity": "A", "year": 2020, "revenue": 8919, "unit": "USD", "form": "10-K"}');
SELECT * FROM by_content WHERE indexrelname = 'report_body';
-- a put with another threshold is judged by the index's
SELECT inserted, exact, distance, similarity FROM nbmf_put('report', 'body', '{"entity": "A", "year": 2021, "revenue": 7513, "unit": "USD", "form": "10-K"}', NULL, 0.5);
SELECT * FROM by_content WHERE indexrelname = 'report_body';
SELECT pg_stat_nbmf_cas_reset('report_body');
SELECT distance, similarity, exact FROM nbmf_cas_lookup('report_body', 'The agent has read the report of Monday and will answer tomorrow.');
SELECT distance, similarity < 0.8 AS divergent, exact FROM nbmf_cas_lookup('report_body', '{"entity": "A", "year": 2021, "revenue": 7513, "unit": "USD", "form": "10-K"}');
SELECT count(*) FROM nbmf_cas_lookup('report_body', 'the agent has read the report of monday and will answer tomorrow');
SELECT * FROM by_content WHERE indexrelname = 'report_body';
SELECT avg_lookup_ms > 0 AS timed FROM pg_stat_nbmf_cas WHERE indexrelname = 'report_body';
-- scans look at fingerprints alone
SELECT pg_stat_nbmf_cas_reset('report_body');
SET enable_seqscan = off;
SELECT count(*) FROM report WHERE body <@ nbmf_ball('{"entity": "A", "year": 2021, "revenue": 7513, "unit": "USD", "form": "10-K"}'::nbmf, 0.8);
SELECT * FROM by_content WHERE indexrelname = 'report_body';
-- a put that fails is not counted, and what comes after it is
SELECT pg_stat_nbmf_cas_reset('report_body');
SELECT nbmf_put('report', 'body', 'not this');
SELECT count(*) FROM report WHERE body = 'not this';
RESET enable_seqscan;
SELECT * FROM by_content WHERE indexrelname = 'report_body';
-- what a trigger looks for meanwhile counts for itself, and so does the same in another index
CREATE TABLE journal (line nbmf, EXCLUDE USING nbmf_cas (line WITH ~=));
CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM nbmf_put('journal', 'line', NEW.body); PERFORM nbmf_put('journal', 'line', 'a row came'); RETURN NEW; END $$;
CREATE TRIGGER note BEFORE INSERT ON report FOR EACH ROW EXECUTE FUNCTION note();
SELECT pg_stat_nbmf_cas_reset();
SELECT inserted FROM nbmf_put('report', 'body', 'of two tables the second is told of all that comes to the first');
SELECT inserted FROM nbmf_put('report', 'body', 'nothing is said here that was said before, in either of the two');
SELECT * FROM by_content WHERE lookups > 0 ORDER BY indexrelname;
-- a put through a partitioned table counts once, in its index
CREATE TABLE said (day int, id int, body nbmf) PARTITION BY LIST (day);
CREATE TABLE said_1 PARTITION OF said FOR VALUES IN (1);
CREATE TABLE said_2 PARTITION OF said FOR VALUES IN (2);
CREATE INDEX said_body ON said USING nbmf_cas (body);
SELECT inserted FROM nbmf_put('said', 'body', 'what is said on one day may be said on another', '{"day": 1}');
SELECT inserted FROM nbmf_put('said', 'body', 'what is said on one day may be said on another', '{"day": 2}');
INSERT INTO said VALUES (2, 1, 'what is said on one day may be said on another');
SELECT c.*, s.entries IS NULL AS no_entries, s.bytes IS NULL AS no_bytes FROM by_content AS c JOIN pg_stat_nbmf_cas AS s USING (indexrelname) WHERE indexrelname LIKE 'said%' ORDER BY indexrelname;

-- counters go with their index
DROP TABLE seen, once, notes, report, journal, said CASCADE;
DROP FUNCTION note;
DROP VIEW by_content;
SELECT count(*) FROM counts;
DROP VIEW counts;
DROP FUNCTION key_of;

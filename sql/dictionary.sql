--
-- Dictionaries: nbmf.train, nbmf.maintain, nbmf_estimate
--
SET client_min_messages = warning;

-- documents that have much in common: catalog rows
CREATE TABLE docs AS
SELECT row_number() OVER (ORDER BY oid) AS n, row_to_json(p)::text AS d FROM (SELECT oid, proname, pronamespace, proowner, prolang, procost, prorows, prokind, provolatile, proparallel, pronargs, prorettype, proargtypes, prosrc FROM pg_proc ORDER BY oid LIMIT 2000) p;
CREATE TABLE memory (n int, tenant text, class text, body nbmf);
INSERT INTO memory SELECT n, 't' || n % 2, 'chat', d FROM docs WHERE n <= 1000;

SELECT nbmf.attach('memory', 'body', class => 'chat', class_by => 'class', tenant_by => 'tenant');
CALL nbmf.train('memory', 'body');
SELECT dictionaries, dictionary_bytes > 4096 AS some, ratio_at_training > 4 AS good FROM nbmf.attached;

-- old values keep what they have; new ones use it, whichever way they come
SELECT count(*) AS with_dictionary FROM memory WHERE (nbmf_info(body)).object IS NOT NULL;
INSERT INTO memory SELECT n, 't' || n % 2, 'chat', d FROM docs WHERE n > 1000 AND n <= 1500;
COPY memory FROM stdin (FORMAT csv, QUOTE '^');
1501,t1,chat,^{"oid":"1","proname":"by_copy","pronamespace":"11","proowner":"10","prolang":"12","procost":1,"prorows":0,"prokind":"f"}^
\.
SELECT (nbmf_info(body)).object IS NOT NULL AS by_copy, body ->> 'proname' FROM memory WHERE n = 1501;
DELETE FROM memory WHERE n = 1501;
INSERT INTO memory SELECT n, 't1', 'chat', d FROM docs WHERE n > 1500;
SELECT count(*) AS with_dictionary FROM memory WHERE (nbmf_info(body)).object IS NOT NULL;
SELECT count(*) AS wrong FROM memory JOIN docs USING (n) WHERE body::text <> d OR NOT nbmf_verify(body);
SELECT sum((nbmf_info(body)).raw_bytes)::float8 / sum(pg_column_size(body)) > 4 AS ratio FROM memory WHERE n > 1000;
-- equal, whatever they are encoded with
SELECT count(*) FROM memory JOIN docs USING (n) WHERE body = d::nbmf;
SELECT count(*) FROM memory a JOIN memory b USING (body) WHERE a.n = b.n;
-- ON CONFLICT and UPDATE go through the trigger as well
ALTER TABLE memory ADD PRIMARY KEY (n);
INSERT INTO memory SELECT n, 't1', 'chat', d || ' ' FROM docs WHERE n <= 10 ON CONFLICT (n) DO UPDATE SET body = excluded.body;
UPDATE memory SET body = body WHERE n BETWEEN 11 AND 20;
SELECT count(*) FROM memory WHERE n <= 20 AND (nbmf_info(body)).object IS NOT NULL;
-- an update of other columns leaves the value alone
UPDATE memory SET n = -n WHERE n = 30;
SELECT (nbmf_info(body)).object FROM memory WHERE n = -30;
UPDATE memory SET n = -n WHERE n = -30;

-- training again keeps the one that is as good
CALL nbmf.train('memory', 'body');
SELECT dictionaries FROM nbmf.attached;

-- it must commit, so it refuses where it cannot
BEGIN;
CALL nbmf.train('memory', 'body');
ROLLBACK;
CREATE PROCEDURE within() LANGUAGE plpgsql AS $$ BEGIN CALL nbmf.train('memory', 'body'); END $$;
CALL within();
CREATE FUNCTION within_function() RETURNS void LANGUAGE plpgsql AS $$ BEGIN CALL nbmf.train('memory', 'body'); END $$;
SELECT within_function();
DROP PROCEDURE within;
DROP FUNCTION within_function;
CALL nbmf.train('docs', 'd');
CALL nbmf.train(NULL, 'body');
-- a rolled-back insert after training harms nothing
BEGIN;
INSERT INTO memory SELECT n + 10000, 't1', 'chat', d FROM docs WHERE n <= 10;
ROLLBACK;
INSERT INTO memory SELECT n + 10000, 't1', 'chat', d FROM docs WHERE n <= 10;
SELECT count(*) AS wrong FROM memory m JOIN docs d ON m.n = d.n + 10000 WHERE m.body::text <> d.d;
DELETE FROM memory WHERE n > 10000;

-- objects are there for good
DELETE FROM nbmf.object;
UPDATE nbmf.object SET payload = '';
TRUNCATE nbmf.object;

-- readers need no right on objects, under row-level security neither
CREATE ROLE regress_nbmf_reader;
GRANT SELECT ON memory TO regress_nbmf_reader;
ALTER TABLE memory ENABLE ROW LEVEL SECURITY;
CREATE POLICY one ON memory FOR SELECT TO regress_nbmf_reader USING (tenant = 't1' AND body ->> 'proname' IS NOT NULL);
SET ROLE regress_nbmf_reader;
SELECT count(body ->> 'proname') > 100 AS reads FROM memory WHERE n > 1000;
SELECT count(*) FROM nbmf.object;
RESET ROLE;
ALTER TABLE memory DISABLE ROW LEVEL SECURITY;

-- parallel workers read them too
SET parallel_setup_cost = 0;
SET parallel_tuple_cost = 0;
SET min_parallel_table_scan_size = 0;
SELECT count(body ->> 'proname') FROM memory;
RESET parallel_setup_cost;
RESET parallel_tuple_cost;
RESET min_parallel_table_scan_size;

-- maintain: older and newer values get the tighter encoding, and stay what they are
CREATE TABLE log (n int);
CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN INSERT INTO log VALUES (NEW.n); RETURN NEW; END $$;
CREATE TRIGGER note AFTER UPDATE ON memory FOR EACH ROW EXECUTE FUNCTION note();
SELECT sum(pg_column_size(body)) AS before FROM memory \gset
CALL nbmf.maintain('memory');
SELECT sum(pg_column_size(body)) < :before AS smaller FROM memory;
SELECT count(*) AS wrong FROM memory JOIN docs USING (n) WHERE n > 10 AND body::text <> d;
-- (what gets less than a sixteenth smaller stays as it is)
SELECT count(*) FILTER (WHERE (nbmf_info(body)).tier = 'L2') > 1000 AS tightened,
       count(*) FILTER (WHERE (nbmf_info(body)).object IS NULL) AS without FROM memory;
SELECT count(*) AS triggers_fired FROM log;
SELECT count(*) AS damaged FROM nbmf_verify_table('memory', 'body');
-- the second time there is nothing to do
CREATE TEMP TABLE places AS SELECT n, ctid AS place FROM memory;
CALL nbmf.maintain('memory');
SELECT count(*) AS moved FROM memory m JOIN places p ON m.n = p.n WHERE m.ctid <> p.place;
CALL nbmf.maintain('docs');
CALL nbmf.maintain('memory', interval '-1 second');
BEGIN;
CALL nbmf.maintain('memory');
ROLLBACK;
SHOW session_replication_role;

-- values that travel leave the reference behind
CREATE TABLE other (body nbmf);
SELECT nbmf.attach('other', 'body', class => 'chat');
INSERT INTO other SELECT body FROM memory WHERE n BETWEEN 100 AND 110;
SELECT count(*) AS foreign_objects FROM other WHERE (nbmf_info(body)).object IS NOT NULL;
SELECT count(*) AS there FROM other JOIN memory USING (body);
DROP TABLE other;
-- a column that is not attached keeps it, and can be read
CREATE TABLE copy AS SELECT n, body FROM memory WHERE n BETWEEN 100 AND 110;
CREATE MATERIALIZED VIEW mv AS SELECT n, body, ARRAY[body] AS a FROM memory WHERE n BETWEEN 100 AND 110;
SELECT count(*) FROM copy JOIN docs USING (n) WHERE body::text = d;
SELECT count(*) FROM mv JOIN docs USING (n) WHERE a[1]::text = d;
REFRESH MATERIALIZED VIEW mv;
DROP MATERIALIZED VIEW mv;

-- a cursor and a variable that outlive what they were read in
BEGIN;
DECLARE held CURSOR WITH HOLD FOR SELECT body FROM memory WHERE n = 100;
COMMIT;
SELECT nbmf.detach('memory', 'body');
FETCH held;
CLOSE held;
SELECT count(*) FROM memory JOIN docs USING (n) WHERE n > 10 AND body::text = d;
DROP TABLE memory;
SELECT count(*) FROM copy JOIN docs USING (n) WHERE body::text = d;

-- tenants of a class with share = tenant never meet in an object
CREATE TABLE secret (n int, tenant text, body nbmf);
INSERT INTO secret SELECT n, 't' || n % 3, replace(d, '"oid":', '"secret' || n % 3 || '_password": "s3cr3t' || n % 3 || '", "oid":') FROM docs;
SELECT nbmf.attach('secret', 'body', class => 'legal', tenant_by => 'tenant');
CALL nbmf.train('secret', 'body');
SELECT tenant, edge_only, strpos(encode(payload, 'escape'), 's3cr3t0') > 0 AS knows0, strpos(encode(payload, 'escape'), 's3cr3t1') > 0 AS knows1,
       strpos(encode(payload, 'escape'), 's3cr3t2') > 0 AS knows2 FROM nbmf.object WHERE class = 'legal' ORDER BY tenant;
CALL nbmf.maintain('secret');
SELECT s.tenant, o.tenant, count(*) > 600 AS most FROM secret s LEFT JOIN nbmf.object o ON o.id = (nbmf_info(body)).object GROUP BY 1, 2 ORDER BY 1, 2;
-- moved to another tenant, a value uses that tenant's
UPDATE secret SET tenant = 't1' WHERE n = 3;
SELECT o.tenant FROM secret s JOIN nbmf.object o ON o.id = (nbmf_info(body)).object WHERE n = 3;
UPDATE secret SET tenant = 'nobody' WHERE n = 6;
UPDATE secret SET tenant = NULL WHERE n = 9;
SELECT n, (nbmf_info(body)).object FROM secret WHERE n IN (6, 9) ORDER BY n;
DROP TABLE secret;

-- too little, nothing in common, nothing at all
CREATE TABLE few (body nbmf);
SELECT nbmf.attach('few', 'body');
CALL nbmf.train('few', 'body');
INSERT INTO few SELECT 'one of few ' || i FROM generate_series(1, 10) i;
CALL nbmf.train('few', 'body');
TRUNCATE few;
INSERT INTO few SELECT string_agg(sha256((i || '.' || j)::bytea), '') FROM generate_series(1, 300) i, generate_series(1, 10) j GROUP BY i;
INSERT INTO few VALUES (NULL), (repeat('a', 1000000));
CALL nbmf.train('few', 'body');
SELECT dictionaries FROM nbmf.attached WHERE relation = 'few'::regclass;
CALL nbmf.maintain('few');
DROP TABLE few;

-- nbmf_estimate: any column, before anything is done
CREATE TABLE before (t text, v varchar, j json, b jsonb, y bytea, r real[], n nbmf, i int);
INSERT INTO before SELECT d, d, d::json, d::jsonb, convert_to(d, 'UTF8'), ARRAY[1.5, n], d FROM docs;
ANALYZE before;
SELECT col, string_agg(rung, ' ' ORDER BY bytes DESC) FILTER (WHERE rung NOT IN ('table', 'now')) AS rungs,
       bool_and(bytes_low <= bytes AND bytes <= bytes_high) AS within, min(rows) AS rows
FROM unnest(ARRAY['t', 'v', 'j', 'b', 'y', 'n']) col, nbmf_estimate('before', col) GROUP BY col ORDER BY col;
SELECT rung, rows, ratio > 0.1 AS ratio FROM nbmf_estimate('before', 'r');
SELECT rung, command FROM nbmf_estimate('before', 't');
-- it comes true
SELECT bytes_low, bytes_high FROM nbmf_estimate('before', 'b') WHERE rung = 'zstd' \gset
SELECT sum((nbmf_info(b::nbmf)).stored_bytes) BETWEEN :bytes_low * 0.95 AND :bytes_high * 1.05 AS within FROM before;
SELECT * FROM nbmf_estimate('before', 'i');
SELECT * FROM nbmf_estimate('before', 'none');
SELECT * FROM nbmf_estimate('before', 't', 5);
TRUNCATE before;
SELECT rung, rows, ratio FROM nbmf_estimate('before', 't');
DROP TABLE before, docs, copy;
DROP ROLE regress_nbmf_reader;

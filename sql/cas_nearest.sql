--
-- Ordered scans of nbmf_cas: the nearest rows are those that a sequential scan says
--
CREATE FUNCTION mixed(seed bigint) RETURNS bigint LANGUAGE sql IMMUTABLE AS $$ SELECT hashint8extended(seed, 4711) $$;
CREATE FUNCTION key_of(id bigint, bits bigint) RETURNS nbmf_key LANGUAGE sql IMMUTABLE AS $$
    SELECT (md5(id::text) || ':' || lpad(to_hex(bits), 16, '0'))::nbmf_key $$;
-- queries: fingerprints of the table with some bits changed, and of their own
CREATE TABLE query (n int, key nbmf_key);
INSERT INTO query SELECT i, key_of(-i, CASE WHEN i % 4 = 0 THEN mixed(-i) ELSE mixed(i) # (mixed(i + 1) & mixed(i + 2) & mixed(i + 3) & mixed(i + i % 4)) END) FROM generate_series(1, 12) AS i;
-- The distances of the first rows, by index and without; and all of them are different
-- rows.  As many as come from the rings, from a pass, and from the passes after it.
CREATE FUNCTION wrong(source text, condition text DEFAULT 'true') RETURNS TABLE (n int, rows int, what text) LANGUAGE plpgsql AS $$
DECLARE
    statement text := format('SELECT array_agg(distance), count(DISTINCT id) FROM (SELECT id, key <~> $1 AS distance FROM %I WHERE %s ORDER BY key <~> $1 LIMIT $2) AS s', source, condition);
    expected float8[];
    got float8[];
    ids bigint;
    plan text;
    line text;
BEGIN
    SET LOCAL enable_sort = off;
    SET LOCAL enable_bitmapscan = off;
    FOR line IN EXECUTE 'EXPLAIN ' || replace(replace(statement, '$1', quote_literal((SELECT q.key FROM query AS q LIMIT 1))), '$2', '10') LOOP
        plan := concat_ws(E'\n', plan, line);
    END LOOP;
    IF plan NOT LIKE '%Index Scan%Order By%' THEN
        RAISE 'no index scan: %', plan;
    END IF;
    FOR n, rows IN SELECT q.n, r FROM query AS q, unnest('{1,2,10,11,100,300,1500,30000}'::int[]) AS r WHERE r < 1500 OR q.n < 4 LOOP
        SET LOCAL enable_indexscan = off;
        SET LOCAL enable_sort = on;
        EXECUTE statement INTO expected USING (SELECT q.key FROM query AS q WHERE q.n = wrong.n), rows;
        SET LOCAL enable_indexscan = on;
        SET LOCAL enable_sort = off;
        EXECUTE statement INTO got, ids USING (SELECT q.key FROM query AS q WHERE q.n = wrong.n), rows;
        what := CASE WHEN got IS DISTINCT FROM expected THEN format('%s instead of %s', got, expected)
                     WHEN ids <> coalesce(cardinality(got), 0) THEN 'a row comes twice' END;
        IF what IS NOT NULL THEN
            RETURN NEXT;
        END IF;
    END LOOP;
END $$;

-- built; grown by inserts, so that pages have entries that are not sorted
CREATE TABLE uniform (id int, tenant int, key nbmf_key NOT NULL);
INSERT INTO uniform SELECT i, i % 3, key_of(i, mixed(i)) FROM generate_series(1, 30000) AS i;
CREATE INDEX uniform_key ON uniform USING nbmf_cas (tenant, key);
ANALYZE uniform;
SELECT * FROM wrong('uniform');
SELECT * FROM wrong('uniform', 'tenant = 2');
SELECT * FROM wrong('uniform', format('key <@ nbmf_ball(%L::nbmf_key, 0.6)', (SELECT key FROM query WHERE n = 1)));
INSERT INTO uniform SELECT i, i % 3, key_of(i, mixed(i)) FROM generate_series(30001, 45000) AS i;
SELECT * FROM wrong('uniform');
DELETE FROM uniform WHERE id % 7 = 0;
VACUUM (INDEX_CLEANUP on) uniform;
SELECT * FROM wrong('uniform');

-- so many that all radii are searched before a pass, and that what is kept is cut
CREATE TABLE large (id int, key nbmf_key NOT NULL);
INSERT INTO large SELECT i, key_of(i, mixed(i)) FROM generate_series(1, 300000) AS i;
CREATE INDEX large_key ON large USING nbmf_cas (key);
ANALYZE large;
SELECT * FROM wrong('large');

-- a few rows, none, and one
CREATE TABLE few (id int, key nbmf_key NOT NULL);
CREATE INDEX few_key ON few USING nbmf_cas (key);
SELECT * FROM wrong('few');
INSERT INTO few VALUES (1, key_of(1, 1));
SELECT * FROM wrong('few');
INSERT INTO few SELECT i, key_of(i, mixed(i)) FROM generate_series(2, 200) AS i;
SELECT * FROM wrong('few');

-- real ones are clustered: many rows of one fingerprint, and of one chunk, which have chains
CREATE TABLE clustered (id int, key nbmf_key NOT NULL);
CREATE INDEX clustered_key ON clustered USING nbmf_cas (key);
INSERT INTO clustered SELECT i, key_of(i, mixed(i % 40) # (mixed(i) & mixed(i + 5) & mixed(i + 6) & mixed(i + 9))) FROM generate_series(1, 12000) AS i;
INSERT INTO clustered SELECT i, key_of(i, mixed(1)) FROM generate_series(12001, 22000) AS i;
INSERT INTO clustered SELECT i, key_of(i, mixed(i) & x'0000ffffffffffff'::bigint | (mixed(2) & x'7fff000000000000'::bigint)) FROM generate_series(22001, 30000) AS i;
ANALYZE clustered;
SELECT * FROM wrong('clustered');
UPDATE clustered SET key = key_of(id, mixed(1) # 1) WHERE id % 3 = 0;
SELECT * FROM wrong('clustered');
-- more in a ball than are kept
INSERT INTO query VALUES (0, key_of(0, mixed(1)));
SELECT * FROM wrong('clustered', format('key <@ nbmf_ball(%L::nbmf_key, 0.95)', key_of(0, mixed(1))));
REINDEX TABLE clustered;
SELECT * FROM wrong('clustered');
-- what a scan goes on with after a while
SET enable_sort = off;
BEGIN;
DECLARE nearest CURSOR FOR SELECT key <~> key_of(0, mixed(1)) AS distance FROM clustered ORDER BY key <~> key_of(0, mixed(1));
FETCH 2 FROM nearest;
INSERT INTO clustered SELECT i, key_of(i, mixed(i)) FROM generate_series(30001, 32000) AS i;
DELETE FROM clustered WHERE id < 100;
MOVE 14000 IN nearest;
MOVE ALL IN nearest;
COMMIT;
SELECT count(*), bool_and(ordered) FROM (SELECT distance >= lag(distance, 1, 0.0::float8) OVER () AS ordered FROM (SELECT key <~> key_of(0, mixed(1)) AS distance FROM clustered ORDER BY key <~> key_of(0, mixed(1))) AS s) AS t;
RESET enable_sort;
DROP TABLE uniform, large, few, clustered, query;
DROP FUNCTION wrong, key_of, mixed;

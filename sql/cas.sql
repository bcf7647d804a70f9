--
-- nbmf_cas: exact and near duplicates by content
--

-- keys, fingerprints and balls (of chosen bits: digest:simhash:second)
SELECT '0123456789abcdef0123456789ABCDEF:ffffffffffffffff'::nbmf_key AS key,
       nbmf_simhash('0123456789abcdef0123456789abcdef:ffffffffffffffff:1111111111111111'::nbmf_key) AS simhash;
SELECT nbmf_ball('00000000000000000000000000000000:000000000000ffff'::nbmf_key, t) FROM unnest('{0.5,0.85,0.88,0.9,0.95,1}'::float8[]) AS t;
SELECT '00000000000000ff,7'::nbmf_ball;
SELECT d, 'a1000000000000000000000000000000:000000000000ffff'::nbmf_key <~> k AS distance,
       'a1000000000000000000000000000000:000000000000ffff'::nbmf_key ~= k AS near,
       'a1000000000000000000000000000000:000000000000ffff'::nbmf_key = k AS same
FROM (SELECT d, (d || '1000000000000000000000000000000:' || b)::nbmf_key AS k FROM (VALUES ('a', '000000000000ffff'), ('b', '000000000000ff80'), ('c', '000000000000ff00')) AS v (d, b)) AS s;
SELECT nbmf_key('hello'::nbmf) = nbmf_key('hello'::nbmf) AS same, nbmf_key('hello'::nbmf) = nbmf_key('help'::nbmf) AS other,
       substr(nbmf_key('hello'::nbmf)::text, 1, 32) = encode(substr(nbmf_digest('hello'), 1, 16), 'hex') AS digest,
       nbmf_simhash('hello'::nbmf) = nbmf_simhash(nbmf_key('hello'::nbmf)) AS simhash,
       'hello'::nbmf ~= 'hello' AS near, 'hello'::nbmf <~> 'hello' AS distance, 'hello'::nbmf <@ nbmf_ball('hello'::nbmf, 1) AS ball;
-- keys are equal with digest and fingerprint
SELECT k = replace(k::text, ':0', ':1')::nbmf_key AS second, k = replace(k::text, ':f', ':e')::nbmf_key AS fingerprint, k <> replace(k::text, ':f', ':e')::nbmf_key AS differ
FROM (VALUES ('0123456789abcdef0123456789abcdef:ffffffffffffffff'::nbmf_key)) AS v (k);
-- the same bytes as text and as bytea are different content
SELECT nbmf_key('A'::nbmf) = nbmf_key('\x41'::nbmf) AS same, nbmf_key('{"a":1}'::nbmf) <> nbmf_key('{"a":1}'::nbmf) AS differ;

-- bad input
SELECT ''::nbmf_key;
SELECT '0123456789abcdef0123456789abcdef:fffffffffffffff'::nbmf_key;
SELECT '0123456789abcdef0123456789abcdef:ffffffffffffffff:'::nbmf_key;
SELECT '0123456789abcdef,65'::nbmf_ball;
SELECT '0123456789abcdef,-1'::nbmf_ball;
SELECT '0123456789abcdef,'::nbmf_ball;
SELECT nbmf_ball('x'::nbmf, 0.49);
SELECT nbmf_ball('x'::nbmf, 1.01);
SELECT nbmf_ball('x'::nbmf, 'NaN');

-- a literal to the right of <@ is JSON, as before
SELECT '{"a": 1}'::nbmf <@ '{"a": 1, "b": 2}' AS contained, '{"a": 1}'::nbmf <@ '{"b": 2}'::jsonb AS jsonb;

-- the index
CREATE TABLE memory (id int PRIMARY KEY, tenant int, body nbmf);
INSERT INTO memory SELECT i, i % 3, CASE WHEN i % 10 = 0 THEN NULL WHEN i % 7 = 0 THEN 'the same note' ELSE 'note number ' || i || ' of ' || i % 5 END FROM generate_series(1, 300) AS i;
CREATE INDEX memory_body ON memory USING nbmf_cas (tenant, body) WITH (simhash_threshold = 0.9);
INSERT INTO memory SELECT i, i % 3, 'late note ' || i FROM generate_series(301, 400) AS i;
INSERT INTO memory VALUES (501, NULL, 'the same note'), (502, 1, ''), (503, 1, ' '), (504, 1, '{}'), (505, 2, '\x'), (506, 2, 'word');
ANALYZE memory;
SELECT nbmf_index_check('memory_body', true);
\d memory

-- a plan, as all versions of the server show it
CREATE FUNCTION plan(query text) RETURNS SETOF text LANGUAGE plpgsql AS $$
DECLARE
    line text;
BEGIN
    FOR line IN EXECUTE 'EXPLAIN (COSTS OFF) ' || query LOOP
        CONTINUE WHEN line ~ 'Disabled: true';
        RETURN NEXT replace(replace(line, ' (returns $0)', ''), '(InitPlan 1).col1', '$0');
    END LOOP;
END $$;
SET enable_seqscan = off;
EXPLAIN (COSTS OFF) SELECT id FROM memory WHERE tenant = 1 AND body = 'the same note';
SELECT count(*), min(id), max(id) FROM memory WHERE tenant = 1 AND body = 'the same note';
SELECT count(*), min(id), max(id) FROM memory WHERE tenant = 1::bigint AND body = 'the same note';
SELECT count(*), min(id), max(id) FROM memory WHERE body = 'the same note';
SELECT count(*) FROM memory WHERE body = 'the same note ';
SELECT id FROM memory WHERE body = '' OR body = ' ' OR body = '\x' ORDER BY id;
SELECT count(*) FROM memory WHERE body = ANY ('{the same note,late note 303,nothing}'::nbmf[]);
SELECT count(*) FROM memory WHERE body = NULL;
EXPLAIN (COSTS OFF) SELECT id FROM memory WHERE body ~= 'the same note' AND tenant = 2;
SELECT count(*) >= 13 AS found FROM memory WHERE body ~= 'the same note' AND tenant = 2;
EXPLAIN (COSTS OFF) SELECT id FROM memory WHERE body <@ '00000000000000ff,3'::nbmf_ball;
SELECT plan($$SELECT id FROM memory WHERE body <@ nbmf_ball((SELECT 'word'::nbmf), 0.95)$$);
EXPLAIN (COSTS OFF) SELECT a.id, b.id FROM memory AS a JOIN memory AS b ON b.body ~= a.body WHERE a.id = 301;
-- null bodies are not in the index: these do not use it
SELECT plan('SELECT id FROM memory WHERE body IS NULL');
SELECT count(*) FROM memory WHERE body IS NULL;
SELECT plan($$SELECT id FROM memory ORDER BY body <~> 'word' LIMIT 3$$);
-- or, from PostgreSQL 18 on, which takes it for the only plan that is enabled, as a bitmap of all rows
SELECT count(*) FROM memory WHERE tenant = 1;
SELECT count(*) FROM memory;
SET enable_seqscan = on;
EXPLAIN (COSTS OFF) SELECT id FROM memory WHERE tenant = 1;
SET enable_seqscan = off;
EXPLAIN (COSTS OFF) SELECT id FROM memory WHERE body IS NOT NULL ORDER BY body <~> 'word' LIMIT 3;
SELECT id, body <~> 'word' AS distance FROM memory WHERE body IS NOT NULL ORDER BY body <~> 'word' LIMIT 1;
SELECT count(*) FROM (SELECT 1 FROM memory WHERE body IS NOT NULL ORDER BY body <~> NULL) AS s;
RESET enable_seqscan;

-- every plan gives what a sequential scan gives
CREATE TABLE bits (id int, tenant text COLLATE "C", key nbmf_key NOT NULL);
CREATE FUNCTION mixed(seed bigint) RETURNS bigint LANGUAGE sql IMMUTABLE AS $$ SELECT hashint8extended(seed, 4711) $$;
CREATE FUNCTION key_of(id bigint, bits bigint) RETURNS nbmf_key LANGUAGE sql IMMUTABLE AS $$
    SELECT (md5(id::text) || ':' || lpad(to_hex(bits), 16, '0'))::nbmf_key $$;
-- 20 clusters, some noise, one value 700 times, and 700 with a chunk of zeros
INSERT INTO bits SELECT i, 'tenant ' || i % 4, key_of(i % 1900, mixed(i % 20) # (CASE WHEN i % 3 = 0 THEN mixed(i) & mixed(i + 7) & mixed(i + 8) ELSE mixed(i) & mixed(i + 5) & mixed(i + 6) & mixed(i + 9) & mixed(i + 11) END)) FROM generate_series(1, 2000) AS i;
CREATE INDEX bits_key ON bits USING nbmf_cas (key);
CREATE INDEX bits_both ON bits USING nbmf_cas (key, tenant);
INSERT INTO bits SELECT i, 'tenant ' || i % 4, key_of(i, mixed(i)) FROM generate_series(2001, 2600) AS i;
INSERT INTO bits SELECT i, 'tenant 1', key_of(i, mixed(1)) FROM generate_series(3001, 3700) AS i;
INSERT INTO bits SELECT i, 'tenant 2', key_of(i % 100, mixed(i) & x'0000ffffffffffff'::bigint) FROM generate_series(4001, 4700) AS i;

CREATE FUNCTION differences(query text) RETURNS SETOF text LANGUAGE plpgsql AS $$
DECLARE
    expected text;
    got text;
    plan text;
BEGIN
    SET LOCAL enable_seqscan = on;
    SET LOCAL enable_indexscan = off;
    SET LOCAL enable_bitmapscan = off;
    EXECUTE query INTO expected;
    FOREACH plan IN ARRAY '{Index Scan,Bitmap Index Scan}'::text[] LOOP
        SET LOCAL enable_seqscan = off;
        EXECUTE format('SET LOCAL enable_indexscan = %s', plan = 'Index Scan');
        EXECUTE format('SET LOCAL enable_bitmapscan = %s', plan <> 'Index Scan');
        EXECUTE query INTO got;
        IF got IS DISTINCT FROM expected THEN
            RETURN NEXT format('%s: %s instead of %s: %s', plan, got, expected, query);
        END IF;
    END LOOP;
END $$;
CREATE FUNCTION all_differences() RETURNS SETOF text LANGUAGE sql AS $$
    WITH q AS (SELECT id, tenant, key FROM bits WHERE id % 797 = 1 UNION ALL SELECT 0, 'none', key_of(0, 0) UNION ALL SELECT 0, 'none', key_of(0, -1)),
    w AS (SELECT format('key = %L', key) AS c FROM q UNION ALL SELECT format('key ~= %L', key) FROM q
          UNION ALL SELECT format('tenant = %L AND key ~= %L', tenant, key) FROM q
          UNION ALL SELECT format('key ~= %L AND key <@ nbmf_ball(%L::nbmf_key, 0.95)', key, key) FROM q
          UNION ALL SELECT format('key = %L AND key <@ nbmf_ball(%L::nbmf_key, 0.9)', key, key_of(0, nbmf_simhash(key) # 31)) FROM q
          UNION ALL SELECT format('key <@ nbmf_ball(%L::nbmf_key, %s)', key, t) FROM q, unnest('{1,0.98,0.95,0.92,0.9,0.85,0.8,0.7,0.5}'::float8[]) AS t)
    SELECT d FROM w, differences(format('SELECT count(*) || %L || coalesce(sum(id), 0) FROM bits WHERE %s', ' ', c)) AS d
    UNION ALL SELECT d FROM q, differences(format('SELECT array_agg(d) FROM (SELECT key <~> %L AS d FROM bits ORDER BY key <~> %L LIMIT 30) AS s', key, key)) AS d
    UNION ALL SELECT d FROM q, differences(format('SELECT array_agg(d) FROM (SELECT key <~> %L AS d FROM bits WHERE tenant = %L ORDER BY key <~> %L LIMIT 900) AS s', key, tenant, key)) AS d
    UNION ALL SELECT d FROM q, differences(format('SELECT md5(array_agg(d)::text) FROM (SELECT key <~> %L AS d FROM bits WHERE key <@ nbmf_ball(%L::nbmf_key, 0.7) ORDER BY key <~> %L) AS s', key_of(0, nbmf_simhash(key) # 7), key, key_of(0, nbmf_simhash(key) # 7))) AS d
$$;
SELECT all_differences();
SELECT nbmf_index_check('bits_key', true), nbmf_index_check('bits_both', true);

-- what is deleted goes, and its room is used again
DELETE FROM bits WHERE id % 2 = 0;
VACUUM (INDEX_CLEANUP on) bits;
SELECT nbmf_index_check('bits_key', true), nbmf_index_check('bits_both', true);
SELECT all_differences();
SELECT pg_relation_size('bits_key') AS size \gset
INSERT INTO bits SELECT i, 'tenant 1', key_of(i, mixed(1)) FROM generate_series(5001, 5350) AS i;
SELECT pg_relation_size('bits_key') = :size AS same_size;
UPDATE bits SET key = key_of(id, mixed(id)) WHERE id < 500;
SELECT all_differences();
VACUUM (INDEX_CLEANUP on) bits;
REINDEX TABLE bits;
SELECT all_differences();
SELECT nbmf_index_check('bits_key', true), nbmf_index_check('bits_both', true);

-- many chains, and a value that is split inside: one content, one fingerprint, thousands of times
CREATE TABLE equal (id int, key nbmf_key);
CREATE INDEX equal_key ON equal USING nbmf_cas (key);
INSERT INTO equal SELECT i, key_of(CASE WHEN i < 3000 THEN 1 ELSE i END, 77) FROM generate_series(1, 6000) AS i;
INSERT INTO equal SELECT i, key_of(i, mixed(i)) FROM generate_series(6001, 8000) AS i;
SET enable_seqscan = off;
SELECT count(*) FROM equal WHERE key = key_of(1, 77);
SELECT count(*) FROM equal WHERE key = key_of(4000, 77);
SELECT count(*) FROM equal WHERE key = key_of(4000, 76);
SELECT count(*) FROM generate_series(3000, 6000) AS i, LATERAL (SELECT FROM equal WHERE key = key_of(i, 77) OFFSET 0) AS e;
SELECT count(*) FROM equal WHERE key ~= key_of(0, 76);
SELECT type, "table", count(*) FROM generate_series(0, pg_relation_size('equal_key') / current_setting('block_size')::int - 1) AS b, nbmf_index_page('equal_key', b)
WHERE type IN ('meta', 'root', 'directory', 'overflow') GROUP BY type, "table" ORDER BY type, "table";
DELETE FROM equal WHERE id BETWEEN 100 AND 5900;
VACUUM (INDEX_CLEANUP on) equal;
SELECT nbmf_index_check('equal_key', true);
SELECT type, count(*) > 10 AS many FROM generate_series(0, pg_relation_size('equal_key') / current_setting('block_size')::int - 1) AS b, nbmf_index_page('equal_key', b)
WHERE type IN ('free', 'overflow') GROUP BY type ORDER BY type;
SELECT count(*) FROM equal WHERE key ~= key_of(0, 76);
INSERT INTO equal SELECT i, key_of(i, 77) FROM generate_series(10001, 13000) AS i;
SELECT count(*) FROM generate_series(10001, 13000) AS i, LATERAL (SELECT FROM equal WHERE key = key_of(i, 77) OFFSET 0) AS e;
REINDEX INDEX equal_key;
SELECT nbmf_index_check('equal_key', true);
SELECT count(*) FROM generate_series(10001, 13000) AS i, LATERAL (SELECT FROM equal WHERE key = key_of(i, 77) OFFSET 0) AS e;
-- no index-only scan, no scan without a qual on the content
SELECT count(*) FROM equal;
SET enable_seqscan = on;
EXPLAIN (COSTS OFF) SELECT count(*) FROM equal;
SET enable_seqscan = off;
EXPLAIN (COSTS OFF) SELECT key FROM equal WHERE key = key_of(1, 77);
RESET enable_seqscan;

-- what the index is, and what it cannot be
SELECT amname, amtype FROM pg_am WHERE amname = 'nbmf_cas';
SELECT opcname, amvalidate(c.oid) FROM pg_opclass AS c JOIN pg_am AS a ON a.oid = opcmethod WHERE amname = 'nbmf_cas' ORDER BY opcname;
SELECT a.n, pg_index_column_has_property('memory_body', a.n, 'distance_orderable') AS distance, pg_index_column_has_property('memory_body', a.n, 'orderable') AS orderable,
       pg_index_column_has_property('memory_body', a.n, 'returnable') AS returnable, pg_index_column_has_property('memory_body', a.n, 'search_nulls') AS nulls FROM (VALUES (1), (2)) AS a (n);
SELECT pg_indexam_has_property(oid, 'can_unique') AS "unique", pg_indexam_has_property(oid, 'can_multi_col') AS multicolumn, pg_indexam_has_property(oid, 'can_exclude') AS exclude FROM pg_am WHERE amname = 'nbmf_cas';
CREATE INDEX ON memory USING nbmf_cas (id);
CREATE INDEX ON memory USING nbmf_cas (body, body);
CREATE UNIQUE INDEX ON memory USING nbmf_cas (body);
CREATE INDEX ON memory USING nbmf_cas (body int4_cas_ops);
CREATE INDEX ON memory USING nbmf_cas ((body::text));
CREATE INDEX ON memory USING nbmf_cas (body) WITH (simhash_threshold = 0.4);
CREATE INDEX ON memory USING nbmf_cas (body) WITH (simhash_threshold = 1.1);
CREATE INDEX ON memory USING nbmf_cas (body) WITH (fillfactor = 50);
CREATE INDEX ON memory USING nbmf_cas (body DESC);
ALTER INDEX memory_body SET (simhash_threshold = 0.95);
SELECT nbmf_index_check('memory_pkey');
SELECT nbmf_index_check('memory');
SELECT nbmf_index_page('memory_body', 1000000);
CREATE ROLE regress_nbmf_cas;
GRANT SELECT ON memory TO regress_nbmf_cas;
SET ROLE regress_nbmf_cas;
SELECT nbmf_index_check('memory_body');
SELECT nbmf_index_page('memory_body', 0);
RESET ROLE;
DROP OWNED BY regress_nbmf_cas;
DROP ROLE regress_nbmf_cas;

-- columns of every type that has an operator class
CREATE TYPE mood AS ENUM ('glad', 'sad');
CREATE TABLE scalars (a int2, b int4, c int8, d text, e varchar(20), f uuid, g bool, h date, i timestamptz, j bytea, k oid, l name, m char(5), n timestamp, o numeric, p mood, body nbmf);
CREATE INDEX scalars_all ON scalars USING nbmf_cas (a, b, c, d, e, f, g, h, body, i, j, k, l, m, n, o, p);
INSERT INTO scalars SELECT i, i, i, i, i, md5(i::text)::uuid, i = 1, date '2024-01-01' + i, timestamptz '2024-01-01 00:00+00' + i * interval '1 h', md5(i::text)::bytea, i, i, i, timestamp '2024-01-01' + i * interval '1 h', i, CASE i WHEN 1 THEN 'glad'::mood ELSE 'sad' END, 'x'
FROM generate_series(1, 3) AS i;
INSERT INTO scalars (body) VALUES ('x');
SET enable_seqscan = off;
EXPLAIN (COSTS OFF) SELECT count(*) FROM scalars WHERE a = 1 AND body = 'x' AND p = 'glad';
SELECT count(*) FROM scalars WHERE body = 'x' AND a = 1::int8 AND b = 1::int2 AND c = 1 AND d = '1' AND e = '1' AND f = md5('1')::uuid AND g AND h = '2024-01-02'
    AND i = '2024-01-01 01:00+00' AND j = md5('1')::bytea AND k = 1 AND l = '1' AND m = '1' AND n = '2024-01-01 01:00' AND o = 1.000 AND p = 'glad';
SELECT count(*) FROM scalars WHERE body = 'x' AND a = 2;
SELECT count(*) FROM scalars WHERE body = 'x' AND a = 2 AND g;
SELECT count(*) FROM scalars WHERE body = 'x' AND NOT g;
SELECT count(*) FROM scalars WHERE body = 'x' AND a IS NULL;
RESET enable_seqscan;
SELECT nbmf_index_check('scalars_all', true);

-- partial, expression, temporary, unlogged, concurrently; generated keys
CREATE INDEX memory_partial ON memory USING nbmf_cas (body) WHERE tenant = 0;
CREATE INDEX memory_upper ON memory USING nbmf_cas ((upper(body::text)::nbmf));
CREATE INDEX CONCURRENTLY memory_concurrent ON memory USING nbmf_cas (body);
SELECT nbmf_index_check('memory_partial', true), nbmf_index_check('memory_upper', true), nbmf_index_check('memory_concurrent', true);
SET enable_seqscan = off;
SELECT count(*) FROM memory WHERE upper(body::text)::nbmf = 'THE SAME NOTE';
SELECT count(*) FROM memory WHERE body = 'the same note' AND tenant = 0;
REINDEX INDEX CONCURRENTLY memory_concurrent;
SELECT nbmf_index_check('memory_concurrent', true);
CREATE TEMP TABLE passing (body nbmf);
CREATE INDEX passing_body ON passing USING nbmf_cas (body);
INSERT INTO passing SELECT 'passing ' || i FROM generate_series(1, 50) AS i;
SELECT nbmf_index_check('passing_body', true);
SELECT count(*) FROM passing WHERE body = 'passing 7';
-- its file is truncated in place, and what a session remembers of it is wrong
CREATE TEMP TABLE cleared (id int, key nbmf_key) ON COMMIT DELETE ROWS;
CREATE INDEX cleared_key ON cleared USING nbmf_cas (key);
BEGIN;
INSERT INTO cleared SELECT i, key_of(i, mixed(i)) FROM generate_series(1, 3000) AS i;
SELECT count(*) FROM cleared WHERE key ~= key_of(0, mixed(7));
COMMIT;
SELECT count(*) FROM cleared WHERE key ~= key_of(0, mixed(7));
BEGIN;
INSERT INTO cleared SELECT i, key_of(i, mixed(i)) FROM generate_series(1, 1500) AS i;
SELECT count(*) FROM cleared WHERE key ~= key_of(0, mixed(7));
SELECT nbmf_index_check('cleared_key', true);
TRUNCATE cleared;
INSERT INTO cleared SELECT i, key_of(i, mixed(i)) FROM generate_series(1, 100) AS i;
SELECT count(*) FROM cleared WHERE key = key_of(7, mixed(7));
ROLLBACK;
CREATE UNLOGGED TABLE fleeting (body nbmf);
CREATE INDEX fleeting_body ON fleeting USING nbmf_cas (body);
INSERT INTO fleeting SELECT 'fleeting ' || i FROM generate_series(1, 50) AS i;
SELECT nbmf_index_check('fleeting_body', true);
SELECT count(*) FROM fleeting WHERE body = 'fleeting 7';
TRUNCATE fleeting;
SELECT nbmf_index_check('fleeting_body', true);
CREATE TABLE keyed (id int, body nbmf, key nbmf_key GENERATED ALWAYS AS (nbmf_key(body)) STORED);
CREATE INDEX keyed_key ON keyed USING nbmf_cas (key);
INSERT INTO keyed SELECT i, 'keyed ' || i % 40 FROM generate_series(1, 50) AS i;
SELECT count(*) FROM keyed WHERE key = nbmf_key('keyed 7'::nbmf);
SELECT count(*) FROM keyed AS a JOIN keyed AS b USING (key);
RESET enable_seqscan;
SELECT count(*) FROM (SELECT DISTINCT key FROM keyed) AS s;

-- constraints
CREATE TABLE unique_memory (tenant int, body nbmf, CONSTRAINT once EXCLUDE USING nbmf_cas (tenant WITH =, body WITH =));
INSERT INTO unique_memory VALUES (1, 'one'), (2, 'one'), (1, NULL), (1, NULL), (NULL, 'one'), (NULL, 'one');
INSERT INTO unique_memory VALUES (1, 'one');
INSERT INTO unique_memory VALUES (1, 'one'), (1, 'two'), (1, 'two') ON CONFLICT DO NOTHING;
INSERT INTO unique_memory VALUES (1, 'two'), (3, 'two') ON CONFLICT ON CONSTRAINT once DO NOTHING;
UPDATE unique_memory SET body = 'two' WHERE tenant = 1 AND body = 'one';
UPDATE unique_memory SET body = 'one ' WHERE tenant = 1 AND body = 'one';
DELETE FROM unique_memory WHERE body = 'two';
INSERT INTO unique_memory VALUES (1, 'two');
SELECT tenant, body FROM unique_memory ORDER BY tenant, body::text;
CREATE TABLE near_memory (id int, key nbmf_key, EXCLUDE USING nbmf_cas (key WITH ~=) DEFERRABLE);
INSERT INTO near_memory SELECT i, key_of(i, (1::bigint << i) - 1) FROM generate_series(1, 60, 9) AS i;
INSERT INTO near_memory VALUES (100, key_of(100, 127));
BEGIN;
SET CONSTRAINTS ALL DEFERRED;
INSERT INTO near_memory VALUES (101, key_of(101, 255));
UPDATE near_memory SET key = key_of(0, -1) WHERE id = 10;
DELETE FROM near_memory WHERE id = 1;
COMMIT;
SELECT count(*) FROM near_memory;
CREATE TABLE parted (tenant int, body nbmf) PARTITION BY LIST (tenant);
CREATE TABLE parted_1 PARTITION OF parted FOR VALUES IN (1);
CREATE TABLE parted_2 PARTITION OF parted FOR VALUES IN (2);
CREATE INDEX parted_body ON parted USING nbmf_cas (body);
ALTER TABLE parted_1 ADD EXCLUDE USING nbmf_cas (body WITH =);
INSERT INTO parted VALUES (1, 'p'), (2, 'p'), (2, 'p');
INSERT INTO parted VALUES (1, 'p') ON CONFLICT DO NOTHING;
INSERT INTO parted VALUES (1, 'p');
SET enable_seqscan = off;
SELECT count(*) FROM parted WHERE body = 'p';
RESET enable_seqscan;

DROP TABLE memory, bits, equal, scalars, passing, cleared, fleeting, keyed, unique_memory, near_memory, parted;
DROP FUNCTION plan, differences, all_differences, mixed, key_of;
DROP TYPE mood;

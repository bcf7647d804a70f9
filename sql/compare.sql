--
-- Equality, hashing, what the planner makes of them, ANALYZE
--
SELECT 'a'::nbmf = 'a'::nbmf AS t, 'a'::nbmf = 'b'::nbmf AS f, 'a'::nbmf <> 'b'::nbmf AS t, 'a'::nbmf <> 'a'::nbmf AS f,
       NULL::nbmf = 'a'::nbmf AS n, 'a'::nbmf IS DISTINCT FROM NULL AS t;
-- content, not representation: other levels make other frames of equal values
SELECT a = b AS equal, a IS DISTINCT FROM b AS dist, (nbmf_info(a)).stored_bytes <> (nbmf_info(b)).stored_bytes AS other_frame
FROM (SELECT nbmf_encode(s, 'lossless', 1) AS a, nbmf_encode(s, 'lossless', 19) AS b
      FROM (SELECT string_agg(row_to_json(p)::text, E'\n') AS s FROM (SELECT * FROM pg_proc ORDER BY oid LIMIT 500) p) x) y;
-- texts of other kinds are other texts
SELECT a, b, a::nbmf = b::nbmf AS equal
FROM (VALUES ('\x61', 'a'), ('{1}', '[1]'), ('{"a":1}', '{"a": 1}'), ('1', '1.0'), ('{1,2}', '{1,2}'), ('\x61', '\x61'), ('{NaN}', '{NaN}'), ('{0}', '{-0}')) v(a, b);

-- same content, same hash; the 64-bit hash with seed 0 extends the 32-bit one
SELECT nbmf_hash('abc'::nbmf) = nbmf_hash('abc'::text::nbmf) AS same, nbmf_hash('abc') <> nbmf_hash('abd') AS other,
       (nbmf_hash_extended('abc', 0) & 4294967295) = (nbmf_hash('abc')::bigint & 4294967295) AS extends,
       nbmf_hash_extended('abc', 1) <> nbmf_hash_extended('abc', 0) AS seeded;
-- the hash reaches the disk (hash partitions, hash indexes), so it is pinned
SELECT nbmf_hash(''), nbmf_hash('abc'), nbmf_hash('{"a": 1}'), nbmf_hash('\x616263'), nbmf_hash('{1,2}'), nbmf_hash_extended('abc', 42);

CREATE TABLE v (id int, b nbmf);
INSERT INTO v SELECT i, jsonb_build_object('n', i % 100, 'pad', repeat('x', i % 100)) FROM generate_series(1, 5000) i;
INSERT INTO v SELECT i, CASE i % 3 WHEN 0 THEN NULL ELSE 'note ' || i % 10 END FROM generate_series(5001, 6000) i;

-- (DISTINCT in an aggregate sorts, in every version of the server)
SELECT count(DISTINCT b) FROM v;
SELECT count(*) FROM (SELECT DISTINCT b FROM v) s;
EXPLAIN (COSTS OFF) SELECT DISTINCT b FROM v;
EXPLAIN (COSTS OFF) SELECT b, count(*) FROM v GROUP BY b;
EXPLAIN (COSTS OFF) SELECT b FROM v UNION SELECT b FROM v;
SELECT count(*) FROM (SELECT b FROM v UNION SELECT b FROM v) s;
SELECT count(*) FROM (SELECT b FROM v INTERSECT SELECT b FROM v WHERE id <= 50) s;
SELECT count(*) FROM (SELECT b FROM v EXCEPT SELECT b FROM v WHERE id <= 50) s;

-- joins hash, and never merge
SELECT count(*) FROM v a JOIN v b USING (b) WHERE a.id <= 100;
EXPLAIN (COSTS OFF) SELECT count(*) FROM v a JOIN v b USING (b);
SET enable_hashjoin = off;
SET enable_material = off;
EXPLAIN (COSTS OFF) SELECT count(*) FROM v a JOIN v b USING (b);
RESET enable_hashjoin;
RESET enable_material;
SELECT count(*) FROM v WHERE b IN ('note 1', 'note 2', '{"n": 1, "pad": "x"}');

-- a hash index finds equal content
CREATE INDEX v_hash ON v USING hash (b);
SET enable_seqscan = off;
EXPLAIN (COSTS OFF) SELECT id FROM v WHERE b = 'note 7';
SELECT count(*) FROM v WHERE b = 'note 7';
RESET enable_seqscan;
DROP INDEX v_hash;

-- no order, by intent
SELECT b FROM v ORDER BY b;
CREATE INDEX ON v (b);
CREATE TABLE pk (b nbmf PRIMARY KEY);
SELECT max(b) FROM v;

-- hash partitions
CREATE TABLE p (b nbmf) PARTITION BY HASH (b);
CREATE TABLE p0 PARTITION OF p FOR VALUES WITH (MODULUS 2, REMAINDER 0);
CREATE TABLE p1 PARTITION OF p FOR VALUES WITH (MODULUS 2, REMAINDER 1);
INSERT INTO p SELECT b FROM v WHERE b IS NOT NULL;
SELECT (SELECT count(*) FROM p0) > 1000 AS some, (SELECT count(*) FROM p1) > 1000 AS others, (SELECT count(*) FROM p) AS all;
SELECT count(*) FROM p WHERE b = 'note 7';
DROP TABLE p;

-- ANALYZE: null fraction, width, distinct; no values in pg_statistic
ANALYZE v;
SELECT round(null_frac::numeric, 3) AS null_frac, avg_width BETWEEN 20 AND 60 AS width, round(n_distinct) AS n_distinct,
       most_common_vals IS NULL AS no_values, histogram_bounds IS NULL AS no_bounds, correlation IS NULL AS no_correlation
FROM pg_stats WHERE tablename = 'v' AND attname = 'b';
SELECT stavalues1 IS NULL AND stavalues2 IS NULL AND stavalues3 IS NULL AND stavalues4 IS NULL AND stavalues5 IS NULL AS nothing_copied
FROM pg_statistic WHERE starelid = 'v'::regclass AND staattnum = 2;
CREATE TABLE u AS SELECT ('unique ' || i)::nbmf AS b FROM generate_series(1, 1000) i;
ANALYZE u;
SELECT n_distinct FROM pg_stats WHERE tablename = 'u';
TRUNCATE u;
INSERT INTO u SELECT NULL FROM generate_series(1, 10);
ANALYZE u;
SELECT null_frac, n_distinct FROM pg_stats WHERE tablename = 'u';
DROP TABLE u, v;

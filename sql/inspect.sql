--
-- nbmf_info, nbmf_digest, nbmf_verify, nbmf_verify_table
--
SELECT kind, mode, tier, codec, raw_bytes, stored_bytes, checksum, flags
FROM unnest(ARRAY['', 'abc', '{"a": 1}', '\x0102', '{1,2}']::nbmf[]) v, nbmf_info(v);
SELECT codec, raw_bytes, stored_bytes < 60 AS small, ratio > 10 AS well, round(ratio * stored_bytes) = raw_bytes AS consistent
FROM nbmf_info(repeat('the same again and again ', 40)::nbmf);
SELECT codec FROM nbmf_info(repeat('x', 1000000)::nbmf);
-- stored is at most 5 bytes of frame and the varlena header more than the content
SELECT n, codec, stored_bytes - raw_bytes AS more
FROM (SELECT n, substr(string_agg(sha256((n::text || i)::bytea), ''), 1, n) AS s
      FROM (VALUES (1), (20), (100), (121), (122), (1000), (70000)) l(n), generate_series(1, 2200) i GROUP BY n) x, nbmf_info(s::nbmf)
ORDER BY n;

-- stored_bytes is what the column takes
CREATE TABLE s (b nbmf);
INSERT INTO s SELECT repeat(md5(i::text), i) FROM generate_series(0, 200, 10) i;
INSERT INTO s SELECT string_agg(md5(i::text), '') FROM generate_series(1, 3000) i;
SELECT count(*) AS wrong FROM s WHERE (nbmf_info(b)).stored_bytes <> pg_column_size(b) AND pg_column_size(b) < 2000;
DROP TABLE s;

-- the digest is that of the content
SELECT nbmf_digest('abc') = sha256('abc') AS text, nbmf_digest('{"a":  1}') = sha256('{"a":  1}') AS json,
       nbmf_digest('\x0102') = sha256('\x0102') AS bytea, nbmf_digest('{1}') = sha256('\x0000803f') AS vector, nbmf_digest('') = sha256('') AS empty;

SELECT bool_and(nbmf_verify(v)) FROM unnest(ARRAY['', 'abc', '{"a": 1}', '\x0102', '{1,2}', repeat('abc', 1000)]::nbmf[]) v;
SELECT nbmf_verify(NULL) IS NULL AS n;

-- nbmf_verify_table: tables, partitions, children, materialized views, domains
CREATE TABLE part (id int, b nbmf) PARTITION BY RANGE (id);
CREATE TABLE part1 PARTITION OF part FOR VALUES FROM (1) TO (10);
CREATE TABLE part2 (b nbmf, junk int, id int);
ALTER TABLE part2 DROP junk;
ALTER TABLE part ATTACH PARTITION part2 FOR VALUES FROM (10) TO (20);
INSERT INTO part SELECT i, 'row ' || i FROM generate_series(1, 19) i;
SELECT * FROM nbmf_verify_table('part', 'b');
CREATE MATERIALIZED VIEW mv AS SELECT * FROM part;
SELECT * FROM nbmf_verify_table('mv', 'b');
CREATE DOMAIN note AS nbmf;
CREATE TABLE with_domain (n note);
INSERT INTO with_domain VALUES ('a');
SELECT count(*) FROM nbmf_verify_table('with_domain', 'n');
-- a column added since, whose default stands in the catalog
CREATE TABLE added (i int);
INSERT INTO added VALUES (1), (2);
ALTER TABLE added ADD b nbmf DEFAULT 'plain';
INSERT INTO added VALUES (3);
SELECT * FROM nbmf_verify_table('added', 'b');
SELECT count(*) FROM added WHERE b = 'plain';
DROP TABLE added;
SELECT * FROM nbmf_verify_table('part', 'id');
SELECT * FROM nbmf_verify_table('part', 'none');
SELECT * FROM nbmf_verify_table('part', 'ctid');
SELECT * FROM nbmf_verify_table('pg_stat_nbmf', 'preloaded');
CREATE SEQUENCE seq;
SELECT * FROM nbmf_verify_table('seq', 'last_value');
SELECT * FROM nbmf_verify_table(NULL, 'b');

-- only for those who may read it
CREATE ROLE regress_nbmf_user;
GRANT CREATE ON SCHEMA public TO regress_nbmf_user;
SET ROLE regress_nbmf_user;
SELECT * FROM nbmf_verify_table('part', 'b');
RESET ROLE;
GRANT SELECT (b) ON part TO regress_nbmf_user;
SET ROLE regress_nbmf_user;
SELECT count(*) FROM nbmf_verify_table('part', 'b');
RESET ROLE;
ALTER TABLE part ENABLE ROW LEVEL SECURITY;
SET ROLE regress_nbmf_user;
SELECT * FROM nbmf_verify_table('part', 'b');
-- an unprivileged role can use the type
CREATE TABLE mine (b nbmf);
INSERT INTO mine VALUES ('{"a": 1}');
SELECT b ->> 'a' FROM mine;
DROP TABLE mine;
RESET ROLE;
DROP MATERIALIZED VIEW mv;
DROP TABLE part, with_domain;
DROP DOMAIN note;
DROP SEQUENCE seq;
REVOKE CREATE ON SCHEMA public FROM regress_nbmf_user;
DROP ROLE regress_nbmf_user;

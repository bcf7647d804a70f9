--
-- Big values, TOAST
--
CREATE TABLE big (id int, b nbmf, t text);
-- incompressible, so that it is toasted
INSERT INTO big SELECT n, s, s FROM (SELECT n, encode(string_agg(sha256((n::text || i)::bytea), ''), 'base64') AS s FROM (VALUES (50), (70), (1000), (30000)) l(n), generate_series(1, n) i GROUP BY n) x;
-- compressible, 1 MB and more blocks than one
INSERT INTO big SELECT 1, s, s FROM (SELECT string_agg(i || ' sheep, ', '') AS s FROM generate_series(1, 100000) i) x;
SELECT id, length(t), b::text = t AS same, (nbmf_info(b)).codec, (nbmf_info(b)).raw_bytes = octet_length(t) AS raw, nbmf_verify(b) AS verified FROM big ORDER BY id;
-- storage external: TOAST stores frames, it does not try to compress them
SELECT attstorage FROM pg_attribute WHERE attrelid = 'big'::regclass AND attname = 'b';
SELECT id, pg_column_size(b) BETWEEN (nbmf_info(b)).stored_bytes - 4 AND (nbmf_info(b)).stored_bytes + 4 AS size FROM big ORDER BY id;
UPDATE big SET id = -id;
SELECT id, b::text = t AS same FROM big ORDER BY id;
SELECT count(*) FROM big a JOIN big b ON a.b = b.b;
SELECT * FROM nbmf_verify_table('big', 'b');
DROP TABLE big;

-- one that zstd cannot shrink, then a long one, in one session
SELECT (nbmf_info(nbmf_encode(sha256('a') || sha256('b')))).codec, length(repeat('x', 2000000)::nbmf::text);

-- 256 MB, by each way in and out
SELECT length(v::text) = 268435456 AS text, (nbmf_info(v)).raw_bytes, nbmf_verify(v), length(nbmf_out(v)::text) = 268435456 AS out
FROM (SELECT repeat('0123456789abcdef', 16777216)::nbmf AS v OFFSET 0) s;
SELECT length(v::bytea) = 268435456 AS bytea, octet_length(v::text) AS text
FROM (SELECT decode(repeat('00', 268435456), 'hex')::nbmf AS v OFFSET 0) s;

-- a cancelled encoding stops soon
SET statement_timeout = '300ms';
SELECT nbmf_info(nbmf_encode(string_agg(md5(i::text), ''), 'lossless', 22)) FROM generate_series(1, 3000000) i;
RESET statement_timeout;
SELECT nbmf_encode('works after that') AS v;

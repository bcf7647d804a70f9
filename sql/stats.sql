--
-- pg_stat_nbmf, whether preloaded or not
--
SELECT pg_stat_nbmf_reset();
SET nbmf.latency_sample = 1;
CREATE TABLE s AS SELECT (repeat('hello ', 50) || i % 10)::nbmf AS b FROM generate_series(1, 100) i;
SELECT count(b::text) FROM s;
SELECT values_encoded, values_decoded, raw_bytes, stored_bytes < 3200 AS stored, compression_ratio > 10 AS ratio, decoded_bytes,
       avg_latency_ms > 0 AS avg, encode_p50_ms > 0 AS e50, encode_p95_ms >= encode_p50_ms AS e95,
       decode_p50_ms > 0 AS d50, decode_p95_ms >= decode_p50_ms AS d95, encode_errors, decode_errors, error_rate,
       stats_reset <= now() + interval '1 minute' AS reset, preloaded IS NOT NULL AS preloaded
FROM pg_stat_nbmf;
-- compression_ratio is the quotient of what the view shows
SELECT compression_ratio = raw_bytes::float8 / stored_bytes AS quotient FROM pg_stat_nbmf;
-- stored bytes are those of the table's values
SELECT sum(pg_column_size(b)) = (SELECT stored_bytes FROM pg_stat_nbmf) AS same FROM s;

-- errors count, and survive the rollback
CREATE FUNCTION forge(bytea) RETURNS nbmf LANGUAGE internal IMMUTABLE STRICT AS 'byteasend';
SELECT forge('\x00')::text;
SELECT decode_errors, error_rate > 0 AS rate FROM pg_stat_nbmf;
BEGIN;
SELECT count(b::text) FROM s;
ROLLBACK;
SELECT values_decoded FROM pg_stat_nbmf;

-- without sampling, counts but no times
SELECT pg_stat_nbmf_reset();
SET nbmf.latency_sample = 0;
SELECT count(b::text) FROM s;
SELECT values_encoded, values_decoded, compression_ratio, avg_latency_ms, encode_p50_ms, decode_p95_ms, error_rate FROM pg_stat_nbmf;
-- a lower interval holds at once
SET nbmf.latency_sample = 1000000;
SELECT count(b::text) FROM s;
SET nbmf.latency_sample = 1;
SELECT pg_stat_nbmf_reset();
SELECT count(b::text) FROM s;
SELECT decode_p50_ms > 0 AS timed FROM pg_stat_nbmf;
SET nbmf.latency_sample = -1;
RESET nbmf.latency_sample;

-- who may look, and who may reset
CREATE ROLE regress_nbmf_reader;
SET ROLE regress_nbmf_reader;
SELECT values_encoded FROM pg_stat_nbmf;
SELECT pg_stat_nbmf_reset();
RESET ROLE;
GRANT pg_read_all_stats TO regress_nbmf_reader;
SET ROLE regress_nbmf_reader;
SELECT values_encoded FROM pg_stat_nbmf;
SELECT pg_stat_nbmf_reset();
RESET ROLE;
DROP ROLE regress_nbmf_reader;
DROP FUNCTION forge;
DROP TABLE s;

-- by codec: what zstd does alone, and what dictionaries do
CREATE TABLE by_codec (n int, body nbmf);
SET client_min_messages = warning;
INSERT INTO by_codec SELECT n, jsonb_build_object('n', n, 'role', 'user', 'text', 'document number ' || n)
    FROM generate_series(1, 2000) n;
SELECT nbmf.attach('by_codec', 'body');
CALL nbmf.train('by_codec', 'body');
SELECT pg_stat_nbmf_reset();
INSERT INTO by_codec SELECT n, jsonb_build_object('n', n, 'role', 'user', 'text', 'document number ' || n)
    FROM generate_series(1, 500) n;
SELECT count(body::text) FROM by_codec;
SELECT codec, values_encoded, values_decoded, compression_ratio > 1 AS smaller, encode_errors, decode_errors
FROM pg_stat_nbmf_codec;
SELECT s.values_encoded = c.values_encoded AS encoded, s.raw_bytes = c.raw_bytes AS raw, s.stored_bytes = c.stored_bytes AS stored
FROM pg_stat_nbmf s, (SELECT sum(values_encoded) AS values_encoded, sum(raw_bytes) AS raw_bytes,
                             sum(stored_bytes) AS stored_bytes FROM pg_stat_nbmf_codec) c;
RESET client_min_messages;
SELECT nbmf.detach('by_codec', 'body');
DROP TABLE by_codec;

-- Values encoded with a learned model
SET client_min_messages = warning;
CREATE FUNCTION chat(n bigint) RETURNS text LANGUAGE sql IMMUTABLE AS $$
    SELECT format('{"role": "%s", "model": "assistant-large", "content": "message number %s about %s and %s", "usage": {"cost": 0.%s, "tokens": %s}}',
        CASE n % 2 WHEN 0 THEN 'user' ELSE 'assistant' END, n,
        (ARRAY['orders', 'invoices', 'shipping', 'refunds', 'the weather'])[n * 7919 % 5 + 1],
        (ARRAY['customers', 'the nightly job', 'quotas', 'a holiday'])[n * 104729 % 4 + 1], n * 17 % 1000, n * 31 % 977) $$;
INSERT INTO nbmf.class (name, codec) VALUES ('deep', 'neural');
CREATE TABLE turn (n int, note text, body nbmf) WITH (autovacuum_enabled = off);
INSERT INTO turn SELECT n, 'n', chat(n) FROM generate_series(1, 16000) n;
SELECT nbmf.attach('turn', 'body', class => 'deep');
CALL nbmf.maintain('turn');
SELECT dictionaries, models, model_bytes > 10000 AS sized, model_ratio > 1.2 * ratio_at_training AS pays
FROM nbmf.attached WHERE relation = 'turn'::regclass;
SELECT kind, count(*) FROM nbmf.object WHERE class = 'deep' GROUP BY kind ORDER BY kind;
SELECT tier, codec ~ 'neural' AS neural, count(*) > 15000 AS most FROM turn, nbmf_info(body) GROUP BY 1, 2 ORDER BY count(*) DESC LIMIT 1;
SELECT count(*) FROM turn WHERE body::text <> chat(n);
SELECT * FROM nbmf_verify_table('turn', 'body');

-- the same value as any other: equal, hashed, joined, inspected
SELECT count(*) FROM turn WHERE body = chat(n)::nbmf;
SELECT count(*) FROM turn WHERE body <> chat(n)::nbmf;
SELECT count(*) FROM turn WHERE n < 500 AND body = (SELECT t.body FROM turn t WHERE t.n = turn.n);
SELECT count(*) FROM turn WHERE nbmf_hash(body) = nbmf_hash(chat(n)::nbmf);
SELECT count(*) FROM (SELECT body FROM turn UNION SELECT chat(n)::nbmf FROM generate_series(1, 16000) n) u;
SET enable_nestloop = off;
SET enable_mergejoin = off;
SELECT count(*) FROM turn JOIN (SELECT chat(n)::nbmf AS body FROM generate_series(1, 1000) n) c USING (body);
RESET enable_nestloop;
RESET enable_mergejoin;
SELECT kind, mode, tier, codec, raw_bytes, stored_bytes < raw_bytes / 4 AS small, checksum, flags, object IS NOT NULL AS object
FROM turn, nbmf_info(body) WHERE n = 7;
SELECT checksum FROM nbmf_info(chat(7)::nbmf);
SELECT nbmf_digest(body) = nbmf_digest(chat(7)::nbmf) AS digest, nbmf_verify(body), nbmf_kind(body) FROM turn WHERE n = 7;
SELECT body ->> 'role', body -> 'usage' ->> 'tokens' FROM turn WHERE n = 7;
SELECT count(*) FROM turn WHERE body @> '{"role": "user"}';
ANALYZE turn;
SELECT n_distinct BETWEEN -1 AND -0.9 AS distinct_values FROM pg_stats WHERE tablename = 'turn' AND attname = 'body';
SELECT codec, values_encoded > 15000 AS encoded, values_decoded > 15000 AS decoded, encode_errors, decode_errors
FROM pg_stat_nbmf_codec WHERE codec = 'neural';

-- updating something else leaves it; writing it anew makes it hot
UPDATE turn SET note = 'm' WHERE n = 7;
SELECT tier, codec FROM turn, nbmf_info(body) WHERE n = 7;
UPDATE turn SET body = chat(8) WHERE n = 7;
SELECT tier, codec FROM turn, nbmf_info(body) WHERE n = 7;
UPDATE turn SET body = chat(7) WHERE n = 7;

-- nobody needs rights on the model to read a value
CREATE ROLE regress_nbmf_reader;
GRANT SELECT ON turn TO regress_nbmf_reader;
SET ROLE regress_nbmf_reader;
SELECT count(*) FROM turn WHERE body::text = chat(n);
RESET ROLE;
REVOKE ALL ON turn FROM regress_nbmf_reader;
DROP ROLE regress_nbmf_reader;

-- it goes where a value goes, as itself
CREATE TABLE elsewhere (n int, body nbmf);
INSERT INTO elsewhere SELECT n, body FROM turn WHERE n <= 100;
SELECT count(*) FROM elsewhere WHERE body::text = chat(n) AND body = chat(n)::nbmf;
CREATE TABLE other_care (n int, body nbmf);
SELECT nbmf.attach('other_care', 'body');
INSERT INTO other_care SELECT n, body FROM turn WHERE n <= 100;
SELECT count(*) FILTER (WHERE object IS NOT NULL) AS with_foreign_objects FROM other_care, nbmf_info(body);
SELECT count(*) FROM other_care WHERE body::text = chat(n);

-- what a model does not fit is kept otherwise
INSERT INTO turn SELECT n, 'odd', repeat(md5(n::text), 3) FROM generate_series(20001, 20100) n;
INSERT INTO turn SELECT n, 'bytes', decode(md5(n::text) || md5('x' || n), 'hex')::nbmf FROM generate_series(20101, 20200) n;
INSERT INTO turn VALUES (20201, 'empty', ''), (20202, 'long', repeat(chat(1), 500)), (20203, 'longer', repeat(chat(1) || chat(2), 5000)),
    (20204, 'vector', (SELECT array_agg(sin(i)::real) FROM generate_series(1, 384) i)), (20205, 'null', NULL);
CALL nbmf.maintain('turn');
SELECT note, count(*), count(*) FILTER (WHERE tier = 'L1') > 50 AS hot FROM turn LEFT JOIN LATERAL nbmf_info(body) ON true
WHERE n > 20000 AND note IN ('odd', 'bytes', 'empty', 'null') GROUP BY note ORDER BY note;
SELECT count(*) FROM turn WHERE note = 'odd' AND body::text <> repeat(md5(n::text), 3);
SELECT count(*) FROM turn WHERE note = 'bytes' AND body::bytea <> decode(md5(n::text) || md5('x' || n), 'hex');
SELECT body::text = repeat(chat(1), 500) FROM turn WHERE note = 'long';
SELECT body::text = repeat(chat(1) || chat(2), 5000) FROM turn WHERE note = 'longer';
SELECT body::real[] = (SELECT array_agg(sin(i)::real) FROM generate_series(1, 384) i) FROM turn WHERE note = 'vector';
SELECT * FROM nbmf_verify_table('turn', 'body');

-- by age: only what is old enough, and what comes of age since
INSERT INTO nbmf.class (name, l3_after) VALUES ('aging', '1 day');
CREATE TABLE aged (n int, at timestamp, body nbmf) WITH (autovacuum_enabled = off);
INSERT INTO aged SELECT n, now() - CASE WHEN n <= 8000 THEN interval '2 days' ELSE interval '23 hours' END, chat(n)
    FROM generate_series(1, 16000) n;
SELECT nbmf.attach('aged', 'body', class => 'aging', age_by => 'at');
CALL nbmf.maintain('aged');
SELECT n <= 8000 AS old, tier, codec ~ 'neural' AS neural, count(*) > 7500 AS most FROM aged, nbmf_info(body) GROUP BY 1, 2, 3
HAVING count(*) > 1000 ORDER BY 1;
SELECT pg_stat_nbmf_reset();
CALL nbmf.maintain('aged');
SELECT sum(values_decoded) < 1000 AS nothing_again FROM pg_stat_nbmf_codec;
-- as if two hours had passed since the last pass
UPDATE nbmf.pass SET tried_at = tried_at - interval '2 hours' WHERE relation = 'aged'::regclass;
UPDATE nbmf.class SET l3_after = '22 hours' WHERE name = 'aging';
CALL nbmf.maintain('aged');
SELECT tier, codec ~ 'neural' AS neural, count(*) > 15000 AS most FROM aged, nbmf_info(body) GROUP BY 1, 2 ORDER BY count(*) DESC LIMIT 1;
SELECT count(*) FROM aged WHERE body::text <> chat(n);

-- coming of age alone makes a value due
DELETE FROM aged WHERE n > 100;
INSERT INTO aged SELECT n, now() - interval '22 hours' + interval '4 seconds', chat(n) FROM generate_series(17001, 17100) n;
CALL nbmf.maintain('aged');
SELECT count(*) FILTER (WHERE tier = 'L3') AS cold FROM aged, nbmf_info(body) WHERE n > 17000;
SELECT pg_sleep(4.5);
CALL nbmf.maintain('aged');
SELECT count(*) FILTER (WHERE tier = 'L3') > 90 AS cold FROM aged, nbmf_info(body) WHERE n > 17000;

-- a local time is another moment in another session, and none is forgotten
DELETE FROM aged;
SET TimeZone = 'UTC';
INSERT INTO aged SELECT n, now() - interval '21 hours', chat(n) FROM generate_series(18001, 18100) n;
CALL nbmf.maintain('aged');
SELECT count(*) FILTER (WHERE tier = 'L3') AS cold FROM aged, nbmf_info(body);
SET TimeZone = 'Asia/Tokyo';
CALL nbmf.maintain('aged');
SELECT count(*) FILTER (WHERE tier = 'L3') > 90 AS cold FROM aged, nbmf_info(body);

-- ages at the ends of time, and beyond
CREATE TABLE ends (at timestamp, body nbmf);
CREATE TABLE end_days (at date, body nbmf);
SELECT nbmf.attach('ends', 'body', class => 'aging', age_by => 'at'), nbmf.attach('end_days', 'body', class => 'aging', age_by => 'at');
INSERT INTO ends SELECT at::timestamp, chat(1) FROM unnest(ARRAY['infinity', '-infinity', '4714-11-24 00:00:00 BC', '294276-12-31 23:59:59', NULL]) at;
INSERT INTO end_days SELECT at::date, chat(1) FROM unnest(ARRAY['infinity', '-infinity', '4714-11-24 BC', '5874897-12-31', NULL]) at;
CALL nbmf.maintain('ends');
CALL nbmf.maintain('end_days');
UPDATE nbmf.class SET l3_after = '7000 years' WHERE name = 'aging';
SET TimeZone = 'America/Los_Angeles';
CALL nbmf.maintain('ends');
CALL nbmf.maintain('end_days');
UPDATE nbmf.class SET l3_after = '170000000 years' WHERE name = 'aging';
CALL nbmf.maintain('ends');
RESET TimeZone;

-- what it would save is known before
CREATE TABLE plain AS SELECT chat(n) AS doc FROM generate_series(1, 8000) n;
SELECT rung, seconds >= 0 AS timed, bytes_low <= bytes AND bytes <= bytes_high AS within, command FROM nbmf_estimate('plain', 'doc') WHERE rung = 'neural';

DROP TABLE turn, elsewhere, other_care, aged, ends, end_days, plain;
DELETE FROM nbmf.class WHERE name IN ('deep', 'aging');
DROP FUNCTION chat;
CALL nbmf.maintain();

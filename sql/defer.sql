-- Casts and input leave compression to the row trigger of the column that their
-- values go to, by a guess that must never cost more than size
SET client_min_messages = warning;
CREATE FUNCTION turn(n int) RETURNS text LANGUAGE sql IMMUTABLE AS $$
    SELECT '{"role": "user", "model": "assistant-large", "content": "message number ' || n || '", "tokens": ' || n % 977 || '}' $$;
CREATE TABLE source AS SELECT n, turn(n) AS doc, turn(n)::jsonb AS j FROM generate_series(1, 2000) n;
INSERT INTO nbmf.class (name, share) VALUES ('alone', 'none');

CREATE TABLE memory (n int, class text, body nbmf);
INSERT INTO memory SELECT n, 'general', doc FROM source;
SELECT nbmf.attach('memory', 'body', class_by => 'class');
CALL nbmf.train('memory', 'body');
TRUNCATE memory;

-- one statement, many rows: all of them end with the dictionary, encoded once
SELECT pg_stat_nbmf_reset();
INSERT INTO memory SELECT n, 'general', doc FROM source;
SELECT values_encoded - 2000 AS "encoded more than once" FROM pg_stat_nbmf;
SELECT codec, count(*) FROM memory, nbmf_info(body) GROUP BY codec;
UPDATE memory SET body = j FROM source WHERE source.n = memory.n;
SELECT codec, count(*) FROM memory, nbmf_info(body) GROUP BY codec;
COPY (SELECT n, 'general', doc FROM source) TO PROGRAM 'cat > nbmf_defer.copy';
TRUNCATE memory;
COPY memory FROM PROGRAM 'cat nbmf_defer.copy; rm nbmf_defer.copy';
SELECT codec, count(*) FROM memory, nbmf_info(body) GROUP BY codec;
SELECT count(*) FROM memory JOIN source USING (n) WHERE memory.body = doc::nbmf;

-- rows whose class has no dictionary among them are compressed all the same
TRUNCATE memory;
INSERT INTO memory SELECT n, CASE n % 2 WHEN 0 THEN 'general' ELSE 'alone' END, doc FROM source;
SELECT class, codec, count(*) FROM memory, nbmf_info(body) GROUP BY class, codec ORDER BY class, codec;

-- values that the dictionary is nothing for
TRUNCATE memory;
INSERT INTO memory SELECT n, 'general', CASE n % 3 WHEN 0 THEN turn(n) WHEN 1 THEN repeat('x', n % 200) ELSE md5(n::text) END
    FROM generate_series(1, 1000) n;
SELECT count(*), max(stored_bytes) FILTER (WHERE n % 3 = 1) FROM memory, nbmf_info(body);
SELECT count(*) FROM memory WHERE body::text <> CASE n % 3 WHEN 0 THEN turn(n) WHEN 1 THEN repeat('x', n % 200) ELSE md5(n::text) END;

-- a part of the rows goes where no trigger is: one of them at most stays uncompressed
CREATE TABLE part (n int, body nbmf) PARTITION BY LIST (n);
CREATE TABLE part_odd PARTITION OF part FOR VALUES IN (1);
CREATE TABLE part_even PARTITION OF part FOR VALUES IN (0);
INSERT INTO part SELECT 1, doc FROM source;
SELECT nbmf.attach('part_odd', 'body');
CALL nbmf.train('part_odd', 'body');
TRUNCATE part;
INSERT INTO part SELECT n % 2, doc FROM source;
SELECT n, count(*), count(*) FILTER (WHERE codec = 'stored') <= 1 AS compressed FROM part, nbmf_info(body) GROUP BY n ORDER BY n;

-- sorted in between; two columns; another trigger that changes the value
INSERT INTO memory SELECT n, 'general', body FROM (SELECT n, doc::nbmf AS body FROM source ORDER BY md5(doc) OFFSET 0) s;
CREATE TABLE two (n int, a nbmf, b nbmf);
INSERT INTO two SELECT n, doc, doc FROM source;
SELECT nbmf.attach('two', 'a');
SELECT nbmf.attach('two', 'b');
CALL nbmf.train('two', 'a');
CALL nbmf.train('two', 'b');
TRUNCATE two;
INSERT INTO two SELECT n, doc, j FROM source;
SELECT count(*), count(*) FILTER (WHERE (nbmf_info(a)).codec ~ 'dict') AS a, count(*) FILTER (WHERE (nbmf_info(b)).codec ~ 'dict') AS b
FROM two;
CREATE FUNCTION shout() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NEW.body := upper(NEW.body::text)::nbmf;
    RETURN NEW;
END $$;
CREATE TRIGGER a BEFORE INSERT ON memory FOR EACH ROW EXECUTE FUNCTION shout();
TRUNCATE memory;
INSERT INTO memory SELECT n, 'general', doc FROM source;
SELECT count(*) FROM memory JOIN source USING (n) WHERE body::text = upper(doc);
SELECT count(*) FROM memory, nbmf_info(body) WHERE codec = 'stored';

-- nothing is deferred that goes to a table without trigger, too
DROP TRIGGER a ON memory;
CREATE TABLE copy_of (n int, body nbmf);
TRUNCATE memory;
WITH s AS MATERIALIZED (SELECT n, doc::nbmf AS body FROM source),
    m AS (INSERT INTO memory SELECT n, 'general', body FROM s)
INSERT INTO copy_of SELECT n, body FROM s;
SELECT codec, count(*) FROM copy_of, nbmf_info(body) GROUP BY codec;
TRUNCATE copy_of;
DO $$
DECLARE
    v nbmf;
BEGIN
    FOR i IN 1 .. 200 LOOP
        v := turn(i);
        INSERT INTO memory VALUES (i, 'general', v);
        INSERT INTO copy_of VALUES (i, v);
    END LOOP;
END $$;
SELECT codec, count(*) FROM copy_of, nbmf_info(body) GROUP BY codec;
DROP TABLE copy_of;

-- nothing is deferred that is only looked at
SELECT codec, count(*) FROM source, nbmf_info(doc::nbmf) GROUP BY codec;

-- a level in the type is kept to
CREATE TABLE level (n int, body nbmf(lossless, 19));
INSERT INTO level SELECT n, doc FROM source;
SELECT nbmf.attach('level', 'body');
CALL nbmf.train('level', 'body');
TRUNCATE level;
INSERT INTO level SELECT n, doc FROM source;
SELECT codec ~ 'dict' AS dict, count(*) FROM level, nbmf_info(body) GROUP BY 1;

DROP TABLE memory, part, two, level, source;
DROP FUNCTION turn, shout;
DELETE FROM nbmf.class WHERE name = 'alone';

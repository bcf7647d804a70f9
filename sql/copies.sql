--
-- Values with a dictionary where they are copied to, kept, and rolled back
--
SET client_min_messages = warning;

CREATE FUNCTION chat(n int) RETURNS text LANGUAGE sql IMMUTABLE AS $$
    SELECT jsonb_build_object('role', CASE n % 2 WHEN 0 THEN 'user' ELSE 'assistant' END,
        'model', 'assistant-large', 'content', 'message number ' || n,
        'usage', jsonb_build_object('tokens', n % 977))::text $$;
-- large enough for TOAST, with the same dictionary
CREATE FUNCTION thread(n int) RETURNS text LANGUAGE sql IMMUTABLE AS $$
    SELECT string_agg(chat(n + i) || md5((n + i)::text), ' ') FROM generate_series(1, 400) i $$;

CREATE TABLE turn (n int PRIMARY KEY, body nbmf) WITH (autovacuum_enabled = off);
SELECT nbmf.attach('turn', 'body');
INSERT INTO turn SELECT n, chat(n) FROM generate_series(1, 1000) n;
CALL nbmf.train('turn', 'body');
UPDATE turn SET body = chat(n);
INSERT INTO turn SELECT n, thread(n) FROM generate_series(2001, 2005) n;
CALL nbmf.maintain('turn');
SELECT count(*) AS with_dictionary, min(pg_column_size(body)) FILTER (WHERE n > 2000) > 2500 AS toasted
FROM turn WHERE (nbmf_info(body)).object IS NOT NULL;

-- whatever holds such a value
CREATE TYPE said AS (who text, what nbmf, more nbmf[]);
CREATE DOMAIN note AS nbmf CHECK (length(VALUE::text) > 0);
CREATE TABLE holder (n int, a nbmf[], c said, cs said[], t turn, d note, plain nbmf);
INSERT INTO holder
SELECT n, ARRAY[body, NULL, body], ROW('me', body, ARRAY[body])::said, ARRAY[ROW('you', body, NULL)::said], turn, body, body
FROM turn WHERE n < 10 OR n > 2000;
CREATE TABLE ctas AS SELECT n, body, turn AS whole FROM turn WHERE n < 10 OR n > 2000;
CREATE MATERIALIZED VIEW mv AS SELECT n, body, ARRAY[body] AS a, ROW('x', body, NULL)::said AS c FROM turn WHERE n < 20 OR n > 2000;
CREATE UNIQUE INDEX ON mv (n);
CREATE FUNCTION right_text(n int) RETURNS text LANGUAGE sql IMMUTABLE AS $$
    SELECT CASE WHEN n > 2000 THEN thread(n) ELSE chat(n) END $$;

-- the originals change, go, and lose their dictionary's column
UPDATE turn SET body = 'new' WHERE n = 5;
DELETE FROM turn WHERE n IN (6, 2002);
VACUUM turn;
REFRESH MATERIALIZED VIEW mv;
SELECT count(*), count((nbmf_info(body)).object) AS with_dictionary,
       count(*) FILTER (WHERE n <> 5 AND (body::text <> right_text(n) OR a[1]::text <> right_text(n) OR (c).what::text <> right_text(n))) AS wrong
FROM mv;
UPDATE turn SET body = 'newer' WHERE n = 5;
REFRESH MATERIALIZED VIEW CONCURRENTLY mv;
SELECT body, a, c FROM mv WHERE n = 5;
SELECT nbmf.detach('turn', 'body');
DROP TABLE turn CASCADE;
SELECT count(*), count((nbmf_info(plain)).object) AS plain, count((nbmf_info(a[3])).object) AS arrays,
       count((nbmf_info((c).more[1])).object) AS composites, count((nbmf_info(cs[1].what)).object) AS arrays_of_them
FROM holder;
SELECT count(*) AS wrong FROM holder, right_text(n) AS t
WHERE plain::text <> t OR a[1]::text <> t OR a[3]::text <> t OR (c).what::text <> t OR (c).more[1]::text <> t
   OR cs[1].what::text <> t OR d::text <> t OR NOT nbmf_verify(plain);
SELECT count(*) AS wrong FROM ctas WHERE body::text <> right_text(n);
SELECT count(*) AS damaged FROM nbmf_verify_table('holder', 'plain');

-- a temporary table is trained and maintained as others are
CREATE TEMP TABLE passing (n int, body nbmf);
SELECT nbmf.attach('passing', 'body');
INSERT INTO passing SELECT n, chat(n) FROM generate_series(1, 1000) n;
CALL nbmf.train('passing', 'body');
CALL nbmf.maintain('passing');
CREATE TEMP TABLE at_commit (n int, body nbmf) ON COMMIT DELETE ROWS;
SELECT nbmf.attach('at_commit', 'body');
BEGIN;
INSERT INTO at_commit SELECT n, body FROM passing;
SELECT count(*) FROM at_commit JOIN passing USING (n, body);
COMMIT;
CALL nbmf.maintain();
SELECT count(*) FILTER (WHERE (nbmf_info(body)).tier = 'L2') > 900 AS done, count(*) FILTER (WHERE body::text <> chat(n)) AS wrong FROM passing;
CREATE TABLE kept AS SELECT * FROM passing WHERE n <= 10;
\c -
SET client_min_messages = warning;
-- the session that has ended may still be at dropping its tables
DO $$
BEGIN
    FOR i IN 1 .. 1000 LOOP
        EXIT WHEN NOT EXISTS (SELECT FROM pg_class WHERE relname IN ('passing', 'at_commit'));
        PERFORM pg_sleep(0.02);
    END LOOP;
END $$;
SELECT count((nbmf_info(body)).object) AS with_dictionary, count(*) FILTER (WHERE body::text <> chat(n)) AS wrong FROM kept;
CALL nbmf.maintain();
SELECT count(*) AS forgotten_with_the_session FROM nbmf.attached;

-- cursors and variables outlive what they were read from
CREATE TABLE turn (n int PRIMARY KEY, body nbmf);
SELECT nbmf.attach('turn', 'body');
INSERT INTO turn SELECT n, chat(n) FROM generate_series(1, 1000) n;
CALL nbmf.train('turn', 'body');
INSERT INTO turn SELECT n, thread(n) FROM generate_series(2001, 2003) n;
CALL nbmf.maintain('turn');
BEGIN;
DECLARE held CURSOR WITH HOLD FOR SELECT n, body FROM turn WHERE n > 2000 OR n = 7 ORDER BY n;
FETCH 1 FROM held \gset first_
COMMIT;
CREATE PROCEDURE keep() LANGUAGE plpgsql AS $$
DECLARE
    small nbmf;
    large nbmf;
    whole turn;
    anything record;
    many nbmf[];
BEGIN
    SELECT body INTO small FROM turn WHERE n = 8;
    SELECT body INTO large FROM turn WHERE n = 2002;
    SELECT * INTO whole FROM turn WHERE n = 2003;
    SELECT n, body AS b, ROW(body) AS r INTO anything FROM turn WHERE n = 2001;
    SELECT array_agg(body ORDER BY n) INTO many FROM turn WHERE n IN (9, 10, 2001);
    COMMIT;
    TRUNCATE turn;
    COMMIT;
    PERFORM nbmf.detach('turn', 'body');
    ROLLBACK;
    RAISE WARNING '% % % % % %', small::text = chat(8), large::text = thread(2002), whole.body::text = thread(2003),
        anything.b::text = thread(2001), many[2]::text = chat(10), many[3]::text = thread(2001);
    INSERT INTO turn VALUES (1, small), (2, large), (3, whole.body), (4, many[3]);
END $$;
CALL keep();
SELECT n, (nbmf_info(body)).object IS NOT NULL AS with_dictionary,
       body::text = (ARRAY[chat(8), thread(2002), thread(2003), thread(2001)])[n] AS right FROM turn ORDER BY n;
DROP PROCEDURE keep;
SELECT :'first_body' = chat(7) AS first;
FETCH 1 FROM held \gset next_
SELECT :next_n AS n, md5(:'next_body') = md5(thread(2001)) AS right;
DROP TABLE turn;
FETCH 1 FROM held \gset next_
SELECT :next_n AS n, md5(:'next_body') = md5(thread(2002)) AS right;
CLOSE held;

-- every call, rolled back
CALL nbmf.maintain();
CREATE TABLE turn (n int PRIMARY KEY, body nbmf);
BEGIN;
SELECT nbmf.attach('turn', 'body');
INSERT INTO turn VALUES (1, chat(1));
SELECT count(*) FROM nbmf.attached;
ROLLBACK;
SELECT count(*) FROM nbmf.attached;
SELECT count(*) FROM nbmf.attachment;
SELECT count(*) FROM nbmf.pass;
INSERT INTO turn SELECT n, chat(n) FROM generate_series(1, 1000) n;
BEGIN;
SAVEPOINT a;
SELECT nbmf.attach('turn', 'body', class => 'legal');
ROLLBACK TO a;
SELECT nbmf.attach('turn', 'body', class => 'chat');
COMMIT;
SELECT class FROM nbmf.attached;
CALL nbmf.train('turn', 'body');
BEGIN;
SELECT nbmf.detach('turn', 'body');
INSERT INTO turn VALUES (1001, chat(1001));
ROLLBACK;
INSERT INTO turn VALUES (1002, chat(1002));
SELECT (nbmf_info(body)).object IS NOT NULL AS with_dictionary, body::text = chat(1002) AS right FROM turn WHERE n > 1000;
CALL nbmf.maintain('turn');
BEGIN;
UPDATE nbmf.class SET share = 'none' WHERE name = 'chat';
INSERT INTO turn VALUES (1003, chat(1003));
SELECT (nbmf_info(body)).object FROM turn WHERE n = 1003;
ROLLBACK;
INSERT INTO turn VALUES (1003, chat(1003));
SELECT (nbmf_info(body)).object IS NOT NULL AS with_dictionary FROM turn WHERE n = 1003;
BEGIN;
SELECT nbmf.apply_preset('maximum_compression');
ROLLBACK;
SELECT l1_level, l2_level FROM nbmf.class WHERE name = 'chat';
BEGIN;
TRUNCATE turn;
DROP TABLE turn;
ROLLBACK;
SELECT count(*) AS wrong FROM turn WHERE body::text <> chat(n);
SELECT class, dictionaries FROM nbmf.attached;
BEGIN;
DROP TABLE turn;
ROLLBACK;
SELECT count(*) AS damaged FROM nbmf_verify_table('turn', 'body');

DROP TABLE turn, holder, ctas, kept CASCADE;
DROP TYPE said;
DROP DOMAIN note;
DROP FUNCTION chat, thread, right_text;
CALL nbmf.maintain();
SELECT count(*) FROM nbmf.attachment;

--
-- Frames that nobody has encoded.  Aliases of byteasend give a superuser the
-- frame of a value, and make a value of any bytes.
--
CREATE FUNCTION frame_of(nbmf) RETURNS bytea LANGUAGE internal IMMUTABLE STRICT AS 'byteasend';
CREATE FUNCTION forge(bytea) RETURNS nbmf LANGUAGE internal IMMUTABLE STRICT AS 'byteasend';

-- the bytes of docs/format.md: codec and kind, checksum, content
SELECT v, frame_of(v) FROM unnest(ARRAY['', 'abc', '{"a": 1}', '\x0102', '{1,2}']::nbmf[]) v;
SELECT forge(frame_of('abc')) = 'abc' AS whole, forge(frame_of(repeat('abc', 1000)::nbmf))::text = repeat('abc', 1000) AS compressed;

-- what each kind of damage is called
CREATE FUNCTION attempt(frame bytea) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    message text;
    detail text;
BEGIN
    RETURN forge(frame)::text;
EXCEPTION WHEN OTHERS THEN
    GET STACKED DIAGNOSTICS message = MESSAGE_TEXT, detail = PG_EXCEPTION_DETAIL;
    RETURN SQLSTATE || ' ' || message || ': ' || detail;
END $$;
SELECT what, attempt(frame::bytea), nbmf_verify(forge(frame::bytea)) AS verify
FROM (VALUES
    ('whole',             '\x00990977ad616263'),
    ('empty',             '\x'),
    ('one byte',          '\x00'),
    ('no checksum',       '\x00990977'),
    ('checksum',          '\x00980977ad616263'),
    ('content',           '\x00990977ad616264'),
    ('cut',               '\x00990977ad6162'),
    ('longer',            '\x00990977ad61626300'),
    ('codec 7',           '\x07990977ad616263'),
    ('missing object',    '\x057f200000000000001122'),
    ('object 0',          '\x0500200000000000001122'),
    ('cut in object',     '\x05f0'),
    ('codec 15',          '\x0f990977ad616263'),
    ('tier 3',            '\xc0990977ad616263'),
    ('tier 2, a value',   '\x80990977ad616263'),
    ('length over limit', '\x01ffffffffff00000000'),
    ('1 GB in 1 block',   '\x02f02fdfbd8000000000ffff'),
    ('1 GB, no payload',  '\x01f02fdfbd8000000000'),
    ('first byte f8',     '\x01f80000000000000000'),
    ('cut in length',     '\x01f0'),
    ('no model',          '\x0a7f0000112233'),
    ('neural, 86 MB',     '\x0d7fe500000000000000' || repeat('00', 300)),
    ('neural, short',     '\x0d7fbfff00000000' || repeat('00', 300)),
    ('no zstd',           '\x01050000000000112233'),
    ('block of nothing',  '\x020500000000'),
    ('vector of 3 bytes', '\x30990977ad616263'),
    ('vector of none',    '\x3099e9d851')) f(what, frame);

-- another kind for a stored frame, with the checksum that belongs to it
CREATE FUNCTION retag(frame bytea, kind int) RETURNS bytea LANGUAGE plpgsql AS $$
DECLARE
    was int := get_byte(frame, 0) >> 4 & 3;
    sum bigint := get_byte(frame, 1) + 256 * (get_byte(frame, 2) + 256 * (get_byte(frame, 3) + 256 * get_byte(frame, 4)::bigint));
BEGIN
    sum := (sum + (kind - was) * x'9E3779B1'::bigint) & x'FFFFFFFF'::bigint;
    FOR i IN 1..4 LOOP
        frame := set_byte(frame, i, (sum & 255)::int);
        sum := sum >> 8;
    END LOOP;
    RETURN set_byte(frame, 0, kind << 4);
END $$;
SELECT attempt(retag(frame_of('\x616263'), 0)) AS bytes_as_text, attempt(retag(frame_of('abc'), 2)) AS text_as_bytes,
       attempt(set_byte(frame_of('abc'), 0, 32)) AS only_kind_changed;

-- a forged checksum does not make NUL or invalid UTF-8 a text
SELECT attempt(retag(frame_of('\x6100'), 0)) AS nul, attempt(retag(frame_of('\x61ff'), 0)) AS utf8,
       attempt(retag(frame_of('abc'), 1)) AS no_json, nbmf_verify(forge(retag(frame_of('abc'), 1))) AS verify;
SELECT forge(retag(frame_of('abc'), 1))::json;

-- flip every bit of some frames: an error, or the right text (where the bit
-- says the tier)
CREATE TABLE victim (n int, frame bytea, t text);
INSERT INTO victim SELECT n, frame_of(v), v::text FROM unnest(ARRAY[
    'a short text',
    jsonb_build_object('role', 'user', 'content', repeat('some content ', 20))::text,
    '{0.1,0.2,0.3,0.4}',
    repeat('0123456789', 500)]::nbmf[]) WITH ORDINALITY u(v, n);
SELECT n, count(*) FILTER (WHERE r LIKE 'XX001 %' OR r LIKE '0A000 %') > 0 AS some_errors,
       count(*) FILTER (WHERE r NOT LIKE 'XX001 %' AND r NOT LIKE '0A000 %' AND r <> t) AS wrong_texts
FROM victim, LATERAL (SELECT bit, attempt(set_bit(frame, bit, 1 - get_bit(frame, bit))) AS r
                      FROM generate_series(0, octet_length(frame) * 8 - 1) bit) a
GROUP BY n ORDER BY n;

-- cut at every length
SELECT n, count(*) FILTER (WHERE r NOT LIKE 'XX001 %') AS not_refused
FROM victim, LATERAL (SELECT attempt(substr(frame, 1, l)) AS r FROM generate_series(0, octet_length(frame) - 1) l) a
GROUP BY n ORDER BY n;

-- the other functions refuse damage alike
SELECT forge('\x00980977ad616263') ->> 'a';
SELECT forge('\x00') = 'abc';
SELECT nbmf_hash(forge('\x00'));
SELECT nbmf_info(forge('\x01f80000000000000000'));
SELECT nbmf_digest(forge('\x00980977ad616263'));
SELECT nbmf_send(forge('\x07990977ad616263'));
SELECT forge('\x057f200000000000001122')::text;
SELECT forge('\x00980977ad616263')::nbmf(lossless, 19);
SELECT forge('\x00980977ad616263')::real[];

-- nbmf_verify_table names the bad rows, and goes on
CREATE TABLE some_bad (id int, b nbmf);
INSERT INTO some_bad SELECT i, CASE WHEN i % 4 = 0 THEN forge('\x00980977ad616263') ELSE 'abc' END FROM generate_series(1, 10) i;
SELECT * FROM nbmf_verify_table('some_bad', 'b');
-- and ANALYZE lives with them
ANALYZE some_bad;

-- nor does a bad model stop it, or one that is none
INSERT INTO nbmf.object (id, attachment, class, edge_only, payload, checksum, ratio, kind)
SELECT 2000000000 + i, 0, 'general', true, p, CASE i WHEN 2 THEN ('x' || (nbmf_info(p::nbmf)).checksum)::bit(32)::bigint ELSE 0 END, 1, 'model'
FROM unnest(ARRAY['a model, once', 'not a model, which begins otherwise']::bytea[]) WITH ORDINALITY u(p, i);
TRUNCATE some_bad;
INSERT INTO some_bad SELECT i, forge(('\x0af0' || to_hex(2000000000 + i - 270549120) || '0000112233')::bytea) FROM generate_series(1, 3) i;
INSERT INTO some_bad VALUES (4, 'abc');
SELECT * FROM nbmf_verify_table('some_bad', 'b');
ANALYZE some_bad;
SELECT nbmf_kind(b) FROM some_bad;
SELECT nbmf_hash(b) FROM some_bad WHERE id = 1;
SELECT b = '' FROM some_bad WHERE id = 2;
SELECT nbmf_info(b) FROM some_bad WHERE id = 3;
ALTER TABLE nbmf.object DISABLE TRIGGER guard_object;
DELETE FROM nbmf.object WHERE id > 2000000000;
ALTER TABLE nbmf.object ENABLE ALWAYS TRIGGER guard_object;

DROP TABLE victim, some_bad;
DROP FUNCTION attempt, retag, frame_of, forge;

-- a damaged object is named with the column that it is for
CREATE TABLE hurt (id int, body nbmf);
INSERT INTO hurt SELECT n, jsonb_build_object('n', n, 'role', 'user', 'text', 'document number ' || n)
    FROM generate_series(1, 2000) n;
SELECT nbmf.attach('hurt', 'body');
SET client_min_messages = warning;
CALL nbmf.train('hurt', 'body');
RESET client_min_messages;
ALTER TABLE nbmf.object DISABLE TRIGGER guard_object;
UPDATE nbmf.object SET checksum = checksum + 1 WHERE id = (SELECT max(id) FROM nbmf.object);
-- the older version of the row could still be read
VACUUM nbmf.object;
DO $$
DECLARE
    message text;
    detail text;
    hint text;
BEGIN
    UPDATE hurt SET body = body;
EXCEPTION WHEN data_corrupted THEN
    GET STACKED DIAGNOSTICS message = MESSAGE_TEXT, detail = PG_EXCEPTION_DETAIL, hint = PG_EXCEPTION_HINT;
    RAISE NOTICE '%: % %', regexp_replace(message, '\d+', 'N'), detail, hint;
END $$;
UPDATE nbmf.object SET checksum = checksum - 1 WHERE id = (SELECT max(id) FROM nbmf.object);
ALTER TABLE nbmf.object ENABLE ALWAYS TRIGGER guard_object;
VACUUM nbmf.object;
UPDATE hurt SET body = body;
SELECT count(*) > 1900 AS made_with_it FROM hurt, nbmf_info(body) WHERE object IS NOT NULL;
SELECT nbmf.detach('hurt', 'body');
DROP TABLE hurt;

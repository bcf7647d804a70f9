--
-- Type modifiers
--
CREATE TABLE t (
    a nbmf, b nbmf(lossless), c nbmf(semantic), d nbmf(lossless, 17), e nbmf(SEMANTIC, 22), f nbmf(lossless, 1)[]
);
SELECT attname, format_type(atttypid, atttypmod), atttypmod
FROM pg_attribute WHERE attrelid = 't'::regclass AND attnum > 0 ORDER BY attnum;

-- modifiers that mean nothing
CREATE TABLE bad (a nbmf(lossy));
CREATE TABLE bad (a nbmf(17));
CREATE TABLE bad (a nbmf(lossless, 0));
CREATE TABLE bad (a nbmf(lossless, 23));
CREATE TABLE bad (a nbmf(lossless, -1));
CREATE TABLE bad (a nbmf(lossless, fast));
CREATE TABLE bad (a nbmf(lossless, 3, 3));
CREATE TABLE bad (a nbmf(lossless, 99999999999));
CREATE TABLE bad (a nbmf(lossless, 1.5));
SELECT nbmf('abc'::text, 255, false);

-- semantic mode loses nothing in this version, and the value says so
INSERT INTO t VALUES ('{"n": 1.50 }', '{"n": 1.50 }', '{"n": 1.50 }', '{"n": 1.50 }', '{"n": 1.50 }', ARRAY['{"n": 1.50 }']);
SELECT a, b, c, d, e, f FROM t;
SELECT (nbmf_info(c)).mode, (nbmf_info(e)).mode FROM t;

-- the level does something: catalog rows as documents
CREATE TABLE docs AS SELECT string_agg(row_to_json(p)::text, E'\n') AS d FROM (SELECT * FROM pg_proc ORDER BY oid LIMIT 500) p;
CREATE TABLE l (one nbmf(lossless, 1), nineteen nbmf(lossless, 19), plain nbmf);
INSERT INTO l SELECT d, d, d FROM docs;
SELECT (nbmf_info(nineteen)).stored_bytes < (nbmf_info(one)).stored_bytes AS smaller,
       one = nineteen AS equal, one::text = nineteen::text AS same FROM l;
SET nbmf.zstd_level = 19;
SELECT (nbmf_info(d::nbmf)).stored_bytes = (nbmf_info(nineteen)).stored_bytes AS by_guc FROM l, docs;
SET nbmf.zstd_level = 0;
SET nbmf.zstd_level = 23;
SET nbmf.no_such_setting = 1;
RESET nbmf.zstd_level;

-- coercion encodes anew at the new level, and never makes a value larger
SELECT (nbmf_info(one::nbmf(lossless, 19))).stored_bytes = (nbmf_info(nineteen)).stored_bytes AS re_encoded,
       (nbmf_info(nineteen::nbmf(lossless, 1))).stored_bytes = (nbmf_info(nineteen)).stored_bytes AS kept FROM l;
SELECT ('abc'::nbmf)::nbmf(lossless, 19);

-- an assignment cast encodes once, at the column's level
EXPLAIN (VERBOSE, COSTS OFF) INSERT INTO l (nineteen) SELECT d FROM docs;

-- the planner leaves out coercions that would do nothing
EXPLAIN (VERBOSE, COSTS OFF) SELECT plain::nbmf(lossless), one::nbmf(semantic), one::nbmf(semantic, 1), one::nbmf(lossless, 2), one::nbmf FROM l;

-- so ALTER TABLE does not rewrite the table for them
CREATE FUNCTION rewritten(command text) RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE
    before oid := pg_relation_filenode('l');
BEGIN
    EXECUTE command;
    RETURN before <> pg_relation_filenode('l');
END $$;
SELECT rewritten('ALTER TABLE l ALTER plain TYPE nbmf(lossless)') AS lossless,
       rewritten('ALTER TABLE l ALTER plain TYPE nbmf(semantic)') AS semantic,
       rewritten('ALTER TABLE l ALTER plain TYPE nbmf') AS plain,
       rewritten('ALTER TABLE l ALTER one TYPE nbmf(semantic, 1)') AS same_level,
       rewritten('ALTER TABLE l ALTER one TYPE nbmf') AS no_level,
       rewritten('ALTER TABLE l ALTER plain TYPE nbmf(lossless, 19)') AS new_level;
SELECT (nbmf_info(plain)).stored_bytes = (nbmf_info(nineteen)).stored_bytes AS re_encoded FROM l;
DROP FUNCTION rewritten;

-- nbmf_encode says mode and level aloud
SELECT nbmf_encode('abc'), nbmf_encode('{"a": 1}'::json, 'semantic'), nbmf_encode('{"a": 1}'::jsonb, 'lossless', 19),
       nbmf_encode('\x01'::bytea), nbmf_encode('{1,2}'::real[]), nbmf_encode(value => 'x', level => 5);
-- of a value: the same value
SELECT nbmf_encode('{"b":1,  "a":1, "a":2}'::nbmf, 'lossless', 19), nbmf_encode('note'::nbmf, 'lossless', 19), nbmf_encode('\x01'::nbmf);
SELECT (nbmf_info(nbmf_encode(one, 'lossless', 19))).stored_bytes = (nbmf_info(nineteen)).stored_bytes AS re_encoded FROM l;
SELECT nbmf_encode(NULL::text) IS NULL AS n, nbmf_encode('a', 'lossless', NULL) AS default_level;
SELECT nbmf_encode('a', NULL);
SELECT nbmf_encode('a', 'lossy');
SELECT nbmf_encode('a', 'lossless', 0);
SELECT nbmf_encode('a', 'lossless', 23);
SELECT (nbmf_info(nbmf_encode(d, 'lossless', 19))).stored_bytes = (nbmf_info(nineteen)).stored_bytes AS same FROM docs, l;

DROP TABLE t, l, docs;

--
-- The extension's objects: documented, safe, complete
--

-- everything has a comment
SELECT pg_describe_object(classid, objid, objsubid) AS without_comment
FROM pg_depend d
WHERE refclassid = 'pg_extension'::regclass AND refobjid = (SELECT oid FROM pg_extension WHERE extname = 'nbmf') AND deptype = 'e'
  AND obj_description(objid, classid::regclass::name) IS NULL
  AND classid <> 'pg_cast'::regclass AND classid <> 'pg_opfamily'::regclass
  AND NOT (classid = 'pg_type'::regclass AND (SELECT typelem <> 0 OR typtype = 'c' FROM pg_type WHERE oid = objid));

-- the validators of core find nothing wrong
SELECT amvalidate(oid) FROM pg_opclass WHERE opcname = 'nbmf_hash_ops';

-- functions that decode are not free, and all but verify_table run in parallel
SELECT proname, provolatile, proparallel, proisstrict FROM pg_proc p JOIN pg_depend d ON d.objid = p.oid AND d.classid = 'pg_proc'::regclass
WHERE refobjid = (SELECT oid FROM pg_extension WHERE extname = 'nbmf') AND deptype = 'e'
  AND (provolatile <> 'i' OR proparallel <> 's' OR NOT proisstrict) ORDER BY proname, pronargs;

-- parallel plans work
CREATE TABLE par AS SELECT i, jsonb_build_object('n', i, 'text', repeat('parallel ', 10))::nbmf AS b FROM generate_series(1, 20000) i;
SET parallel_setup_cost = 0;
SET parallel_tuple_cost = 0;
SET min_parallel_table_scan_size = 0;
SET max_parallel_workers_per_gather = 2;
EXPLAIN (COSTS OFF) SELECT sum((b ->> 'n')::int) FROM par;
SELECT sum((b ->> 'n')::int) FROM par;
DROP TABLE par;

-- the extension works from any schema, and goes without trace
CREATE SCHEMA elsewhere;
DROP EXTENSION nbmf;
CREATE EXTENSION nbmf SCHEMA elsewhere;
SELECT '{"a": 1}'::elsewhere.nbmf OPERATOR(elsewhere.->>) 'a' AS a;
CREATE TABLE t (b elsewhere.nbmf(lossless, 17));
INSERT INTO t VALUES ('x');
SELECT * FROM elsewhere.nbmf_verify_table('t', 'b');
DROP EXTENSION nbmf;
DROP EXTENSION nbmf CASCADE;
DROP SCHEMA elsewhere;
DROP TABLE t;
CREATE EXTENSION nbmf;

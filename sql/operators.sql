--
-- JSON operators: the same answers as jsonb gives
--
CREATE TABLE doc (id int, d text);
INSERT INTO doc VALUES
    (1, '{"a": 1, "b": "two", "c": null, "d": [10, "x", {"y": 2}], "e": {"f": {"g": true}}, "h": 1e5, "i": 1.50, "j": ""}'),
    (2, '[1, "two", null, [3, 4], {"a": "b"}, -5, 1e2, "q\"uote", "new\nline", "\u00e9"]'),
    (3, '{"a": 1, "a": 2, "": 3, " ": 4, "1": 5, "key with \"quotes\"": 6}'),
    (4, '"scalar"'), (5, '42'), (6, 'null'), (7, '{}'), (8, '[]'),
    (10, '{"x": {"y": 1}, "x": {"z": 2}}'), (11, '{"x": {"y": {"z": 1}}, "x": 5}'), (12, '{"x": [1, 2], "x": []}'), (13, '{"x": {"y": 1, "y": {"z": 3}}}'),
    (9, '  { "a" :   { "b" : [ 1 , 2 ] , "a" : "esc\\aped" } }  ');
CREATE TABLE key (k text);
INSERT INTO key VALUES ('a'), ('b'), ('c'), ('d'), ('e'), ('h'), ('i'), ('j'), (''), (' '), ('1'), ('key with "quotes"'), ('none');
CREATE TABLE path (p text[]);
INSERT INTO path VALUES ('{}'), ('{a}'), ('{d,0}'), ('{d,1}'), ('{d,2,y}'), ('{d,-1}'), ('{e,f,g}'), ('{e,f}'), ('{3,0}'), ('{4,a}'), ('{a,b,1}'), ('{none,x}'), ('{NULL}'), ('{d,x}'), ('{7}'), ('{8}'), ('{0}'), ('{-1}'), ('{99999999999}'), ('{x,y}'), ('{x,0}'), ('{x,y,z}');

SELECT id, k FROM doc, key
WHERE (d::nbmf -> k) IS DISTINCT FROM (d::jsonb -> k) OR (d::nbmf ->> k) IS DISTINCT FROM (d::jsonb ->> k);
SELECT id, i FROM doc, generate_series(-11, 11) i
WHERE (d::nbmf -> i) IS DISTINCT FROM (d::jsonb -> i) OR (d::nbmf ->> i) IS DISTINCT FROM (d::jsonb ->> i);
SELECT id, p FROM doc, path
WHERE (d::nbmf #> p) IS DISTINCT FROM (d::jsonb #> p) OR (d::nbmf #>> p) IS DISTINCT FROM (d::jsonb #>> p);
-- (none of these found a difference; some were not NULL)
SELECT count(d::nbmf -> k) AS fields, count(d::nbmf ->> k) AS texts FROM doc, key;
SELECT count(d::nbmf #> p) AS paths, count(d::nbmf #>> p) AS texts FROM doc, path;

SELECT d::nbmf -> 'a' AS a, d::nbmf -> 'd' -> 2 ->> 'y' AS y, d::nbmf #>> '{e,f,g}' AS g FROM doc WHERE id = 1;

-- through the implicit cast to jsonb
SELECT id, d::nbmf @> '{"a": 1}' AS contains, '{"a": 1, "b": 2}' @> d::nbmf AS contained, d::nbmf ? 'a' AS has, d::nbmf ?| '{b,c}' AS any,
       jsonb_typeof(d::nbmf) AS type, d::nbmf @? '$.a' AS path, jsonb_path_query_first(d::nbmf, '$.*') AS first
FROM doc ORDER BY id;
-- a literal or a parameter without type is JSON to ||, not text
SELECT '{"a": 1}'::nbmf || '{"b": 2}' AS merged, pg_typeof('{"a": 1}'::nbmf || '{"b": 2}'), '[1]' || '[2]'::nbmf AS arrays, '{"a": 1}'::nbmf || '{"a": 2}'::jsonb AS with_jsonb;
PREPARE merge AS SELECT '{"a": 1}'::nbmf || $1 AS merged;
EXECUTE merge('{"b": 2}');
DEALLOCATE merge;
SELECT 'note'::nbmf || '{"b": 2}';
SELECT d::nbmf || '{"z": 1}'::jsonb AS merged, d::nbmf - 'b' AS less FROM doc WHERE id = 3;
SELECT key, value FROM doc, jsonb_each(d::nbmf) WHERE id = 3 ORDER BY key;
-- a jsonb on one side compares as jsonb
SELECT '{"a":1}'::nbmf = '{"a": 1}'::jsonb AS jsonb_equal, '{"a":1}'::nbmf = '{"a": 1}'::nbmf AS nbmf_equal;

-- what is not JSON is an error, as it is for text, and names the place
SELECT 'plain text'::nbmf -> 'a';
SELECT '{"a": 1, "b": }'::nbmf ->> 'a';
SELECT '\x00'::nbmf -> 0;
SELECT 'no json'::nbmf -> 1;
SELECT '{1,2}'::nbmf -> 0;
SELECT NULL::nbmf -> 'a' AS n, '{}'::nbmf -> NULL::text AS m;

DROP TABLE doc, key, path;

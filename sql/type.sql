--
-- The type itself: text in, text out, kinds
--

-- every feature has an example: this is the one of the README
CREATE TABLE memory (
    id    bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    body  nbmf NOT NULL
);
INSERT INTO memory (body) VALUES
    ('{"role": "user", "content": "What did we decide on Monday?"}'),
    ('{"role": "assistant", "content": "To ship on Friday.", "tokens": 7}'),
    ('a plain note');
SELECT id, body FROM memory ORDER BY id;
SELECT body ->> 'content' AS content FROM memory WHERE nbmf_kind(body) = 'json' ORDER BY id;
UPDATE memory SET body = 'another note' WHERE id = 3 RETURNING body;
SELECT kind, mode, tier, codec, raw_bytes, checksum, flags FROM memory, nbmf_info(body) WHERE id = 3;
DROP TABLE memory;

-- the kind follows from the text
CREATE TABLE sample (id int, t text);
INSERT INTO sample VALUES
    (1, ''), (2, ' '), (3, 'x'), (4, 'true'), (5, 'truex'), (6, 'null'),
    (7, '0'), (8, '-0.5e+10'), (9, '01'), (10, '"a"'), (11, '"a'), (12, '""'),
    (13, '{}'), (14, '[]'), (15, ' {"a" : [1, {"b": null}]} '), (16, '{"a":1,}'),
    (17, '{"a":1}{'), (18, '["\u00e9", "\ud83d"]'), (19, '["\u00g9"]'), (20, E'"tab\tin string"'),
    (21, '\x'), (22, '\x00ff'), (23, '\x00FF'), (24, '\x0'), (25, '\x0g'), (26, '\X00'),
    (27, '{1}'), (28, '{1,2.5,-3e+20}'), (29, '{1, 2}'), (30, '{1.0}'), (31, '{NaN,Infinity,-Infinity,-0}'),
    (32, '{0.1}'), (33, '{0.10}'), (34, '{1e10}'), (35, '{1e+10}'), (36, '{1,}'), (37, '{,1}'), (38, '{1}x'),
    (39, '{16777217}'), (40, '{1.6777216e+07}'), (41, '[1,2,3]'), (42, '{nan}'), (43, '{0x10}'),
    (44, '-'), (45, '.5'), (46, '5.'), (47, '1e'), (48, '[1 2]'), (49, '{"a" 1}'), (50, '{a:1}'),
    (51, 'Grüße, 世界, 🐘'), (52, '"Grüße, 世界, 🐘"'), (53, E'two\nlines'), (54, E'\u00a0{}'), (55, '{1e40}'),
    (56, '{1.17549435e-38,1e-45,3.4028235e+38}'), (57, '[[[[[[]]]]]]'), (58, '[[]'), (59, '[]]'), (60, '{"a":{"b":{}}}');
SELECT id, t, nbmf_kind(t::nbmf), octet_length(t) = (nbmf_info(t::nbmf)).raw_bytes AS text_is_content
FROM sample ORDER BY id;

-- whatever the kind, the text comes back
SELECT id, t FROM sample WHERE t::nbmf::text IS DISTINCT FROM t OR t::nbmf::varchar IS DISTINCT FROM t;
SELECT id, encode(nbmf_send(t::nbmf), 'hex') FROM sample WHERE id IN (1, 3, 4, 22, 28, 51) ORDER BY id;

-- JSON from jsonb, deep and long
SELECT nbmf_kind((repeat('[', 4096) || repeat(']', 4096))::nbmf) AS at_limit,
       nbmf_kind((repeat('[', 4097) || repeat(']', 4097))::nbmf) AS over_limit,
       nbmf_kind(('[' || repeat('1,', 100000) || '1]')::nbmf) AS long;
SELECT (repeat('[', 100000))::nbmf::text = repeat('[', 100000) AS unclosed;

-- NULL, empty, arrays, composites, domains
SELECT NULL::nbmf IS NULL AS n, ''::nbmf = ''::text::nbmf AS e, length(''::nbmf::text) AS l;
SELECT ARRAY['a', '{"b": 1}', NULL]::nbmf[] AS a, (ARRAY['a', '{"b":1}']::nbmf[])[2] ->> 'b' AS b;
CREATE TYPE pair AS (n int, v nbmf);
SELECT ROW(1, 'x')::pair, (ROW(1, 'x')::pair).v = 'x' AS eq, '(1,"{""a"": 2}")'::pair;
DROP TYPE pair;
CREATE DOMAIN json_memory AS nbmf CHECK (nbmf_kind(VALUE) = 'json');
SELECT '{"a": 1}'::json_memory;
SELECT 'no json'::json_memory;
DROP DOMAIN json_memory;

-- storage and traits of the type
SELECT typlen, typbyval, typstorage, typalign, typcategory, typanalyze::text FROM pg_type WHERE typname = 'nbmf';

DROP TABLE sample;

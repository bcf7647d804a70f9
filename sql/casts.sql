--
-- Casts
--
SELECT castsource::regtype, casttarget::regtype, castcontext
FROM pg_cast WHERE 'nbmf'::regtype IN (castsource, casttarget) ORDER BY 1::text, 2::text;

-- there and back
SELECT 'abc'::text::nbmf::text, 'abc'::varchar::nbmf::varchar, '{"a":  1}'::json::nbmf::json,
       '{"a":  1}'::jsonb::nbmf::jsonb, '\x00ff'::bytea::nbmf::bytea, '{1,2.5}'::real[]::nbmf::real[];
SELECT nbmf_kind('abc'::text::nbmf), nbmf_kind('{"a":  1}'::json::nbmf), nbmf_kind('{"a":  1}'::jsonb::nbmf),
       nbmf_kind('\x00ff'::bytea::nbmf), nbmf_kind('{1,2.5}'::real[]::nbmf);

-- between kinds
SELECT 'abc'::nbmf::bytea, '{1,2}'::nbmf::bytea, '\x414243'::nbmf::text, '{1,2}'::nbmf::text, '[1, 2.5]'::nbmf::real[], '[]'::nbmf::real[];
-- json of the other kinds is what to_json gives for their types; the server
-- asks this cast for rows
SELECT 'abc'::nbmf::json, E'{"a": 1,\n "b": tru}'::nbmf::json, '{1,-2.5,NaN,Infinity}'::nbmf::json;
SELECT to_json(v), to_jsonb(v), to_jsonb(ROW(v)), jsonb_build_object('v', v) FROM unnest(ARRAY['{"a":  1}', 'note', '\x01', '{1,2}', '42']::nbmf[]) v;
SELECT json_agg(v) FROM unnest(ARRAY['{"a":  1}', 'note', NULL]::nbmf[]) v;
SELECT 'abc'::nbmf::jsonb;
SELECT E'{"a": 1,\n "b": tru}'::nbmf::jsonb;
SELECT '\x00'::nbmf::json;
SELECT '{1,2}'::nbmf::jsonb;
SELECT '"\u0000"'::nbmf::json;
SELECT '"\u0000"'::nbmf::jsonb;
SELECT 'abc'::nbmf::real[];
SELECT '\x00'::nbmf::real[];
SELECT '[1, "2"]'::nbmf::real[];
SELECT '[[1]]'::nbmf::real[];
SELECT '[1e400]'::nbmf::real[];

-- vectors
SELECT '{}'::real[]::nbmf AS empty, '{}'::real[]::nbmf::real[] AS back;
SELECT '{NaN,Infinity,-Infinity,-0,1e-45,3.4028235e+38}'::real[]::nbmf AS v, '{NaN,Infinity,-Infinity,-0,1e-45,3.4028235e+38}'::real[]::nbmf::real[] AS back;
SET extra_float_digits = 0;
SELECT '{0.1,1.1754944e-38}'::real[]::nbmf AS not_rounded;
RESET extra_float_digits;
SELECT '{{1,2},{3,4}}'::real[]::nbmf;
SELECT '{1,NULL}'::real[]::nbmf;
SELECT '[0:1]={1,2}'::real[]::nbmf;
SELECT nbmf_kind(array_agg(random()::real)::nbmf), count(*) FROM generate_series(1, 1536);
SELECT a = a::nbmf::real[] AS exact FROM (SELECT array_agg(sin(i)::real) AS a FROM generate_series(1, 100000) i) s;

-- every assignment cast serves INSERT and ALTER TABLE, without USING
CREATE TABLE c (t text, v varchar(20), j json, b jsonb, y bytea, r real[]);
INSERT INTO c VALUES ('t', 'v', '{"j":   1}', '{"b": [1, 2]}', '\x0102', '{1,2.5}'), (NULL, NULL, NULL, NULL, NULL, NULL);
ALTER TABLE c ALTER t TYPE nbmf, ALTER v TYPE nbmf(lossless), ALTER j TYPE nbmf(semantic), ALTER b TYPE nbmf(lossless, 19), ALTER y TYPE nbmf, ALTER r TYPE nbmf;
SELECT * FROM c;
SELECT nbmf_kind(t), nbmf_kind(v), nbmf_kind(j), nbmf_kind(b), nbmf_kind(y), nbmf_kind(r) FROM c;
INSERT INTO c SELECT 't2'::text, 'v2'::varchar, '{}'::json, '[]'::jsonb, ''::bytea, '{3}'::real[];
ALTER TABLE c ALTER t TYPE text;
ALTER TABLE c ALTER t TYPE text USING t::text, ALTER v TYPE varchar(20) USING v::varchar, ALTER j TYPE json USING j::json,
    ALTER b TYPE jsonb USING b::jsonb, ALTER y TYPE bytea USING y::bytea, ALTER r TYPE real[] USING r::real[];
SELECT * FROM c;
DROP TABLE c;

-- varchar(n) cuts as it does for text
SELECT 'abcdef'::nbmf::varchar(3);

-- generated columns, expression indexes and partial indexes want immutable functions
CREATE TABLE g (
    body nbmf,
    role text GENERATED ALWAYS AS (body ->> 'role') STORED,
    digest bytea GENERATED ALWAYS AS (nbmf_digest(body)) STORED,
    copy nbmf GENERATED ALWAYS AS ((body ->> 'role')::nbmf) STORED
);
CREATE INDEX ON g ((body ->> 'role')) WHERE nbmf_kind(body) = 'json';
CREATE INDEX ON g USING gin ((body::jsonb));
INSERT INTO g (body) VALUES ('{"role": "user"}');
SELECT body, role, digest = sha256('{"role": "user"}') AS digest, copy FROM g;
DROP TABLE g;

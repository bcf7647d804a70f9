--
-- nbmf_put: insert, or say which row has it already
--
CREATE TABLE fact (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, tenant int, kind text DEFAULT 'note', body nbmf);
SELECT * FROM nbmf_put('fact', 'body', 'without an index');
CREATE INDEX fact_tenant ON fact USING nbmf_cas (tenant, body);
SELECT * FROM nbmf_put('fact', 'body', 'without a value for each column of the index');
SELECT * FROM nbmf_put('fact', 'body', 'the customer prefers to be called in the morning, before ten', '{"tenant": 1}');
SELECT * FROM nbmf_put('fact', 'body', 'the customer prefers to be called in the morning, before ten', '{"tenant": 1}');
SELECT * FROM nbmf_put('fact', 'body', 'the customer prefers to be called in the morning, before ten', '{"tenant": 2, "kind": "call"}');
SELECT * FROM nbmf_put('fact', 'body', 'an invoice is due on the last day of each month, and reminders follow', '{"tenant": 1}', 0.5);
SELECT * FROM nbmf_put('fact', 'body', 'an invoice is due on the last day of each month, and reminders follow', '{"tenant": 1}', 1);
-- near: whether it is found depends on the fingerprint, but both say so
SELECT inserted OR (NOT exact AND similarity >= 0.5 AND distance <= 32) AS plausible
FROM nbmf_put('fact', 'body', 'the customer prefers to be called in the early morning, before ten', '{"tenant": 1}', 0.5);
SELECT id, tenant, kind, body FROM fact WHERE id <= 3 ORDER BY id;
-- what differs in blanks alone is not the same; the same is found among many of one fingerprint
BEGIN;
SELECT count(*) FILTER (WHERE inserted) FROM generate_series(1, 150) AS n, LATERAL nbmf_put('fact', 'body', ('in' || repeat(' ', n) || 'between')::nbmf, '{"tenant": 7}', 1);
SELECT count(*) FILTER (WHERE exact) FROM generate_series(1, 150) AS n, LATERAL nbmf_put('fact', 'body', ('in' || repeat(' ', n) || 'between')::nbmf, '{"tenant": 7}', 1);
SELECT inserted, exact, similarity FROM nbmf_put('fact', 'body', 'in between ', '{"tenant": 7}', 0.9);
ROLLBACK;
-- the constraint of another index is in the way
ALTER TABLE fact ADD CONSTRAINT once EXCLUDE USING nbmf_cas (body WITH =) WHERE (kind = 'once');
SELECT inserted FROM nbmf_put('fact', 'body', 'one of its kind', '{"tenant": 3, "kind": "once"}');
SELECT inserted FROM nbmf_put('fact', 'body', 'one of its kind', '{"tenant": 4, "kind": "once"}');
-- odd names, no primary key, json and bytes, a schema that is not in the path
CREATE SCHEMA "odd schema";
CREATE TABLE "odd schema"."odd ""table" ("the ""tenant" text, "the body" nbmf, EXCLUDE USING nbmf_cas ("the ""tenant" WITH =, "the body" WITH ~=));
SELECT * FROM nbmf_put('"odd schema"."odd ""table"', 'the body', '{"a": [1, 2]}', '{"the \"tenant": "x"}');
SELECT * FROM nbmf_put('"odd schema"."odd ""table"', 'the body', '{"a": [1, 2]}', '{"the \"tenant": "x"}');
SELECT * FROM nbmf_put('"odd schema"."odd ""table"', 'the body', '\x00010203', '{"the \"tenant": "y"}');
SELECT * FROM nbmf_put('"odd schema"."odd ""table"', 'the body', '{0.5,0.25}', '{"the \"tenant": "z"}');
SELECT * FROM nbmf_put('"odd schema"."odd ""table"', 'the body', '{0.5,0.25}', '{"the \"tenant": "z"}');
-- partitions, each with a constraint of its own; its message shows a date
SET DateStyle = ISO;
CREATE TABLE said (day date, id int, body nbmf, PRIMARY KEY (day, id)) PARTITION BY RANGE (day);
CREATE TABLE said_may PARTITION OF said FOR VALUES FROM ('2026-05-01') TO ('2026-06-01');
CREATE TABLE said_june PARTITION OF said FOR VALUES FROM ('2026-06-01') TO ('2026-07-01');
SELECT * FROM nbmf_put('said', 'body', 'nobody looks in the leaves alone', '{"day": "2026-05-02", "id": 1}');
CREATE INDEX said_body ON said USING nbmf_cas (body);
ALTER TABLE said_may ADD EXCLUDE USING nbmf_cas (body WITH =);
SELECT * FROM nbmf_put('said', 'body', 'the same is said in May and in June', '{"day": "2026-05-02", "id": 1}');
SELECT * FROM nbmf_put('said', 'body', 'the same is said in May and in June', '{"day": "2026-06-02", "id": 2}');
SELECT * FROM nbmf_put('said_june', 'body', 'the same is said in May and in June', '{"day": "2026-06-02", "id": 2}');
SELECT * FROM nbmf_put('said', 'body', 'no partition has this', '{"day": "2026-07-02", "id": 3}');
SELECT tableoid::regclass, id FROM said ORDER BY body <~> 'the same is said in May and in June', id LIMIT 2;
SELECT * FROM nbmf_cas_lookup('said_body', 'the same is said in May and in June');
SELECT nbmf_index_check('said_body');
DROP TABLE said;
-- without rights to insert, or to look
CREATE ROLE regress_nbmf_put;
GRANT SELECT ON fact TO regress_nbmf_put;
SET ROLE regress_nbmf_put;
SELECT inserted, exact FROM nbmf_put('fact', 'body', 'the customer prefers to be called in the morning, before ten', '{"tenant": 1}');
SELECT * FROM nbmf_put('fact', 'body', 'something new, that nobody has said before', '{"tenant": 1}');
RESET ROLE;
REVOKE SELECT ON fact FROM regress_nbmf_put;
SET ROLE regress_nbmf_put;
SELECT * FROM nbmf_put('fact', 'body', 'the customer prefers to be called in the morning, before ten', '{"tenant": 1}');
RESET ROLE;
DROP ROLE regress_nbmf_put;
-- bad input
SELECT * FROM nbmf_put(NULL, 'body', 'x');
SELECT * FROM nbmf_put('fact', 'body', NULL);
SELECT * FROM nbmf_put('fact', 'none', 'x');
SELECT * FROM nbmf_put('fact', 'tenant', 'x');
SELECT * FROM nbmf_put('fact', 'body', 'x', '{"tenant": 1}', 0.3);
-- which statement meets it first is the planner's choice
\set SHOW_CONTEXT never
SELECT * FROM nbmf_put('fact', 'body', 'x', '{"tenant": "no number"}');
\set SHOW_CONTEXT errors
SELECT * FROM nbmf_put('fact', 'body', 'x', '[1]');
SELECT * FROM nbmf_put('fact', 'body', 'x', '{"tenant": 1, "id": 7}');
DROP TABLE fact, "odd schema"."odd ""table";
DROP SCHEMA "odd schema";

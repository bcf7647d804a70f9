--
-- Putting a column under care: nbmf.attach, nbmf.detach, classes
--
SET client_min_messages = warning;

SELECT name, mode, share, l1_level, l2_level, edge_only, preset FROM nbmf.class ORDER BY name;

CREATE TABLE memory (id int PRIMARY KEY, tenant text, kind text, made timestamptz DEFAULT now(), thread int, body nbmf, other nbmf(lossless, 5), t text);
SELECT nbmf.attach('memory', 'body', class => 'chat', class_by => 'kind', age_by => 'made', tenant_by => 'tenant', group_by => 'thread');
SELECT nbmf.attach('memory', 'other');
SELECT relation, "column", class, class_by, age_by, tenant_by, group_by, dictionaries, ratio_at_training FROM nbmf.attached ORDER BY "column";
SELECT tgname, tgenabled, regexp_replace(pg_get_triggerdef(oid), '[0-9a-f]{16}', 'KEY') FROM pg_trigger WHERE tgrelid = 'memory'::regclass ORDER BY tgname;

-- what cannot be attached
SELECT nbmf.attach('memory', 'body');
SELECT nbmf.attach('memory', 't');
SELECT nbmf.attach('memory', 'none');
SELECT nbmf.attach('memory', 'ctid');
SELECT nbmf.attach('pg_stat_nbmf', 'preloaded');
SELECT nbmf.attach(NULL, 'body');
SELECT nbmf.detach('memory', 'other');
SELECT nbmf.detach('memory', 'other');
SELECT nbmf.attach('memory', 'other', class => 'none');
SELECT nbmf.attach('memory', 'other', age_by => 'tenant');
SELECT nbmf.attach('memory', 'other', tenant_by => 'none');
SELECT nbmf.attach('memory', 'other', class_by => 'other');
-- and failing leaves nothing behind
SELECT count(*) AS attachments FROM nbmf.attachment;
CREATE ROLE regress_nbmf_stranger;
SET ROLE regress_nbmf_stranger;
SELECT nbmf.attach('memory', 'other');
SELECT nbmf.detach('memory', 'body');
CALL nbmf.train('memory', 'body');
CALL nbmf.maintain('memory');
SELECT count(*) AS may_look FROM nbmf.attached;
SELECT * FROM nbmf.object;
UPDATE nbmf.class SET l1_level = 1;
INSERT INTO nbmf.attachment (class) VALUES ('chat');
-- an owner needs no other right
RESET ROLE;
GRANT CREATE ON SCHEMA public TO regress_nbmf_stranger;
SET ROLE regress_nbmf_stranger;
CREATE TABLE mine (body nbmf);
SELECT nbmf.attach('mine', 'body');
INSERT INTO mine VALUES ('{"a": 1}');
CALL nbmf.maintain();
SELECT nbmf.detach('mine', 'body');
DROP TABLE mine;
RESET ROLE;
REVOKE CREATE ON SCHEMA public FROM regress_nbmf_stranger;
DROP ROLE regress_nbmf_stranger;

-- an attached column without a dictionary works as before
INSERT INTO memory (id, body) VALUES (1, '{"a": 1}'), (2, NULL), (3, 'text');
UPDATE memory SET body = body WHERE id = 1;
SELECT id, body, (nbmf_info(body)).codec, (nbmf_info(body)).object FROM memory ORDER BY id;

-- rename and drop: the trigger goes with the column
ALTER TABLE memory RENAME TO memories;
ALTER TABLE memories RENAME body TO content;
ALTER TABLE memories RENAME made TO created_at;
SELECT relation, "column", age_by FROM nbmf.attached;
ALTER TABLE memories DROP content;
ALTER TABLE memories DROP content CASCADE;
SELECT count(*) FROM nbmf.attached;
SELECT nbmf.attach('memories', 'other');
DROP TABLE memories;
SELECT count(*) FROM nbmf.attached;

-- partitions, also later ones; inheritance
CREATE TABLE part (id int, body nbmf) PARTITION BY RANGE (id);
CREATE TABLE part1 PARTITION OF part FOR VALUES FROM (0) TO (10);
SELECT nbmf.attach('part', 'body');
CREATE TABLE part2 PARTITION OF part FOR VALUES FROM (10) TO (20);
CREATE TABLE part3 (body nbmf, id int);
ALTER TABLE part ATTACH PARTITION part3 FOR VALUES FROM (20) TO (30);
SELECT relation FROM nbmf.attached;
SELECT tgrelid::regclass FROM pg_trigger WHERE tgname = 'zz_nbmf_body' ORDER BY tgrelid::regclass::text;
SELECT nbmf.attach('part1', 'body');
INSERT INTO part SELECT i, 'value ' || i FROM generate_series(1, 29) i;
SELECT nbmf.detach('part', 'body');
SELECT count(*) FROM pg_trigger WHERE tgname = 'zz_nbmf_body';
DROP TABLE part;
CREATE TABLE parent (body nbmf);
CREATE TABLE child (extra int) INHERITS (parent);
SELECT nbmf.attach('parent', 'body');
SELECT relation FROM nbmf.attached ORDER BY relation::text;
SELECT nbmf.detach('parent', 'body');
SELECT count(*) FROM nbmf.attached;
DROP TABLE parent CASCADE;

-- classes are rows
INSERT INTO nbmf.class (name, l1_level) VALUES ('own', 23);
INSERT INTO nbmf.class (name, share) VALUES ('own', 'everyone');
INSERT INTO nbmf.class (name, l1_level, preset) VALUES ('own', 5, true);
SELECT name, mode, share, l1_level, preset FROM nbmf.class WHERE name = 'own';
UPDATE nbmf.class SET l2_level = 19 WHERE name = 'chat';
SELECT name, preset FROM nbmf.class WHERE NOT preset ORDER BY name;
-- what was a preset row and is inserted again, as a restore does, takes its place
INSERT INTO nbmf.class (name, l2_level) VALUES ('legal', 22);
SELECT name, l2_level, preset FROM nbmf.class WHERE name = 'legal';
SELECT nbmf.apply_preset('production');
SELECT DISTINCT l1_level, l2_level FROM nbmf.class;
SELECT nbmf.apply_preset('fast');
DELETE FROM nbmf.class WHERE name = 'own';

-- the function is for its own triggers only
CREATE TABLE wrong (body nbmf);
CREATE TRIGGER a BEFORE INSERT ON wrong FOR EACH ROW EXECUTE FUNCTION nbmf.encode();
INSERT INTO wrong VALUES ('a');
DROP TABLE wrong;
SELECT nbmf.encode();

-- start again with the classes of the extension
DROP EXTENSION nbmf;
CREATE EXTENSION nbmf;

-- What nbmf.maintain() remembers: how far it has come, what it has tried, what
-- dictionaries are worth now
SET client_min_messages = warning;

CREATE FUNCTION chat(n int) RETURNS nbmf LANGUAGE sql AS $$
    SELECT jsonb_build_object('role', CASE n % 2 WHEN 0 THEN 'user' ELSE 'assistant' END,
        'model', 'assistant-large', 'content', 'message number ' || n,
        'usage', jsonb_build_object('tokens', n % 977))::nbmf $$;
CREATE FUNCTION tool(n int) RETURNS nbmf LANGUAGE sql AS $$
    SELECT jsonb_build_object('tool', CASE n % 3 WHEN 0 THEN 'search' ELSE 'calculator' END,
        'call', md5(n::text) || md5('a' || n), 'seal', md5('b' || n))::nbmf $$;

CREATE TABLE turn (id serial PRIMARY KEY, body nbmf) WITH (autovacuum_enabled = off);
INSERT INTO turn (body) SELECT chat(n) FROM generate_series(1, 5000) n;
SELECT nbmf.attach('turn', 'body');
SELECT dictionaries, training_due FROM nbmf.attached WHERE relation = 'turn'::regclass;
CALL nbmf.maintain('turn');
SELECT dictionaries, ratio_now, training_due FROM nbmf.attached WHERE relation = 'turn'::regclass;
SELECT phase, next_block = blocks AS whole, pass_before, tried_before > 0 AS tried,
    values_seen >= 5000 AS seen, values_reencoded, values_skipped, values_damaged
FROM nbmf.pass WHERE relation = 'turn'::regclass;

-- nothing is left to do: nothing is decoded again
CALL nbmf.maintain('turn');
SELECT values_reencoded FROM nbmf.pass WHERE relation = 'turn'::regclass;

-- values that do not get smaller enough are tried once
CREATE TABLE noise (id serial PRIMARY KEY, body nbmf) WITH (autovacuum_enabled = off);
INSERT INTO noise (body) SELECT md5(n::text) || md5('x' || n) FROM generate_series(1, 2000) n;
SELECT nbmf.attach('noise', 'body');
CALL nbmf.maintain('noise');
SELECT pg_stat_nbmf_reset();
CALL nbmf.maintain('noise');
SELECT values_seen, values_reencoded FROM nbmf.pass WHERE relation = 'noise'::regclass;
SELECT values_decoded FROM pg_stat_nbmf;
SELECT dictionaries, training_due FROM nbmf.attached WHERE relation = 'noise'::regclass;

-- and again when what decides has changed
UPDATE nbmf.class SET l2_level = 17 WHERE name = 'general';
SELECT pg_stat_nbmf_reset();
CALL nbmf.maintain('noise');
SELECT values_decoded > 1000 AS tried_again FROM pg_stat_nbmf;
UPDATE nbmf.class SET l2_level = 15 WHERE name = 'general';
CALL nbmf.maintain('noise');

-- a rewritten table has its rows elsewhere
VACUUM FULL noise;
SELECT pg_stat_nbmf_reset();
CALL nbmf.maintain('noise');
SELECT values_decoded > 1000 AS tried_again FROM pg_stat_nbmf;

-- frozen rows are not new ones, new ones are not old because they are frozen
VACUUM FREEZE noise;
INSERT INTO noise (body) SELECT md5(n::text) || md5('y' || n) FROM generate_series(1, 10) n;
VACUUM FREEZE noise;
SELECT pg_stat_nbmf_reset();
CALL nbmf.maintain('noise');
SELECT values_decoded FROM pg_stat_nbmf;

-- new values are held against the dictionary's training
INSERT INTO turn (body) SELECT chat(n) FROM generate_series(1, 1000) n;
CALL nbmf.maintain('turn');
SELECT dictionaries, ratio_now > ratio_at_training * 0.9 AS as_good, measured_at IS NOT NULL AS measured, training_due
FROM nbmf.attached WHERE relation = 'turn'::regclass;
INSERT INTO turn (body) SELECT tool(n) FROM generate_series(1, 1000) n;
CALL nbmf.maintain('turn');
SELECT dictionaries, ratio_now < ratio_at_training * 0.85 AS drifted, training_due
FROM nbmf.attached WHERE relation = 'turn'::regclass;

-- what is lost is the limit's to say
SET nbmf.drift_limit = 0.9;
SELECT training_due FROM nbmf.attached WHERE relation = 'turn'::regclass;
RESET nbmf.drift_limit;

-- training is left to people if they want that
SET nbmf.auto_train = off;
CALL nbmf.maintain('turn');
SELECT dictionaries, training_due FROM nbmf.attached WHERE relation = 'turn'::regclass;
RESET nbmf.auto_train;
CALL nbmf.maintain('turn');
SELECT dictionaries, ratio_now, training_due FROM nbmf.attached WHERE relation = 'turn'::regclass;

-- what training could not better is not tried again and again
INSERT INTO turn (body) SELECT tool(n) FROM generate_series(2001, 3000) n;
CALL nbmf.maintain('turn');
CALL nbmf.maintain('turn');
SELECT training_due FROM nbmf.attached WHERE relation = 'turn'::regclass;
INSERT INTO turn (body) SELECT tool(n) FROM generate_series(3001, 4000) n;
CALL nbmf.maintain('turn');
SELECT training_due FROM nbmf.attached WHERE relation = 'turn'::regclass;

-- much from a tenant without a dictionary makes training due, little does not
CREATE TABLE person (id serial PRIMARY KEY, tenant text, body nbmf) WITH (autovacuum_enabled = off);
INSERT INTO person (tenant, body) SELECT 'a', chat(n) FROM generate_series(1, 3000) n;
SELECT nbmf.attach('person', 'body', class => 'pii', tenant_by => 'tenant');
CALL nbmf.maintain('person');
SELECT dictionaries, training_due FROM nbmf.attached WHERE relation = 'person'::regclass;
INSERT INTO person (tenant, body) SELECT 'b', chat(n) FROM generate_series(1, 100) n;
CALL nbmf.maintain('person');
SELECT dictionaries, training_due FROM nbmf.attached WHERE relation = 'person'::regclass;
INSERT INTO person (tenant, body) SELECT 'b', chat(n) FROM generate_series(1, 3000) n;
CALL nbmf.maintain('person');
SELECT dictionaries, training_due FROM nbmf.attached WHERE relation = 'person'::regclass;
CALL nbmf.maintain('person');
SELECT dictionaries, training_due FROM nbmf.attached WHERE relation = 'person'::regclass;

-- a pass that ran out of time is gone on with
CREATE TABLE piece (id serial PRIMARY KEY, body nbmf) WITH (autovacuum_enabled = off);
INSERT INTO piece (body) SELECT chat(n) FROM generate_series(1, 20000) n;
SELECT nbmf.attach('piece', 'body');
CALL nbmf.train('piece', 'body');
CALL nbmf.maintain('piece', '0 seconds');
SELECT phase FROM nbmf.pass WHERE relation = 'piece'::regclass;
DO $$
DECLARE
    calls int := 0;
BEGIN
    LOOP
        calls := calls + 1;
        CALL nbmf.maintain('piece', '3 milliseconds');
        EXIT WHEN (SELECT phase = 'idle' AND tried_before > 0 FROM nbmf.pass WHERE relation = 'piece'::regclass);
        IF calls > 1000 THEN
            RAISE 'does not come to an end';
        END IF;
    END LOOP;
END $$;
CALL nbmf.maintain('piece');
SELECT count(*), count(*) FILTER (WHERE tier = 'L2') > 19900 AS done FROM piece, nbmf_info(body);
SELECT count(*) FROM piece WHERE body <> chat(id);

-- nobody is at it now
SELECT * FROM pg_stat_progress_nbmf;

-- what is dropped is forgotten, once maintenance comes by
DROP TABLE noise, piece;
ALTER TABLE person DROP COLUMN body CASCADE;
DROP TABLE person;
SELECT nbmf.detach('turn', 'body');
CALL nbmf.maintain();
SELECT count(*) FROM nbmf.pass;
SELECT count(*) FROM nbmf.dictionary_use;
SELECT count(*) FROM nbmf.attachment;
SELECT count(*) > 0 AS objects_stay FROM nbmf.object;

-- whose tables these are not
CREATE ROLE regress_nbmf_stranger;
SET ROLE regress_nbmf_stranger;
SELECT * FROM nbmf.pass;
SELECT * FROM nbmf.dictionary_use;
SELECT * FROM pg_stat_nbmf_cache;
SELECT count(*) FROM pg_stat_progress_nbmf;
RESET ROLE;
DROP ROLE regress_nbmf_stranger;
DROP TABLE turn;
DROP FUNCTION chat, tool;

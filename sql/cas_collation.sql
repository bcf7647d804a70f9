-- nondeterministic collations, which only a server built with ICU has
DO $$
BEGIN
    CREATE COLLATION insensitive (provider = icu, locale = 'und-u-ks-level2', deterministic = false);
EXCEPTION WHEN feature_not_supported THEN
    NULL;
END $$;
SELECT NOT EXISTS (SELECT FROM pg_collation WHERE collname = 'insensitive') AS without_icu \gset
\if :without_icu
\quit
\endif
-- they decide what is equal
CREATE TABLE people (name text COLLATE insensitive, body nbmf);
CREATE INDEX people_body ON people USING nbmf_cas (name, body);
INSERT INTO people VALUES ('Anna', 'x'), ('ANNA', 'x'), ('Bea', 'x');
SET enable_seqscan = off;
EXPLAIN (COSTS OFF) SELECT count(*) FROM people WHERE name = 'anna' AND body = 'x';
SELECT count(*) FROM people WHERE name = 'anna' AND body = 'x';
SELECT count(*) FROM people WHERE name = 'anna' COLLATE "C" AND body = 'x';
RESET enable_seqscan;
DROP TABLE people;
DROP COLLATION insensitive;

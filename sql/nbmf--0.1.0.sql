/* nbmf 0.1.0: the type, its operators and functions, its statistics */

-- complain if the script is sourced in psql rather than by CREATE EXTENSION
\echo Use "CREATE EXTENSION nbmf" to load this file. \quit

--
-- The type
--

CREATE TYPE nbmf;

CREATE FUNCTION nbmf_in(cstring, oid, integer) RETURNS nbmf
    AS 'MODULE_PATHNAME' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION nbmf_in(cstring, oid, integer) IS 'input function of type nbmf';

CREATE FUNCTION nbmf_out(nbmf) RETURNS cstring
    AS 'MODULE_PATHNAME' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION nbmf_out(nbmf) IS 'output function of type nbmf';

CREATE FUNCTION nbmf_recv(internal, oid, integer) RETURNS nbmf
    AS 'MODULE_PATHNAME' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION nbmf_recv(internal, oid, integer) IS 'binary input function of type nbmf';

CREATE FUNCTION nbmf_send(nbmf) RETURNS bytea
    AS 'MODULE_PATHNAME' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION nbmf_send(nbmf) IS 'binary output function of type nbmf';

CREATE FUNCTION nbmf_typmod_in(cstring[]) RETURNS integer
    AS 'MODULE_PATHNAME' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION nbmf_typmod_in(cstring[]) IS 'type modifier input function of type nbmf';

CREATE FUNCTION nbmf_typmod_out(integer) RETURNS cstring
    AS 'MODULE_PATHNAME' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION nbmf_typmod_out(integer) IS 'type modifier output function of type nbmf';

CREATE FUNCTION nbmf_typanalyze(internal) RETURNS boolean
    AS 'MODULE_PATHNAME' LANGUAGE C STABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION nbmf_typanalyze(internal) IS 'ANALYZE function of type nbmf: copies no values';

CREATE TYPE nbmf (
    INPUT          = nbmf_in,
    OUTPUT         = nbmf_out,
    RECEIVE        = nbmf_recv,
    SEND           = nbmf_send,
    TYPMOD_IN      = nbmf_typmod_in,
    TYPMOD_OUT     = nbmf_typmod_out,
    ANALYZE        = nbmf_typanalyze,
    INTERNALLENGTH = VARIABLE,
    STORAGE        = external
);
COMMENT ON TYPE nbmf IS 'text, JSON, bytes or a vector, kept small; its text is its content';

--
-- Casts to nbmf.  They take the column's modifier, so that an assignment
-- encodes once; the planner leaves the length coercion out where it would do
-- nothing.
--

CREATE FUNCTION nbmf_coerce_support(internal) RETURNS internal
    AS 'MODULE_PATHNAME', 'nbmf_coerce_support' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION nbmf_coerce_support(internal) IS 'planner support for the length coercion of nbmf';

CREATE FUNCTION nbmf(nbmf, integer, boolean) RETURNS nbmf
    AS 'MODULE_PATHNAME', 'nbmf_coerce' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE SUPPORT nbmf_coerce_support COST 200;
COMMENT ON FUNCTION nbmf(nbmf, integer, boolean) IS 're-encode at the level of the type modifier';

CREATE CAST (nbmf AS nbmf) WITH FUNCTION nbmf(nbmf, integer, boolean) AS IMPLICIT;

CREATE FUNCTION nbmf(text, integer, boolean) RETURNS nbmf
    AS 'MODULE_PATHNAME', 'nbmf_from_text' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE COST 200;
COMMENT ON FUNCTION nbmf(text, integer, boolean) IS 'encode text as nbmf';

CREATE CAST (text AS nbmf) WITH FUNCTION nbmf(text, integer, boolean) AS ASSIGNMENT;

CREATE FUNCTION nbmf(varchar, integer, boolean) RETURNS nbmf
    AS 'MODULE_PATHNAME', 'nbmf_from_text' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE COST 200;
COMMENT ON FUNCTION nbmf(varchar, integer, boolean) IS 'encode varchar as nbmf';

CREATE CAST (varchar AS nbmf) WITH FUNCTION nbmf(varchar, integer, boolean) AS ASSIGNMENT;

CREATE FUNCTION nbmf(json, integer, boolean) RETURNS nbmf
    AS 'MODULE_PATHNAME', 'nbmf_from_text' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE COST 200;
COMMENT ON FUNCTION nbmf(json, integer, boolean) IS 'encode json as nbmf';

CREATE CAST (json AS nbmf) WITH FUNCTION nbmf(json, integer, boolean) AS ASSIGNMENT;

CREATE FUNCTION nbmf(jsonb, integer, boolean) RETURNS nbmf
    AS 'MODULE_PATHNAME', 'nbmf_from_jsonb' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE COST 200;
COMMENT ON FUNCTION nbmf(jsonb, integer, boolean) IS 'encode jsonb as nbmf';

CREATE CAST (jsonb AS nbmf) WITH FUNCTION nbmf(jsonb, integer, boolean) AS ASSIGNMENT;

CREATE FUNCTION nbmf(bytea, integer, boolean) RETURNS nbmf
    AS 'MODULE_PATHNAME', 'nbmf_from_bytea' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE COST 200;
COMMENT ON FUNCTION nbmf(bytea, integer, boolean) IS 'encode bytea as nbmf';

CREATE CAST (bytea AS nbmf) WITH FUNCTION nbmf(bytea, integer, boolean) AS ASSIGNMENT;

CREATE FUNCTION nbmf(real[], integer, boolean) RETURNS nbmf
    AS 'MODULE_PATHNAME', 'nbmf_from_floats' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE COST 200;
COMMENT ON FUNCTION nbmf(real[], integer, boolean) IS 'encode real[] as nbmf';

CREATE CAST (real[] AS nbmf) WITH FUNCTION nbmf(real[], integer, boolean) AS ASSIGNMENT;

--
-- Casts from nbmf.  Only the one to jsonb is implicit: it brings @>, ?, @?,
-- jsonb_path_exists() and the rest; a second would make operators ambiguous.
--

CREATE FUNCTION nbmf_text(nbmf) RETURNS text
    AS 'MODULE_PATHNAME', 'nbmf_to_text' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE COST 50;
COMMENT ON FUNCTION nbmf_text(nbmf) IS 'decode nbmf to text';

CREATE CAST (nbmf AS text) WITH FUNCTION nbmf_text(nbmf);

CREATE FUNCTION nbmf_varchar(nbmf) RETURNS varchar
    AS 'MODULE_PATHNAME', 'nbmf_to_text' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE COST 50;
COMMENT ON FUNCTION nbmf_varchar(nbmf) IS 'decode nbmf to varchar';

CREATE CAST (nbmf AS varchar) WITH FUNCTION nbmf_varchar(nbmf);

CREATE FUNCTION nbmf_json(nbmf) RETURNS json
    AS 'MODULE_PATHNAME', 'nbmf_to_json' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE COST 60;
COMMENT ON FUNCTION nbmf_json(nbmf) IS 'decode nbmf to json';

CREATE CAST (nbmf AS json) WITH FUNCTION nbmf_json(nbmf);

CREATE FUNCTION nbmf_jsonb(nbmf) RETURNS jsonb
    AS 'MODULE_PATHNAME', 'nbmf_to_jsonb' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE COST 200;
COMMENT ON FUNCTION nbmf_jsonb(nbmf) IS 'decode nbmf to jsonb';

CREATE CAST (nbmf AS jsonb) WITH FUNCTION nbmf_jsonb(nbmf) AS IMPLICIT;

CREATE FUNCTION nbmf_bytea(nbmf) RETURNS bytea
    AS 'MODULE_PATHNAME', 'nbmf_to_bytea' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE COST 50;
COMMENT ON FUNCTION nbmf_bytea(nbmf) IS 'decode nbmf to bytea';

CREATE CAST (nbmf AS bytea) WITH FUNCTION nbmf_bytea(nbmf);

CREATE FUNCTION nbmf_floats(nbmf) RETURNS real[]
    AS 'MODULE_PATHNAME', 'nbmf_to_floats' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE COST 50;
COMMENT ON FUNCTION nbmf_floats(nbmf) IS 'decode nbmf to real[]';

CREATE CAST (nbmf AS real[]) WITH FUNCTION nbmf_floats(nbmf);

--
-- Equality and hashing, on content
--

CREATE FUNCTION nbmf_eq(nbmf, nbmf) RETURNS boolean
    AS 'MODULE_PATHNAME', 'nbmf_eq' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE COST 5;
COMMENT ON FUNCTION nbmf_eq(nbmf, nbmf) IS 'implementation of = operator';

CREATE FUNCTION nbmf_ne(nbmf, nbmf) RETURNS boolean
    AS 'MODULE_PATHNAME', 'nbmf_ne' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE COST 5;
COMMENT ON FUNCTION nbmf_ne(nbmf, nbmf) IS 'implementation of <> operator';

CREATE FUNCTION nbmf_hash(nbmf) RETURNS integer
    AS 'MODULE_PATHNAME', 'nbmf_hash' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE COST 2;
COMMENT ON FUNCTION nbmf_hash(nbmf) IS 'hash of the content';

CREATE FUNCTION nbmf_hash_extended(nbmf, bigint) RETURNS bigint
    AS 'MODULE_PATHNAME', 'nbmf_hash_extended' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE COST 2;
COMMENT ON FUNCTION nbmf_hash_extended(nbmf, bigint) IS '64-bit seeded hash of the content';

CREATE OPERATOR = (
    LEFTARG = nbmf, RIGHTARG = nbmf, FUNCTION = nbmf_eq,
    COMMUTATOR = =, NEGATOR = <>, RESTRICT = eqsel, JOIN = eqjoinsel, HASHES
);
COMMENT ON OPERATOR = (nbmf, nbmf) IS 'same content';

CREATE OPERATOR <> (
    LEFTARG = nbmf, RIGHTARG = nbmf, FUNCTION = nbmf_ne,
    COMMUTATOR = <>, NEGATOR = =, RESTRICT = neqsel, JOIN = neqjoinsel
);
COMMENT ON OPERATOR <> (nbmf, nbmf) IS 'different content';

CREATE OPERATOR CLASS nbmf_hash_ops DEFAULT FOR TYPE nbmf USING hash AS
    OPERATOR 1 =,
    FUNCTION 1 nbmf_hash(nbmf),
    FUNCTION 2 nbmf_hash_extended(nbmf, bigint);
COMMENT ON OPERATOR CLASS nbmf_hash_ops USING hash IS 'hashing of nbmf by content';

--
-- JSON operators, as for jsonb
--

CREATE FUNCTION nbmf_object_field(nbmf, text) RETURNS jsonb
    AS 'MODULE_PATHNAME', 'nbmf_object_field' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE COST 100;
COMMENT ON FUNCTION nbmf_object_field(nbmf, text) IS 'implementation of -> operator';

CREATE OPERATOR -> (LEFTARG = nbmf, RIGHTARG = text, FUNCTION = nbmf_object_field);
COMMENT ON OPERATOR -> (nbmf, text) IS 'get object field';

CREATE FUNCTION nbmf_object_field_text(nbmf, text) RETURNS text
    AS 'MODULE_PATHNAME', 'nbmf_object_field_text' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE COST 100;
COMMENT ON FUNCTION nbmf_object_field_text(nbmf, text) IS 'implementation of ->> operator';

CREATE OPERATOR ->> (LEFTARG = nbmf, RIGHTARG = text, FUNCTION = nbmf_object_field_text);
COMMENT ON OPERATOR ->> (nbmf, text) IS 'get object field as text';

CREATE FUNCTION nbmf_array_element(nbmf, integer) RETURNS jsonb
    AS 'MODULE_PATHNAME', 'nbmf_array_element' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE COST 100;
COMMENT ON FUNCTION nbmf_array_element(nbmf, integer) IS 'implementation of -> operator';

CREATE OPERATOR -> (LEFTARG = nbmf, RIGHTARG = integer, FUNCTION = nbmf_array_element);
COMMENT ON OPERATOR -> (nbmf, integer) IS 'get array element';

CREATE FUNCTION nbmf_array_element_text(nbmf, integer) RETURNS text
    AS 'MODULE_PATHNAME', 'nbmf_array_element_text' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE COST 100;
COMMENT ON FUNCTION nbmf_array_element_text(nbmf, integer) IS 'implementation of ->> operator';

CREATE OPERATOR ->> (LEFTARG = nbmf, RIGHTARG = integer, FUNCTION = nbmf_array_element_text);
COMMENT ON OPERATOR ->> (nbmf, integer) IS 'get array element as text';

CREATE FUNCTION nbmf_extract_path(nbmf, text[]) RETURNS jsonb
    AS 'MODULE_PATHNAME', 'nbmf_extract_path' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE COST 100;
COMMENT ON FUNCTION nbmf_extract_path(nbmf, text[]) IS 'implementation of #> operator';

CREATE OPERATOR #> (LEFTARG = nbmf, RIGHTARG = text[], FUNCTION = nbmf_extract_path);
COMMENT ON OPERATOR #> (nbmf, text[]) IS 'get value at path';

CREATE FUNCTION nbmf_extract_path_text(nbmf, text[]) RETURNS text
    AS 'MODULE_PATHNAME', 'nbmf_extract_path_text' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE COST 100;
COMMENT ON FUNCTION nbmf_extract_path_text(nbmf, text[]) IS 'implementation of #>> operator';

CREATE OPERATOR #>> (LEFTARG = nbmf, RIGHTARG = text[], FUNCTION = nbmf_extract_path_text);
COMMENT ON OPERATOR #>> (nbmf, text[]) IS 'get value at path as text';

CREATE FUNCTION nbmf_concat(nbmf, nbmf) RETURNS jsonb
    AS 'MODULE_PATHNAME', 'nbmf_concat' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE COST 200;
COMMENT ON FUNCTION nbmf_concat(nbmf, nbmf) IS 'implementation of || operator';

CREATE OPERATOR || (LEFTARG = nbmf, RIGHTARG = nbmf, FUNCTION = nbmf_concat);
COMMENT ON OPERATOR || (nbmf, nbmf) IS 'concatenate JSON, as for jsonb';

--
-- Functions on values
--

CREATE FUNCTION nbmf_encode(value text, mode text DEFAULT 'lossless', level integer DEFAULT NULL) RETURNS nbmf
    AS 'MODULE_PATHNAME', 'nbmf_encode_text' LANGUAGE C IMMUTABLE PARALLEL SAFE COST 200;
COMMENT ON FUNCTION nbmf_encode(text, text, integer) IS 'encode text in the given mode, at a zstd level from 1 to 22 (null: nbmf.zstd_level)';

CREATE FUNCTION nbmf_encode(value json, mode text DEFAULT 'lossless', level integer DEFAULT NULL) RETURNS nbmf
    AS 'MODULE_PATHNAME', 'nbmf_encode_text' LANGUAGE C IMMUTABLE PARALLEL SAFE COST 200;
COMMENT ON FUNCTION nbmf_encode(json, text, integer) IS 'encode json in the given mode, at a zstd level from 1 to 22 (null: nbmf.zstd_level)';

CREATE FUNCTION nbmf_encode(value jsonb, mode text DEFAULT 'lossless', level integer DEFAULT NULL) RETURNS nbmf
    AS 'MODULE_PATHNAME', 'nbmf_encode_jsonb' LANGUAGE C IMMUTABLE PARALLEL SAFE COST 200;
COMMENT ON FUNCTION nbmf_encode(jsonb, text, integer) IS 'encode jsonb in the given mode, at a zstd level from 1 to 22 (null: nbmf.zstd_level)';

CREATE FUNCTION nbmf_encode(value bytea, mode text DEFAULT 'lossless', level integer DEFAULT NULL) RETURNS nbmf
    AS 'MODULE_PATHNAME', 'nbmf_encode_bytea' LANGUAGE C IMMUTABLE PARALLEL SAFE COST 200;
COMMENT ON FUNCTION nbmf_encode(bytea, text, integer) IS 'encode bytea in the given mode, at a zstd level from 1 to 22 (null: nbmf.zstd_level)';

CREATE FUNCTION nbmf_encode(value real[], mode text DEFAULT 'lossless', level integer DEFAULT NULL) RETURNS nbmf
    AS 'MODULE_PATHNAME', 'nbmf_encode_floats' LANGUAGE C IMMUTABLE PARALLEL SAFE COST 200;
COMMENT ON FUNCTION nbmf_encode(real[], text, integer) IS 'encode real[] in the given mode, at a zstd level from 1 to 22 (null: nbmf.zstd_level)';

CREATE FUNCTION nbmf_encode(value nbmf, mode text DEFAULT 'lossless', level integer DEFAULT NULL) RETURNS nbmf
    AS 'MODULE_PATHNAME', 'nbmf_encode_nbmf' LANGUAGE C IMMUTABLE PARALLEL SAFE COST 200;
COMMENT ON FUNCTION nbmf_encode(nbmf, text, integer) IS 'encode nbmf in the given mode, at a zstd level from 1 to 22 (null: nbmf.zstd_level)';

CREATE FUNCTION nbmf_info(value nbmf,
    OUT kind text, OUT mode text, OUT tier text, OUT codec text,
    OUT raw_bytes bigint, OUT stored_bytes bigint, OUT ratio double precision,
    OUT checksum text, OUT flags text[], OUT object integer)
    AS 'MODULE_PATHNAME' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE COST 2;
COMMENT ON FUNCTION nbmf_info(nbmf) IS 'what the header of a value says; decodes nothing';

CREATE FUNCTION nbmf_kind(value nbmf) RETURNS text
    AS 'MODULE_PATHNAME', 'nbmf_kind' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE COST 2;
COMMENT ON FUNCTION nbmf_kind(nbmf) IS 'kind of the content: text, json, bytea or vector; decodes nothing';

CREATE FUNCTION nbmf_digest(value nbmf) RETURNS bytea
    AS 'MODULE_PATHNAME', 'nbmf_digest' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE COST 100;
COMMENT ON FUNCTION nbmf_digest(nbmf) IS 'SHA-256 of the content';

CREATE FUNCTION nbmf_verify(value nbmf) RETURNS boolean
    AS 'MODULE_PATHNAME', 'nbmf_verify' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE COST 50;
COMMENT ON FUNCTION nbmf_verify(nbmf) IS 'whether the value decodes to the content it was made from';

-- uses subtransactions, which parallel workers cannot
CREATE FUNCTION nbmf_verify_table(relation regclass, "column" name,
    OUT "table" regclass, OUT ctid tid, OUT sqlstate text, OUT message text, OUT detail text)
    RETURNS SETOF record
    AS 'MODULE_PATHNAME' LANGUAGE C VOLATILE STRICT PARALLEL UNSAFE COST 1000000 ROWS 10;
COMMENT ON FUNCTION nbmf_verify_table(regclass, name) IS
    'decode every value of a column, partitions included, and return the damaged ones';

--
-- What the index nbmf_cas knows of a value: key, fingerprint, ball
--

CREATE TYPE nbmf_key;

CREATE FUNCTION nbmf_key_in(cstring) RETURNS nbmf_key
    AS 'MODULE_PATHNAME', 'nbmf_key_in' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION nbmf_key_in(cstring) IS 'input function of type nbmf_key';

CREATE FUNCTION nbmf_key_out(nbmf_key) RETURNS cstring
    AS 'MODULE_PATHNAME', 'nbmf_key_out' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION nbmf_key_out(nbmf_key) IS 'output function of type nbmf_key';

CREATE FUNCTION nbmf_key_recv(internal) RETURNS nbmf_key
    AS 'MODULE_PATHNAME', 'nbmf_key_recv' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION nbmf_key_recv(internal) IS 'binary input function of type nbmf_key';

CREATE FUNCTION nbmf_key_send(nbmf_key) RETURNS bytea
    AS 'MODULE_PATHNAME', 'nbmf_key_send' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION nbmf_key_send(nbmf_key) IS 'binary output function of type nbmf_key';

CREATE TYPE nbmf_key (
    INPUT          = nbmf_key_in,
    OUTPUT         = nbmf_key_out,
    RECEIVE        = nbmf_key_recv,
    SEND           = nbmf_key_send,
    INTERNALLENGTH = 32,
    ALIGNMENT      = double,
    STORAGE        = plain
);
COMMENT ON TYPE nbmf_key IS 'digest and fingerprint of an nbmf value, 32 bytes';

CREATE TYPE nbmf_ball;

CREATE FUNCTION nbmf_ball_in(cstring) RETURNS nbmf_ball
    AS 'MODULE_PATHNAME', 'nbmf_ball_in' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION nbmf_ball_in(cstring) IS 'input function of type nbmf_ball';

CREATE FUNCTION nbmf_ball_out(nbmf_ball) RETURNS cstring
    AS 'MODULE_PATHNAME', 'nbmf_ball_out' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION nbmf_ball_out(nbmf_ball) IS 'output function of type nbmf_ball';

CREATE FUNCTION nbmf_ball_recv(internal) RETURNS nbmf_ball
    AS 'MODULE_PATHNAME', 'nbmf_ball_recv' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION nbmf_ball_recv(internal) IS 'binary input function of type nbmf_ball';

CREATE FUNCTION nbmf_ball_send(nbmf_ball) RETURNS bytea
    AS 'MODULE_PATHNAME', 'nbmf_ball_send' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION nbmf_ball_send(nbmf_ball) IS 'binary output function of type nbmf_ball';

CREATE TYPE nbmf_ball (
    INPUT          = nbmf_ball_in,
    OUTPUT         = nbmf_ball_out,
    RECEIVE        = nbmf_ball_recv,
    SEND           = nbmf_ball_send,
    INTERNALLENGTH = 16,
    ALIGNMENT      = double,
    STORAGE        = plain
);
COMMENT ON TYPE nbmf_ball IS 'a fingerprint and a distance: all fingerprints that are within it';

CREATE FUNCTION nbmf_key(value nbmf) RETURNS nbmf_key
    AS 'MODULE_PATHNAME', 'nbmf_key' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE COST 200;
COMMENT ON FUNCTION nbmf_key(nbmf) IS 'digest and fingerprint of a value';

CREATE FUNCTION nbmf_simhash(value nbmf) RETURNS bigint
    AS 'MODULE_PATHNAME', 'nbmf_simhash' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE COST 150;
COMMENT ON FUNCTION nbmf_simhash(nbmf) IS 'fingerprint of a value: near values differ in few of its bits';

CREATE FUNCTION nbmf_simhash(value nbmf_key) RETURNS bigint
    AS 'MODULE_PATHNAME', 'nbmf_key_simhash' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE COST 1;
COMMENT ON FUNCTION nbmf_simhash(nbmf_key) IS 'fingerprint of a key';

CREATE FUNCTION nbmf_ball(value nbmf, threshold double precision) RETURNS nbmf_ball
    AS 'MODULE_PATHNAME', 'nbmf_ball' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE COST 150;
COMMENT ON FUNCTION nbmf_ball(nbmf, double precision) IS 'what is at least as similar to a value as the threshold, 0.5 to 1, says';

CREATE FUNCTION nbmf_ball(value nbmf_key, threshold double precision) RETURNS nbmf_ball
    AS 'MODULE_PATHNAME', 'nbmf_key_ball' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE COST 1;
COMMENT ON FUNCTION nbmf_ball(nbmf_key, double precision) IS 'what is at least as similar to a key as the threshold, 0.5 to 1, says';

CREATE FUNCTION nbmf_key_eq(nbmf_key, nbmf_key) RETURNS boolean
    AS 'MODULE_PATHNAME', 'nbmf_key_eq' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE COST 1;
COMMENT ON FUNCTION nbmf_key_eq(nbmf_key, nbmf_key) IS 'implementation of = operator';

CREATE FUNCTION nbmf_key_ne(nbmf_key, nbmf_key) RETURNS boolean
    AS 'MODULE_PATHNAME', 'nbmf_key_ne' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE COST 1;
COMMENT ON FUNCTION nbmf_key_ne(nbmf_key, nbmf_key) IS 'implementation of <> operator';

CREATE FUNCTION nbmf_key_hash(nbmf_key) RETURNS integer
    AS 'MODULE_PATHNAME', 'nbmf_key_hash' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE COST 1;
COMMENT ON FUNCTION nbmf_key_hash(nbmf_key) IS 'hash of the digest';

CREATE FUNCTION nbmf_key_hash_extended(nbmf_key, bigint) RETURNS bigint
    AS 'MODULE_PATHNAME', 'nbmf_key_hash_extended' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE COST 1;
COMMENT ON FUNCTION nbmf_key_hash_extended(nbmf_key, bigint) IS '64-bit seeded hash of the digest';

CREATE FUNCTION nbmf_key_self(nbmf_key) RETURNS nbmf_key
    AS 'MODULE_PATHNAME', 'nbmf_key_self' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE COST 1;
COMMENT ON FUNCTION nbmf_key_self(nbmf_key) IS 'the key itself; for operator class nbmf_key_cas_ops';

CREATE FUNCTION nbmf_near(nbmf, nbmf) RETURNS boolean
    AS 'MODULE_PATHNAME', 'nbmf_near' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE COST 200;
COMMENT ON FUNCTION nbmf_near(nbmf, nbmf) IS 'implementation of ~= operator';

CREATE FUNCTION nbmf_key_near(nbmf_key, nbmf_key) RETURNS boolean
    AS 'MODULE_PATHNAME', 'nbmf_key_near' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE COST 1;
COMMENT ON FUNCTION nbmf_key_near(nbmf_key, nbmf_key) IS 'implementation of ~= operator';

CREATE FUNCTION nbmf_in_ball(nbmf, nbmf_ball) RETURNS boolean
    AS 'MODULE_PATHNAME', 'nbmf_in_ball' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE COST 150;
COMMENT ON FUNCTION nbmf_in_ball(nbmf, nbmf_ball) IS 'implementation of <@ operator';

CREATE FUNCTION nbmf_key_in_ball(nbmf_key, nbmf_ball) RETURNS boolean
    AS 'MODULE_PATHNAME', 'nbmf_key_in_ball' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE COST 1;
COMMENT ON FUNCTION nbmf_key_in_ball(nbmf_key, nbmf_ball) IS 'implementation of <@ operator';

CREATE FUNCTION nbmf_distance(nbmf, nbmf) RETURNS double precision
    AS 'MODULE_PATHNAME', 'nbmf_distance' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE COST 200;
COMMENT ON FUNCTION nbmf_distance(nbmf, nbmf) IS 'implementation of <~> operator';

CREATE FUNCTION nbmf_key_distance(nbmf_key, nbmf_key) RETURNS double precision
    AS 'MODULE_PATHNAME', 'nbmf_key_distance' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE COST 1;
COMMENT ON FUNCTION nbmf_key_distance(nbmf_key, nbmf_key) IS 'implementation of <~> operator';

CREATE FUNCTION nbmf_contained(nbmf, nbmf) RETURNS boolean
    AS 'MODULE_PATHNAME', 'nbmf_contained' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE COST 200;
COMMENT ON FUNCTION nbmf_contained(nbmf, nbmf) IS 'implementation of <@ operator, on JSON';

CREATE FUNCTION nbmf_near_selectivity(internal, oid, internal, integer) RETURNS double precision
    AS 'MODULE_PATHNAME' LANGUAGE C STABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION nbmf_near_selectivity(internal, oid, internal, integer) IS 'restriction selectivity of ~=';

CREATE FUNCTION nbmf_ball_selectivity(internal, oid, internal, integer) RETURNS double precision
    AS 'MODULE_PATHNAME' LANGUAGE C STABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION nbmf_ball_selectivity(internal, oid, internal, integer) IS 'restriction selectivity of <@';

CREATE FUNCTION nbmf_near_join_selectivity(internal, oid, internal, smallint, internal) RETURNS double precision
    AS 'MODULE_PATHNAME' LANGUAGE C STABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION nbmf_near_join_selectivity(internal, oid, internal, smallint, internal) IS 'join selectivity of ~= and <@';

CREATE OPERATOR = (
    LEFTARG = nbmf_key, RIGHTARG = nbmf_key, FUNCTION = nbmf_key_eq,
    COMMUTATOR = =, NEGATOR = <>, RESTRICT = eqsel, JOIN = eqjoinsel, HASHES
);
COMMENT ON OPERATOR = (nbmf_key, nbmf_key) IS 'same content';

CREATE OPERATOR <> (
    LEFTARG = nbmf_key, RIGHTARG = nbmf_key, FUNCTION = nbmf_key_ne,
    COMMUTATOR = <>, NEGATOR = =, RESTRICT = neqsel, JOIN = neqjoinsel
);
COMMENT ON OPERATOR <> (nbmf_key, nbmf_key) IS 'different content';

CREATE OPERATOR CLASS nbmf_key_hash_ops DEFAULT FOR TYPE nbmf_key USING hash AS
    OPERATOR 1 =,
    FUNCTION 1 nbmf_key_hash(nbmf_key),
    FUNCTION 2 nbmf_key_hash_extended(nbmf_key, bigint);
COMMENT ON OPERATOR CLASS nbmf_key_hash_ops USING hash IS 'hashing of nbmf_key by digest';

CREATE OPERATOR ~= (
    LEFTARG = nbmf, RIGHTARG = nbmf, FUNCTION = nbmf_near, COMMUTATOR = ~=,
    RESTRICT = nbmf_near_selectivity, JOIN = nbmf_near_join_selectivity
);
COMMENT ON OPERATOR ~= (nbmf, nbmf) IS 'near duplicates: fingerprints differ in at most 7 bits';

CREATE OPERATOR <@ (
    LEFTARG = nbmf, RIGHTARG = nbmf_ball, FUNCTION = nbmf_in_ball,
    RESTRICT = nbmf_ball_selectivity, JOIN = nbmf_near_join_selectivity
);
COMMENT ON OPERATOR <@ (nbmf, nbmf_ball) IS 'is within';

CREATE OPERATOR <~> (
    LEFTARG = nbmf, RIGHTARG = nbmf, FUNCTION = nbmf_distance, COMMUTATOR = <~>
);
COMMENT ON OPERATOR <~> (nbmf, nbmf) IS 'Hamming distance of the fingerprints, 0 to 64';

CREATE OPERATOR ~= (
    LEFTARG = nbmf_key, RIGHTARG = nbmf_key, FUNCTION = nbmf_key_near, COMMUTATOR = ~=,
    RESTRICT = nbmf_near_selectivity, JOIN = nbmf_near_join_selectivity
);
COMMENT ON OPERATOR ~= (nbmf_key, nbmf_key) IS 'near duplicates: fingerprints differ in at most 7 bits';

CREATE OPERATOR <@ (
    LEFTARG = nbmf_key, RIGHTARG = nbmf_ball, FUNCTION = nbmf_key_in_ball,
    RESTRICT = nbmf_ball_selectivity, JOIN = nbmf_near_join_selectivity
);
COMMENT ON OPERATOR <@ (nbmf_key, nbmf_ball) IS 'is within';

CREATE OPERATOR <~> (
    LEFTARG = nbmf_key, RIGHTARG = nbmf_key, FUNCTION = nbmf_key_distance, COMMUTATOR = <~>
);
COMMENT ON OPERATOR <~> (nbmf_key, nbmf_key) IS 'Hamming distance of the fingerprints, 0 to 64';

-- without this, a literal on the right side would be taken for a ball
CREATE OPERATOR <@ (
    LEFTARG = nbmf, RIGHTARG = nbmf, FUNCTION = nbmf_contained,
    RESTRICT = contsel, JOIN = contjoinsel
);
COMMENT ON OPERATOR <@ (nbmf, nbmf) IS 'is contained by, as for jsonb';

--
-- The index access method
--

CREATE FUNCTION nbmf_cas_handler(internal) RETURNS index_am_handler
    AS 'MODULE_PATHNAME' LANGUAGE C VOLATILE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION nbmf_cas_handler(internal) IS 'access method nbmf_cas';

CREATE ACCESS METHOD nbmf_cas TYPE INDEX HANDLER nbmf_cas_handler;
COMMENT ON ACCESS METHOD nbmf_cas IS 'exact and near duplicates by content';

CREATE OPERATOR CLASS nbmf_cas_ops DEFAULT FOR TYPE nbmf USING nbmf_cas AS
    OPERATOR 1 =,
    OPERATOR 2 ~=,
    OPERATOR 3 <@ (nbmf, nbmf_ball),
    OPERATOR 4 <~> FOR ORDER BY float_ops,
    FUNCTION 2 nbmf_key(nbmf);
COMMENT ON OPERATOR CLASS nbmf_cas_ops USING nbmf_cas IS 'content of nbmf';

CREATE OPERATOR CLASS nbmf_key_cas_ops DEFAULT FOR TYPE nbmf_key USING nbmf_cas AS
    OPERATOR 1 =,
    OPERATOR 2 ~=,
    OPERATOR 3 <@ (nbmf_key, nbmf_ball),
    OPERATOR 4 <~> FOR ORDER BY float_ops,
    FUNCTION 2 nbmf_key_self(nbmf_key);
COMMENT ON OPERATOR CLASS nbmf_key_cas_ops USING nbmf_cas IS 'content behind nbmf_key';

-- scalar columns beside the content: equality by the core hash functions

CREATE OPERATOR FAMILY integer_cas_ops USING nbmf_cas;
CREATE OPERATOR CLASS int2_cas_ops DEFAULT FOR TYPE int2 USING nbmf_cas FAMILY integer_cas_ops AS
    OPERATOR 1 =, FUNCTION 1 (int2, int2) hashint2extended(int2, int8);
COMMENT ON OPERATOR CLASS int2_cas_ops USING nbmf_cas IS 'equality of int2 beside a content';

CREATE OPERATOR CLASS int4_cas_ops DEFAULT FOR TYPE int4 USING nbmf_cas FAMILY integer_cas_ops AS
    OPERATOR 1 =, FUNCTION 1 (int4, int4) hashint4extended(int4, int8);
COMMENT ON OPERATOR CLASS int4_cas_ops USING nbmf_cas IS 'equality of int4 beside a content';

CREATE OPERATOR CLASS int8_cas_ops DEFAULT FOR TYPE int8 USING nbmf_cas FAMILY integer_cas_ops AS
    OPERATOR 1 =, FUNCTION 1 (int8, int8) hashint8extended(int8, int8);
COMMENT ON OPERATOR CLASS int8_cas_ops USING nbmf_cas IS 'equality of int8 beside a content';

ALTER OPERATOR FAMILY integer_cas_ops USING nbmf_cas ADD
    OPERATOR 1 = (int2, int4),
    OPERATOR 1 = (int2, int8),
    OPERATOR 1 = (int4, int2),
    OPERATOR 1 = (int4, int8),
    OPERATOR 1 = (int8, int2),
    OPERATOR 1 = (int8, int4);

CREATE OPERATOR FAMILY text_cas_ops USING nbmf_cas;
CREATE OPERATOR CLASS text_cas_ops DEFAULT FOR TYPE text USING nbmf_cas FAMILY text_cas_ops AS
    OPERATOR 1 =, FUNCTION 1 (text, text) hashtextextended(text, int8);
COMMENT ON OPERATOR CLASS text_cas_ops USING nbmf_cas IS 'equality of text beside a content';

CREATE OPERATOR CLASS varchar_cas_ops DEFAULT FOR TYPE varchar USING nbmf_cas FAMILY text_cas_ops AS
    FUNCTION 1 (varchar, varchar) hashtextextended(text, int8);
COMMENT ON OPERATOR CLASS varchar_cas_ops USING nbmf_cas IS 'equality of varchar beside a content';

CREATE OPERATOR CLASS name_cas_ops DEFAULT FOR TYPE name USING nbmf_cas AS
    OPERATOR 1 =, FUNCTION 1 (name, name) hashnameextended(name, int8);
COMMENT ON OPERATOR CLASS name_cas_ops USING nbmf_cas IS 'equality of name beside a content';

CREATE OPERATOR CLASS bpchar_cas_ops DEFAULT FOR TYPE bpchar USING nbmf_cas AS
    OPERATOR 1 =, FUNCTION 1 (bpchar, bpchar) hashbpcharextended(bpchar, int8);
COMMENT ON OPERATOR CLASS bpchar_cas_ops USING nbmf_cas IS 'equality of bpchar beside a content';

CREATE OPERATOR CLASS bytea_cas_ops DEFAULT FOR TYPE bytea USING nbmf_cas AS
    OPERATOR 1 =, FUNCTION 1 (bytea, bytea) hashvarlenaextended(internal, int8);
COMMENT ON OPERATOR CLASS bytea_cas_ops USING nbmf_cas IS 'equality of bytea beside a content';

CREATE OPERATOR CLASS uuid_cas_ops DEFAULT FOR TYPE uuid USING nbmf_cas AS
    OPERATOR 1 =, FUNCTION 1 (uuid, uuid) uuid_hash_extended(uuid, int8);
COMMENT ON OPERATOR CLASS uuid_cas_ops USING nbmf_cas IS 'equality of uuid beside a content';

CREATE OPERATOR CLASS bool_cas_ops DEFAULT FOR TYPE bool USING nbmf_cas AS
    OPERATOR 1 =, FUNCTION 1 (bool, bool) hashcharextended("char", int8);
COMMENT ON OPERATOR CLASS bool_cas_ops USING nbmf_cas IS 'equality of bool beside a content';

CREATE OPERATOR CLASS oid_cas_ops DEFAULT FOR TYPE oid USING nbmf_cas AS
    OPERATOR 1 =, FUNCTION 1 (oid, oid) hashoidextended(oid, int8);
COMMENT ON OPERATOR CLASS oid_cas_ops USING nbmf_cas IS 'equality of oid beside a content';

CREATE OPERATOR CLASS date_cas_ops DEFAULT FOR TYPE date USING nbmf_cas AS
    OPERATOR 1 =, FUNCTION 1 (date, date) hashint4extended(int4, int8);
COMMENT ON OPERATOR CLASS date_cas_ops USING nbmf_cas IS 'equality of date beside a content';

CREATE OPERATOR CLASS timestamp_cas_ops DEFAULT FOR TYPE timestamp USING nbmf_cas AS
    OPERATOR 1 =, FUNCTION 1 (timestamp, timestamp) timestamp_hash_extended(timestamp, int8);
COMMENT ON OPERATOR CLASS timestamp_cas_ops USING nbmf_cas IS 'equality of timestamp beside a content';

CREATE OPERATOR CLASS timestamptz_cas_ops DEFAULT FOR TYPE timestamptz USING nbmf_cas AS
    OPERATOR 1 =, FUNCTION 1 (timestamptz, timestamptz) timestamp_hash_extended(timestamp, int8);
COMMENT ON OPERATOR CLASS timestamptz_cas_ops USING nbmf_cas IS 'equality of timestamptz beside a content';

CREATE OPERATOR CLASS numeric_cas_ops DEFAULT FOR TYPE numeric USING nbmf_cas AS
    OPERATOR 1 =, FUNCTION 1 (numeric, numeric) hash_numeric_extended(numeric, int8);
COMMENT ON OPERATOR CLASS numeric_cas_ops USING nbmf_cas IS 'equality of numeric beside a content';

CREATE OPERATOR CLASS enum_cas_ops DEFAULT FOR TYPE anyenum USING nbmf_cas AS
    OPERATOR 1 =, FUNCTION 1 (anyenum, anyenum) hashenumextended(anyenum, int8);
COMMENT ON OPERATOR CLASS enum_cas_ops USING nbmf_cas IS 'equality of anyenum beside a content';

CREATE FUNCTION nbmf_index_check(index regclass, heapallindexed boolean DEFAULT false) RETURNS bigint
    AS 'MODULE_PATHNAME' LANGUAGE C VOLATILE STRICT PARALLEL RESTRICTED COST 1000000;
COMMENT ON FUNCTION nbmf_index_check(regclass, boolean) IS
    'raise an error if an nbmf_cas index is damaged, or lacks a row of its table; returns the number of its rows';

CREATE FUNCTION nbmf_index_page(index regclass, block bigint,
    OUT type text, OUT "table" integer, OUT first_value integer, OUT last_value integer,
    OUT right_block bigint, OUT entries integer, OUT free_bytes integer, OUT next_block bigint)
    AS 'MODULE_PATHNAME' LANGUAGE C VOLATILE STRICT PARALLEL RESTRICTED;
COMMENT ON FUNCTION nbmf_index_page(regclass, bigint) IS 'what is on a page of an nbmf_cas index';

CREATE FUNCTION nbmf_cas_lookup(index regclass, value nbmf, threshold double precision DEFAULT NULL,
    OUT ctid tid, OUT distance integer, OUT similarity double precision, OUT exact boolean)
    RETURNS SETOF record
    AS 'MODULE_PATHNAME' LANGUAGE C VOLATILE PARALLEL RESTRICTED COST 1000 ROWS 10;
COMMENT ON FUNCTION nbmf_cas_lookup(regclass, nbmf, double precision) IS
    'rows near a value, nearest first, with their contents compared (threshold null: that of the index)';

CREATE FUNCTION nbmf_put(relation regclass, "column" name, value nbmf, others jsonb DEFAULT NULL,
    threshold double precision DEFAULT NULL,
    OUT key jsonb, OUT inserted boolean, OUT exact boolean, OUT distance integer, OUT similarity double precision)
    AS 'MODULE_PATHNAME' LANGUAGE C VOLATILE PARALLEL UNSAFE COST 10000;
COMMENT ON FUNCTION nbmf_put(regclass, name, nbmf, jsonb, double precision) IS
    'insert a value, or return the key of the row that has it or one as similar as the threshold (null: that of the index)';

--
-- Statistics
--

CREATE FUNCTION nbmf_stat(
    OUT values_encoded bigint, OUT values_decoded bigint,
    OUT raw_bytes bigint, OUT stored_bytes bigint, OUT compression_ratio double precision,
    OUT decoded_bytes bigint, OUT avg_latency_ms double precision,
    OUT encode_p50_ms double precision, OUT encode_p95_ms double precision,
    OUT decode_p50_ms double precision, OUT decode_p95_ms double precision,
    OUT encode_errors bigint, OUT decode_errors bigint, OUT error_rate double precision,
    OUT stats_reset timestamptz, OUT preloaded boolean)
    AS 'MODULE_PATHNAME' LANGUAGE C VOLATILE STRICT PARALLEL RESTRICTED;
COMMENT ON FUNCTION nbmf_stat() IS 'counters of this database, behind pg_stat_nbmf';

CREATE VIEW pg_stat_nbmf AS SELECT * FROM nbmf_stat();
COMMENT ON VIEW pg_stat_nbmf IS 'what nbmf has encoded and decoded in this database, and how fast';

CREATE FUNCTION nbmf_stat_codec(
    OUT codec text, OUT values_encoded bigint, OUT values_decoded bigint,
    OUT raw_bytes bigint, OUT stored_bytes bigint, OUT compression_ratio double precision,
    OUT decoded_bytes bigint, OUT avg_latency_ms double precision,
    OUT encode_p50_ms double precision, OUT encode_p95_ms double precision,
    OUT decode_p50_ms double precision, OUT decode_p95_ms double precision,
    OUT encode_errors bigint, OUT decode_errors bigint, OUT error_rate double precision)
    RETURNS SETOF record
    AS 'MODULE_PATHNAME' LANGUAGE C VOLATILE STRICT PARALLEL RESTRICTED ROWS 3;
COMMENT ON FUNCTION nbmf_stat_codec() IS 'counters of this database by codec, behind pg_stat_nbmf_codec';

CREATE VIEW pg_stat_nbmf_codec AS SELECT * FROM nbmf_stat_codec();
COMMENT ON VIEW pg_stat_nbmf_codec IS
    'what nbmf has encoded and decoded in this database with zstd alone, with dictionaries, with learned models';

CREATE FUNCTION pg_stat_nbmf_reset() RETURNS void
    AS 'MODULE_PATHNAME', 'nbmf_stat_reset' LANGUAGE C VOLATILE STRICT PARALLEL RESTRICTED;
COMMENT ON FUNCTION pg_stat_nbmf_reset() IS 'set the counters of this database to zero';

CREATE FUNCTION nbmf_stat_cache(
    OUT shared boolean, OUT size_bytes bigint, OUT used_bytes bigint, OUT entries bigint,
    OUT hits bigint, OUT misses bigint, OUT evictions bigint)
    AS 'MODULE_PATHNAME' LANGUAGE C VOLATILE STRICT PARALLEL RESTRICTED;
COMMENT ON FUNCTION nbmf_stat_cache() IS 'state of the cache of shared objects, behind pg_stat_nbmf_cache';

CREATE VIEW pg_stat_nbmf_cache AS SELECT * FROM nbmf_stat_cache();
COMMENT ON VIEW pg_stat_nbmf_cache IS 'memory that holds digested dictionaries: of the server, or of this session';

REVOKE ALL ON FUNCTION nbmf_stat(), nbmf_stat_codec(), pg_stat_nbmf_reset(), nbmf_stat_cache() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION nbmf_stat(), nbmf_stat_codec(), nbmf_stat_cache() TO pg_read_all_stats;
GRANT SELECT ON pg_stat_nbmf, pg_stat_nbmf_codec, pg_stat_nbmf_cache TO pg_read_all_stats;

CREATE FUNCTION nbmf_cas_stat(
    OUT indexrelid oid, OUT exact_hits bigint, OUT near_hits bigint, OUT unverified_hits bigint, OUT misses bigint,
    OUT divergence bigint,
    OUT avg_lookup_ms double precision, OUT p95_lookup_ms double precision,
    OUT stats_reset timestamptz, OUT preloaded boolean) RETURNS SETOF record
    AS 'MODULE_PATHNAME' LANGUAGE C VOLATILE STRICT PARALLEL RESTRICTED ROWS 100;
COMMENT ON FUNCTION nbmf_cas_stat() IS 'counters of the nbmf_cas indexes of this database, behind pg_stat_nbmf_cas';

CREATE VIEW pg_stat_nbmf_cas AS
SELECT i.indrelid AS relid, i.indexrelid, n.nspname AS schemaname, t.relname, c.relname AS indexrelname,
       coalesce(l.lookups, 0) AS lookups,
       coalesce(s.exact_hits, 0) AS exact_hits, coalesce(s.near_hits, 0) AS near_hits,
       coalesce(s.unverified_hits, 0) AS unverified_hits, coalesce(s.misses, 0) AS misses,
       (s.exact_hits + s.near_hits)::double precision / nullif(l.lookups, 0) AS hit_rate,
       s.exact_hits::double precision / nullif(l.lookups, 0) AS exact_rate,
       s.near_hits::double precision / nullif(l.lookups, 0) AS near_rate,
       s.unverified_hits::double precision / nullif(l.lookups, 0) AS unverified_rate,
       coalesce(s.divergence, 0) AS divergence,
       CASE c.relkind WHEN 'i' THEN c.reltuples::bigint END AS entries,
       CASE c.relkind WHEN 'i' THEN pg_catalog.pg_relation_size(c.oid) END AS bytes, s.avg_lookup_ms, s.p95_lookup_ms, s.stats_reset, s.preloaded
FROM pg_catalog.pg_index i
    JOIN pg_catalog.pg_class c ON c.oid = i.indexrelid
    JOIN pg_catalog.pg_class t ON t.oid = i.indrelid
    JOIN pg_catalog.pg_namespace n ON n.oid = t.relnamespace
    JOIN pg_catalog.pg_am a ON a.oid = c.relam
    LEFT JOIN nbmf_cas_stat() s ON s.indexrelid = c.oid
    LEFT JOIN LATERAL (SELECT s.exact_hits + s.near_hits + s.unverified_hits + s.misses AS lookups) l ON true
WHERE a.amname = 'nbmf_cas' AND c.relkind IN ('i', 'I');
COMMENT ON VIEW pg_stat_nbmf_cas IS 'lookups in nbmf_cas indexes: what was there already, by content, and what seemed to be, by fingerprint';

CREATE FUNCTION pg_stat_nbmf_cas_reset(index regclass DEFAULT NULL) RETURNS void
    AS 'MODULE_PATHNAME', 'nbmf_cas_stat_reset' LANGUAGE C VOLATILE PARALLEL RESTRICTED;
COMMENT ON FUNCTION pg_stat_nbmf_cas_reset(regclass) IS 'set the counters of an nbmf_cas index (null: of all in this database) to zero';

REVOKE ALL ON FUNCTION nbmf_cas_stat(), pg_stat_nbmf_cas_reset(regclass) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION nbmf_cas_stat() TO pg_read_all_stats;
GRANT SELECT ON pg_stat_nbmf_cas TO pg_read_all_stats;

--
-- Administration: classes, attached columns, shared objects
--

CREATE SCHEMA nbmf;
COMMENT ON SCHEMA nbmf IS 'administration of nbmf columns';
GRANT USAGE ON SCHEMA nbmf TO PUBLIC;

CREATE TABLE nbmf.class (
    name       name PRIMARY KEY,
    mode       text NOT NULL DEFAULT 'lossless' CHECK (mode IN ('lossless', 'semantic')),
    share      text NOT NULL DEFAULT 'column' CHECK (share IN ('column', 'tenant', 'none')),
    l1_level   integer NOT NULL DEFAULT 3 CHECK (l1_level BETWEEN 1 AND 22),
    l2_level   integer NOT NULL DEFAULT 15 CHECK (l2_level BETWEEN 1 AND 22),
    edge_only  boolean NOT NULL DEFAULT false,
    preset     boolean NOT NULL DEFAULT false,
    codec      text NOT NULL DEFAULT 'zstd' CHECK (codec IN ('zstd', 'neural')),
    l3_after   interval CHECK (l3_after >= interval '0')
);
COMMENT ON TABLE nbmf.class IS 'what is asked for values of a class; changes affect new values only';
COMMENT ON COLUMN nbmf.class.mode IS 'lossless, or semantic: later versions may then lose within a bound';
COMMENT ON COLUMN nbmf.class.share IS 'who trains with whom: column (all tenants), tenant (each alone), none';
COMMENT ON COLUMN nbmf.class.l1_level IS 'zstd level for new values';
COMMENT ON COLUMN nbmf.class.l2_level IS 'zstd level for values that have aged';
COMMENT ON COLUMN nbmf.class.codec IS 'of values that have been maintained: zstd, or neural: with a learned model';
COMMENT ON COLUMN nbmf.class.l3_after IS 'age (by the column age_by) from which values are encoded with a learned model; null: never';
COMMENT ON COLUMN nbmf.class.edge_only IS 'shared objects are not dumped and never leave the server process';
COMMENT ON COLUMN nbmf.class.preset IS 'as the extension made it';

INSERT INTO nbmf.class (name, mode, share, edge_only, preset) VALUES
    ('general',       'lossless', 'column', false, true),
    ('legal',         'lossless', 'tenant', true,  true),
    ('finance',       'lossless', 'tenant', true,  true),
    ('pii',           'lossless', 'tenant', true,  true),
    ('chat',          'semantic', 'column', false, true),
    ('ops_log',       'semantic', 'column', false, true),
    ('research_note', 'semantic', 'column', false, true);

CREATE SEQUENCE nbmf.attachment_id AS integer;
COMMENT ON SEQUENCE nbmf.attachment_id IS 'ids of attached columns';
CREATE TABLE nbmf.attachment (
    id     integer PRIMARY KEY DEFAULT nextval('nbmf.attachment_id'),
    class  name NOT NULL,
    key    text NOT NULL
);
COMMENT ON TABLE nbmf.attachment IS 'attached columns; which they are, their triggers say: see nbmf.attached';

CREATE SEQUENCE nbmf.object_id AS integer;
COMMENT ON SEQUENCE nbmf.object_id IS 'ids of shared objects, never used twice';
CREATE TABLE nbmf.object (
    id          integer PRIMARY KEY DEFAULT nextval('nbmf.object_id'),
    attachment  integer NOT NULL,
    class       name NOT NULL,
    tenant      text,
    edge_only   boolean NOT NULL,
    payload     bytea NOT NULL,
    checksum    bigint NOT NULL,
    ratio       double precision NOT NULL,
    created_at  timestamptz NOT NULL DEFAULT now(),
    kind        text NOT NULL DEFAULT 'dictionary' CHECK (kind IN ('dictionary', 'model'))
) WITH (user_catalog_table = true);
ALTER TABLE nbmf.object ALTER payload SET STORAGE EXTERNAL;
CREATE INDEX object_attachment ON nbmf.object (attachment, class, tenant, id);


CREATE TABLE nbmf.pass (
    relation          oid NOT NULL,
    attnum            smallint NOT NULL,
    attachment        integer NOT NULL,
    filenode          oid NOT NULL,
    settings          bigint NOT NULL,
    tried_before      bigint NOT NULL,
    pass_before       bigint NOT NULL,
    tried_at          timestamptz NOT NULL,
    next_block        bigint NOT NULL,
    blocks            bigint NOT NULL,
    phase             text NOT NULL,
    pid               integer NOT NULL,
    started_at        timestamptz NOT NULL,
    values_seen       bigint NOT NULL,
    values_reencoded  bigint NOT NULL,
    values_skipped    bigint NOT NULL,
    values_damaged    bigint NOT NULL,
    bytes_before      bigint NOT NULL,
    bytes_after       bigint NOT NULL,
    PRIMARY KEY (relation, attnum)
);
COMMENT ON TABLE nbmf.pass IS 'how far nbmf.maintain() has come with a relation''s column; not dumped';
COMMENT ON COLUMN nbmf.pass.tried_before IS 'transactions before this one left nothing that would still get smaller';
COMMENT ON COLUMN nbmf.pass.tried_at IS 'when the pass began that left tried_before: values that have come of age since are due';
COMMENT ON COLUMN nbmf.pass.pass_before IS 'the same for the pass that runs or was stopped; 0: there is none';

CREATE TABLE nbmf.dictionary_use (
    attachment      integer NOT NULL,
    object          integer NOT NULL,
    values          bigint NOT NULL,
    raw_bytes       bigint NOT NULL,
    stored_bytes    bigint NOT NULL,
    kept_ratio      double precision NOT NULL,
    trained_before  bigint NOT NULL,
    measured_at     timestamptz NOT NULL,
    PRIMARY KEY (attachment, object)
);
COMMENT ON TABLE nbmf.dictionary_use IS 'what dictionaries do for new values, counted by nbmf.maintain(); not dumped';
COMMENT ON COLUMN nbmf.dictionary_use.object IS 'the dictionary; 0: values that there is none for';
COMMENT ON COLUMN nbmf.dictionary_use.trained_before IS 'of object 0: training has seen what transactions before this one wrote';
COMMENT ON COLUMN nbmf.dictionary_use.kept_ratio IS 'its ratio when training last kept it; 0: since it was trained, never';

CREATE VIEW pg_stat_progress_nbmf AS
SELECT p.pid, d.oid AS datid, d.datname, p.relation AS relid,
       p.relation::pg_catalog.regclass AS relation, a.attname AS "column", p.phase,
       r.blocks AS blocks_total, r.next_block AS blocks_done,
       r.values_seen, r.values_reencoded, r.values_skipped, r.values_damaged,
       r.bytes_before, r.bytes_after, p.started_at
FROM nbmf.pass p
    LEFT JOIN nbmf.pass r ON r.relation = p.relation AND r.attnum = p.attnum AND r.phase = 're-encoding'
    JOIN pg_catalog.pg_locks l ON l.locktype = 'object' AND l.pid = p.pid AND l.granted
        AND l.classid = 'pg_catalog.pg_class'::pg_catalog.regclass AND l.objid = p.relation
        AND l.objsubid = p.attnum
    JOIN pg_catalog.pg_database d ON d.oid = l.database AND d.datname = pg_catalog.current_database()
    JOIN pg_catalog.pg_class c ON c.oid = p.relation
    LEFT JOIN pg_catalog.pg_attribute a ON a.attrelid = p.relation AND a.attnum = p.attnum
WHERE p.phase <> 'idle'
    AND (pg_catalog.pg_has_role(c.relowner, 'USAGE') OR pg_catalog.pg_has_role('pg_read_all_stats', 'USAGE'));
COMMENT ON VIEW pg_stat_progress_nbmf IS
    'what nbmf.maintain() is doing in this database: columns of your own tables, of all with pg_read_all_stats';

CREATE FUNCTION nbmf.notify_settings() RETURNS trigger
    AS 'MODULE_PATHNAME', 'nbmf_notify_settings' LANGUAGE C;
COMMENT ON FUNCTION nbmf.notify_settings() IS 'trigger: makes sessions read the settings again';
CREATE TRIGGER notify_settings AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON nbmf.class
    EXECUTE FUNCTION nbmf.notify_settings();
CREATE TRIGGER notify_settings AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON nbmf.attachment
    EXECUTE FUNCTION nbmf.notify_settings();
CREATE TRIGGER notify_settings AFTER INSERT ON nbmf.object
    EXECUTE FUNCTION nbmf.notify_settings();

CREATE FUNCTION nbmf.encode() RETURNS trigger
    AS 'MODULE_PATHNAME', 'nbmf_encode_row' LANGUAGE C;
COMMENT ON FUNCTION nbmf.encode() IS 'row trigger of attached columns; made by nbmf.attach()';

CREATE FUNCTION nbmf.attach(relation regclass, "column" name, class name DEFAULT NULL,
    class_by name DEFAULT NULL, age_by name DEFAULT NULL, tenant_by name DEFAULT NULL,
    group_by name DEFAULT NULL) RETURNS void
    AS 'MODULE_PATHNAME', 'nbmf_attach' LANGUAGE C;
COMMENT ON FUNCTION nbmf.attach(regclass, name, name, name, name, name, name) IS
    'put a column under care: new values use its dictionary and the settings of their class';

CREATE FUNCTION nbmf.detach(relation regclass, "column" name) RETURNS void
    AS 'MODULE_PATHNAME', 'nbmf_detach' LANGUAGE C STRICT;
COMMENT ON FUNCTION nbmf.detach(regclass, name) IS 'undo nbmf.attach(); values stay as they are';

CREATE PROCEDURE nbmf.train(relation regclass, "column" name)
    AS 'MODULE_PATHNAME', 'nbmf_train' LANGUAGE C;
COMMENT ON PROCEDURE nbmf.train(regclass, name) IS 'learn dictionaries from a sample of an attached column';

CREATE FUNCTION nbmf.same_frame(nbmf, nbmf) RETURNS boolean
    AS 'MODULE_PATHNAME', 'nbmf_same_frame' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION nbmf.same_frame(nbmf, nbmf) IS 'whether two values are stored alike, byte for byte';

CREATE PROCEDURE nbmf.maintain(relation regclass DEFAULT NULL, max_runtime interval DEFAULT NULL)
    AS 'MODULE_PATHNAME', 'nbmf_maintain' LANGUAGE C;
COMMENT ON PROCEDURE nbmf.maintain(regclass, interval) IS
    'train what has no dictionary yet, and re-encode values that get smaller by it';

CREATE FUNCTION nbmf_estimate(relation regclass, "column" name, sample integer DEFAULT 5000,
    OUT rung text, OUT "rows" bigint, OUT raw_bytes bigint, OUT bytes bigint,
    OUT bytes_low bigint, OUT bytes_high bigint, OUT ratio double precision,
    OUT seconds double precision, OUT command text) RETURNS SETOF record
    AS 'MODULE_PATHNAME' LANGUAGE C VOLATILE STRICT PARALLEL UNSAFE COST 1000000 ROWS 5;
COMMENT ON FUNCTION nbmf_estimate(regclass, name, integer) IS
    'what a column would take as nbmf, rung by rung, from a sample of rows; writes nothing';

CREATE FUNCTION nbmf.keep_class() RETURNS trigger
    AS 'MODULE_PATHNAME', 'nbmf_keep_class' LANGUAGE C;
COMMENT ON FUNCTION nbmf.keep_class() IS 'trigger: tells classes of users from those of the extension';
CREATE TRIGGER keep_class BEFORE INSERT OR UPDATE ON nbmf.class
    FOR EACH ROW EXECUTE FUNCTION nbmf.keep_class();

CREATE FUNCTION nbmf.guard_object() RETURNS trigger
    AS 'MODULE_PATHNAME', 'nbmf_guard_object' LANGUAGE C;
COMMENT ON FUNCTION nbmf.guard_object() IS 'trigger: shared objects are never changed or deleted';
CREATE TRIGGER guard_object BEFORE UPDATE OR DELETE OR TRUNCATE ON nbmf.object
    EXECUTE FUNCTION nbmf.guard_object();
ALTER TABLE nbmf.object ENABLE ALWAYS TRIGGER guard_object;

COMMENT ON TABLE nbmf.object IS 'dictionaries and models that values refer to by id; rows are only ever added';
COMMENT ON COLUMN nbmf.object.attachment IS 'attached column that it belongs to';
COMMENT ON COLUMN nbmf.object.class IS 'class of the values that it was learned from, and is for';
COMMENT ON COLUMN nbmf.object.tenant IS 'tenant of those values; null: all tenants';
COMMENT ON COLUMN nbmf.object.edge_only IS 'never dumped';
COMMENT ON COLUMN nbmf.object.kind IS 'dictionary: of zstd; model: of the neural codec';
COMMENT ON COLUMN nbmf.object.payload IS 'the dictionary or model: see docs/format.md';
COMMENT ON COLUMN nbmf.object.checksum IS 'XXH64 of payload, low 32 bits';
COMMENT ON COLUMN nbmf.object.ratio IS 'content by stored size of documents that it was not learned from';

CREATE FUNCTION nbmf.apply_preset(preset text) RETURNS bigint
    AS 'MODULE_PATHNAME', 'nbmf_apply_preset' LANGUAGE C VOLATILE STRICT;
COMMENT ON FUNCTION nbmf.apply_preset(text) IS
    'set the levels of all classes: development, production, high_performance, maximum_compression';

CREATE FUNCTION nbmf.training_due(attachment integer, relation regclass) RETURNS boolean
    AS 'MODULE_PATHNAME', 'nbmf_training_due' LANGUAGE C STABLE STRICT;
COMMENT ON FUNCTION nbmf.training_due(integer, regclass) IS
    'whether nbmf.maintain() would train: much that no dictionary is for, or one that has lost its worth';

CREATE VIEW nbmf.attached AS
SELECT t.tgrelid::pg_catalog.regclass AS relation, col.attname AS "column", a.id AS attachment, a.class,
       class_by.attname AS class_by, age_by.attname AS age_by,
       tenant_by.attname AS tenant_by, group_by.attname AS group_by,
       o.dictionaries, o.dictionary_bytes, o.ratio AS ratio_at_training, o.trained_at,
       o.models, o.model_bytes, o.model_ratio,
       u.ratio AS ratio_now, u.measured_at, nbmf.training_due(a.id, t.tgrelid) AS training_due
FROM pg_catalog.pg_trigger t
    CROSS JOIN LATERAL (SELECT pg_catalog.split_part(pg_catalog.encode(t.tgargs, 'escape'), '\000', 1) AS id,
                               pg_catalog.split_part(pg_catalog.encode(t.tgargs, 'escape'), '\000', 2) AS roles,
                               pg_catalog.split_part(pg_catalog.encode(t.tgargs, 'escape'), '\000', 3) AS key) arg
    JOIN nbmf.attachment a ON a.id::pg_catalog.text = arg.id AND a.key = arg.key
    JOIN pg_catalog.pg_attribute col ON col.attrelid = t.tgrelid AND col.attnum = t.tgattr[0]
    LEFT JOIN pg_catalog.pg_attribute class_by ON class_by.attrelid = t.tgrelid
        AND class_by.attnum = t.tgattr[nullif(pg_catalog.strpos(arg.roles, 'c'), 0)]
    LEFT JOIN pg_catalog.pg_attribute age_by ON age_by.attrelid = t.tgrelid
        AND age_by.attnum = t.tgattr[nullif(pg_catalog.strpos(arg.roles, 'a'), 0)]
    LEFT JOIN pg_catalog.pg_attribute tenant_by ON tenant_by.attrelid = t.tgrelid
        AND tenant_by.attnum = t.tgattr[nullif(pg_catalog.strpos(arg.roles, 't'), 0)]
    LEFT JOIN pg_catalog.pg_attribute group_by ON group_by.attrelid = t.tgrelid
        AND group_by.attnum = t.tgattr[nullif(pg_catalog.strpos(arg.roles, 'g'), 0)]
    LEFT JOIN LATERAL (SELECT count(*) FILTER (WHERE kind = 'dictionary') AS dictionaries,
                              sum(pg_catalog.octet_length(payload)) FILTER (WHERE kind = 'dictionary') AS dictionary_bytes,
                              (pg_catalog.array_agg(obj.ratio ORDER BY obj.id DESC) FILTER (WHERE kind = 'dictionary'))[1] AS ratio,
                              max(obj.created_at) AS trained_at,
                              count(*) FILTER (WHERE kind = 'model') AS models,
                              sum(pg_catalog.octet_length(payload)) FILTER (WHERE kind = 'model') AS model_bytes,
                              (pg_catalog.array_agg(obj.ratio ORDER BY obj.id DESC) FILTER (WHERE kind = 'model'))[1] AS model_ratio
                       FROM nbmf.object obj WHERE obj.attachment = a.id) o ON true
    LEFT JOIN LATERAL (SELECT (sum(du.raw_bytes) / nullif(sum(du.stored_bytes), 0))::pg_catalog.float8 AS ratio,
                              max(du.measured_at) FILTER (WHERE du.values > 0) AS measured_at
                       FROM nbmf.dictionary_use du WHERE du.attachment = a.id AND du.object > 0) u ON true
WHERE t.tgfoid = 'nbmf.encode()'::pg_catalog.regprocedure AND t.tgparentid = 0;
COMMENT ON VIEW nbmf.attached IS 'attached columns and their dictionaries';

COMMENT ON COLUMN nbmf.attachment.key IS 'stands in the trigger too, which makes sure that it means this row';

GRANT SELECT ON nbmf.class, nbmf.attachment, nbmf.attached, pg_stat_progress_nbmf TO PUBLIC;
REVOKE ALL ON nbmf.object, nbmf.pass, nbmf.dictionary_use FROM PUBLIC;

SELECT pg_catalog.pg_extension_config_dump('nbmf.class', 'WHERE NOT preset');
SELECT pg_catalog.pg_extension_config_dump('nbmf.attachment', '');
SELECT pg_catalog.pg_extension_config_dump('nbmf.attachment_id', '');
SELECT pg_catalog.pg_extension_config_dump('nbmf.object', 'WHERE NOT edge_only');
SELECT pg_catalog.pg_extension_config_dump('nbmf.object_id', '');


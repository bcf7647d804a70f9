#!/bin/bash
# cas_peers.sh: the index nbmf_cas on real documents, among many clients, and
# beside the indexes of other extensions.  Prints Markdown.
#
#   test/bench/cas_peers.sh [hits|soak|real|text|smlar|vector|bktree ...]
#
#   hits    documents put one after the other by nbmf_put: which share was there
#           already, exactly or nearly, at five thresholds
#   soak    8 clients insert, delete, update and roll back under EXCLUDE; then a
#           join looks for duplicates, and nbmf_index_check for missing rows
#   real    lookups among fingerprints of real documents
#   text    near documents by nbmf_cas_lookup and by pg_trgm's GIN index
#   smlar   the same documents by nbmf_cas_lookup and by indexes of smlar
#   vector  near fingerprints by nbmf_cas and by pgvector's HNSW index
#   bktree  near fingerprints by nbmf_cas and by a BK-tree in SP-GiST
#
# Documents are the corpora in ../shared/corpora or in the folder NBMF_CORPORA;
# without them only soak and the uniform parts of vector and bktree run.  Settings:
#
#   NBMF_ROWS          rows of all but hits and soak (100000)
#   NBMF_DOCUMENTS     documents of each corpus that hits puts, the first (3000)
#   NBMF_SOAK_SECONDS  how long soak's clients work (600)
#   NBMF_CAS_SECONDS   how long each query runs (4)
#   NBMF_WORKERS       parallel workers of each build (0); HNSW's graph is built in
#                      memory, 8 GB of it at most where there are workers
#   NBMF_PGVECTOR      a source tree of pgvector 0.7 or later, for vector; it is
#                      copied and built in the scratch directory.  Without it the
#                      installed pgvector is taken, if there is one.
#   NBMF_SMLAR         likewise a source tree of smlar, for smlar
#   NBMF_BKTREE        likewise one of pg-spgist_hamming's bktree, for bktree

set -euo pipefail
export LC_ALL=C.UTF-8 PGCLIENTENCODING=UTF8
top=$(cd "$(dirname "$0")/../.." && pwd)
. "$top/test/tools/setup.sh"
. "$top/test/bench/documents.sh"
. "$top/test/bench/cas_measure.sh"

rows=${NBMF_ROWS:-100000}

# have_corpora: false, and says so, if there are no documents to measure with
have_corpora()
{
	folder=$(documents_corpora "$top") && return
	printf 'Skipped: no corpora.\n\n'
	return 1
}

# peer_create EXTENSION SOURCE: the extension, built from its source into the stage if
# that is given; false if there is none
peer_create()
{
	if [ -n "$2" ] && [ ! -d "$NBMF_SCRATCH/$1" ]; then
		cp -r "$2" "$NBMF_SCRATCH/$1"
		[ "$(id -u)" -ne 0 ] || chown -R postgres "$NBMF_SCRATCH/$1"
		nbmf_user make -s -C "$NBMF_SCRATCH/$1" PG_CONFIG="$NBMF_PG_CONFIG" USE_PGXS=1 with_llvm=no >&2
		nbmf_user make -s -C "$NBMF_SCRATCH/$1" PG_CONFIG="$NBMF_PG_CONFIG" USE_PGXS=1 with_llvm=no \
			DESTDIR="$NBMF_SCRATCH/stage" install >&2
	fi
	sql -c 'SET client_min_messages = error' -c "CREATE EXTENSION IF NOT EXISTS $1" 2>/dev/null
}

# extension_version EXTENSION
extension_version()
{
	sql -c "SELECT extversion FROM pg_extension WHERE extname = '$1'"
}

# build TABLE NAME INDEX: a row of a table, of CREATE INDEX NAME ON TABLE INDEX
build()
{
	report "$3" "$(timed "CREATE INDEX $2 ON $1 $3") | $(
		sql -c "SELECT round(pg_relation_size('$2') / $rows.0, 1)")"
}

# load_corpora: documents of all corpora, of vectors none
load_corpora()
{
	local file

	documents_create
	for file in "$folder"/*.zst; do
		[[ ${file##*/} == emb.* ]] || documents_corpus "$file" >/dev/null
	done
	sql -c 'ALTER TABLE documents ADD PRIMARY KEY (id)' -c 'VACUUM ANALYZE documents'
}

#
# hits
#

# put_all SOURCE THRESHOLD: what became of its documents, as a cell of the table
put_all()
{
	sql <<-SQL
		SET client_min_messages = error;
		DROP TABLE IF EXISTS store;
		CREATE TABLE store (id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY, body nbmf NOT NULL);
		CREATE INDEX store_body ON store USING nbmf_cas (body) WITH (simhash_threshold = $2);
		SELECT put_documents('$1', $2, ${NBMF_DOCUMENTS:-3000});
	SQL
}

measure_hits()
{
	local source threshold row

	have_corpora || return 0
	cat <<-TEXT
		### Hits on real documents

		\`test/bench/cas_peers.sh hits\`

		Documents of a corpus, the first ${NBMF_DOCUMENTS:-3000} at most, put one after the other by
		\`nbmf_put\` into an index with the threshold. Exact: its content was there. Near:
		one with a content at least as similar as the threshold was, and the document
		was not stored. Divergence: of the documents that have a near one by fingerprint
		and no exact one, the share whose content no stored one is similar enough to,
		so that they were stored. In per cent, "exact + near (divergence)".
		The last column is what would have hit at 0.88 if contents were not compared.

		| documents | count | 1.0 | 0.95 | 0.90 | 0.88 | 0.85 | hits at 0.88 | by fingerprint |
		|--|--:|--:|--:|--:|--:|--:|--:|--:|
	TEXT
	load_corpora
	sql <<-'SQL'
		CREATE FUNCTION put_documents(source text, threshold float8, most integer) RETURNS text
		LANGUAGE plpgsql AS $$
		DECLARE
			d record;
			put record;
			by_fingerprint boolean;
			n integer := 0;
			exact integer := 0;
			near integer := 0;
			candidates integer := 0;
			divergent integer := 0;
		BEGIN
			PERFORM set_config('enable_seqscan', 'off', true);
			FOR d IN SELECT doc::nbmf AS body FROM documents
				WHERE documents.source = put_documents.source ORDER BY id LIMIT most
			LOOP
				by_fingerprint := threshold < 1 AND EXISTS (
					SELECT FROM store WHERE body <@ nbmf_ball(d.body, threshold));
				SELECT * INTO put FROM nbmf_put('store', 'body', d.body, NULL, threshold);
				n := n + 1;
				IF NOT put.inserted AND put.exact THEN
					exact := exact + 1;
				ELSE
					near := near + (NOT put.inserted)::int;
					candidates := candidates + by_fingerprint::int;
					divergent := divergent + (by_fingerprint AND put.inserted)::int;
				END IF;
			END LOOP;
			ASSERT n - exact - near = (SELECT count(*) FROM store);
			IF threshold = 1 THEN
				RETURN format('%s | %s + %s', n, round(100.0 * exact / n, 1), round(100.0 * near / n, 1));
			END IF;
			RETURN format('%s + %s (%s)%s', round(100.0 * exact / n, 1), round(100.0 * near / n, 1),
				coalesce(round(100.0 * divergent / nullif(candidates, 0))::text, '-'),
				CASE WHEN threshold = 0.88 THEN format('|%s | %s', round(100.0 * (exact + near) / n, 1),
					round(100.0 * (exact + candidates) / n, 1)) END);
		END $$;
	SQL
	for source in $(sql -c 'SELECT source FROM documents GROUP BY source ORDER BY source'); do
		row="| ${source%.t*xt} | $(put_all "$source" 1)"
		hits=
		for threshold in 0.95 0.90 0.88 0.85; do
			cell=$(put_all "$source" $threshold)
			[ $threshold != 0.88 ] || hits=${cell#*|}
			row+=" | ${cell%%|*}"
		done
		echo "$row | $hits |"
		nbmf_say "$(date +%T) $row"
	done
	sql -c 'DROP TABLE store, documents'
	echo
}

#
# soak
#

measure_soak()
{
	local dir=$NBMF_SCRATCH/soak duration=${NBMF_SOAK_SECONDS:-600} vacuum done_file transactions

	mkdir -p "$dir"
	done_file=$dir/done
	sql <<-'SQL'
		CREATE TABLE soak (id bigserial, touched integer DEFAULT 0, tenant integer NOT NULL, body nbmf NOT NULL,
			CONSTRAINT soak_once EXCLUDE USING nbmf_cas (tenant WITH =, body WITH =));
		-- an update of "touched" then makes new entries in all indexes
		CREATE INDEX ON soak (touched);
		ALTER TABLE soak SET (autovacuum_enabled = off);
		-- the same without the constraint, looking first: this is what it prevents
		CREATE TABLE unguarded (tenant integer NOT NULL, body nbmf NOT NULL);
		CREATE INDEX ON unguarded USING nbmf_cas (tenant, body);
		CREATE SEQUENCE turn;
		CREATE FUNCTION content(n integer) RETURNS nbmf LANGUAGE sql IMMUTABLE
			AS $$ SELECT ('Note ' || n || ' of the customer: ' || repeat(md5(n::text) || ' ', n % 20))::nbmf $$;
		-- a plain INSERT, which may find its content there
		CREATE FUNCTION insert_plain(tenant integer, n integer) RETURNS void LANGUAGE plpgsql AS $$
		BEGIN
			INSERT INTO soak (tenant, body) VALUES (insert_plain.tenant, content(n));
		EXCEPTION WHEN exclusion_violation THEN NULL;
		END $$;
	SQL
	cat >"$dir/insert.sql" <<-'SQL'
		\set t random(1, 3)
		\set c random(1, 1000)
		INSERT INTO soak (tenant, body) VALUES (:t, content(:c)) ON CONFLICT DO NOTHING;
	SQL
	cat >"$dir/plain.sql" <<-'SQL'
		\set t random(1, 3)
		\set c random(1, 1000)
		SELECT insert_plain(:t, :c);
	SQL
	cat >"$dir/delete.sql" <<-'SQL'
		\set t random(1, 3)
		\set c random(1, 1000)
		DELETE FROM soak WHERE tenant = :t AND body = content(:c);
	SQL
	cat >"$dir/update.sql" <<-'SQL'
		\set t random(1, 3)
		\set c random(1, 1000)
		UPDATE soak SET touched = touched + 1 WHERE tenant = :t AND body = content(:c);
	SQL
	cat >"$dir/rollback.sql" <<-'SQL'
		\set t random(1, 3)
		\set c random(1, 1000)
		BEGIN;
		INSERT INTO soak (tenant, body) VALUES (:t, content(:c)) ON CONFLICT DO NOTHING;
		ROLLBACK;
	SQL
	cat >"$dir/replace.sql" <<-'SQL'
		\set t random(1, 3)
		\set c random(1, 1000)
		BEGIN;
		DELETE FROM soak WHERE tenant = :t AND body = content(:c);
		SAVEPOINT s;
		INSERT INTO soak (tenant, body) VALUES (:t, content(:c)) ON CONFLICT DO NOTHING;
		ROLLBACK TO s;
		INSERT INTO soak (tenant, body) VALUES (:t, content(:c)) ON CONFLICT DO NOTHING;
		COMMIT;
	SQL
	# 8 clients in turn, of which each looks first
	cat >"$dir/unguarded.sql" <<-'SQL'
		SELECT nextval('turn') / 8 AS c \gset
		SELECT count(*) AS there FROM unguarded WHERE tenant = 1 AND body = content(:c::integer) \gset
		\if :there = 0
		INSERT INTO unguarded VALUES (1, content(:c::integer));
		\endif
	SQL
	(
		cd "$dir"
		until [ -e "$done_file" ]; do
			sql -c 'VACUUM (INDEX_CLEANUP on) soak' -c "SELECT nbmf_index_check('soak_once', true)" >>checks 2>&1
			sleep 1
		done
	) &
	vacuum=$!
	# a plain INSERT may be one of two that wait for each other: it is tried again
	(cd "$dir" && pgbench -n -M prepared -c 8 -j 2 -T "$duration" --max-tries=100 -f insert.sql@50 -f plain.sql@10 \
		-f delete.sql@20 -f update.sql@8 -f rollback.sql@6 -f replace.sql@6) >"$dir/log" 2>&1 || true
	touch "$done_file"
	wait $vacuum || true
	(cd "$dir" && pgbench -n -M prepared -c 8 -j 2 -t 2000 -f unguarded.sql) >"$dir/unguarded.log" 2>&1
	transactions=$(sed -n 's/.*actually processed: \([0-9]*\).*/\1/p' "$dir/log")
	cat <<-TEXT
		### Soak

		\`test/bench/cas_peers.sh soak\`

		8 clients of pgbench, $duration seconds, \`EXCLUDE USING nbmf_cas (tenant WITH =, body WITH =)\`, 3
		tenants with 1,000 contents each: 50 % INSERT .. ON CONFLICT DO NOTHING, 10 % plain INSERT, 20 %
		DELETE, 8 % UPDATE that makes new entries, 6 % INSERT rolled back, 6 % DELETE, INSERT rolled back to
		a savepoint, and INSERT; VACUUM and \`nbmf_index_check(.., true)\` all the time beside them.

		| | |
		|--|--:|
		| transactions | $transactions |
		| failed | $(sed -n 's/.*failed transactions: \([0-9]*\).*/\1/p' "$dir/log" | head -n 1) |
		| tried again after a deadlock | $(awk '/^SQL script/ { n = split($NF, path, "/"); script = path[n] }
			sub(/.*transactions retried: /, "") { out = out (script == "" ? $1 : ($1 > 0 ? ", " script " " $1 : "")) }
			END { print out }' "$dir/log") |
		| a client aborted or had an error | $(grep -ciE 'abort|error' "$dir/log" || true) |
		| VACUUMs and checks beside them | $(grep -cE '^[0-9]+$' "$dir/checks" || true) |
		| of them with an error | $(grep -c ERROR "$dir/checks" || true) |
		| rows at the end | $(sql -c 'SELECT count(*) FROM soak') |
		| pairs of equal rows (join by tenant and text) | $(sql -c "SET enable_indexscan = off; SET enable_bitmapscan = off;
			SELECT count(*) FROM soak AS a JOIN soak AS b ON a.tenant = b.tenant AND a.body::text = b.body::text AND a.ctid < b.ctid") |
		| nbmf_index_check('soak_once', true) | $(sql -c "SELECT nbmf_index_check('soak_once', true)" 2>&1) |
		| for comparison: pairs of equal rows without the constraint: 2,000 contents, for each 8 times SELECT, and INSERT where it finds nothing | $(sql -c "
			SELECT count(*) FROM unguarded AS a JOIN unguarded AS b ON a.tenant = b.tenant AND a.body::text = b.body::text AND a.ctid < b.ctid") |

	TEXT
	grep -iE 'abort|error' "$dir/log" | head -n 5 >&2 || true
	grep ERROR "$dir/checks" | head -n 5 >&2 || true
	sql -c 'DROP TABLE soak, unguarded' -c 'DROP SEQUENCE turn'
}

#
# Documents repeated with one changed word, and their fingerprints
#

# changed_create: changed(doc, n), the document with one word replaced by another
changed_create()
{
	sql <<-'SQL'
		-- A word between blanks, which is part of a string where the document is
		-- JSON; a number where there is none
		CREATE OR REPLACE FUNCTION changed(doc text, n bigint) RETURNS text LANGUAGE plpgsql IMMUTABLE AS $$
		DECLARE
			word text := ' w' || translate(substr(md5(n::text), 1, 6), '0123456789', 'ghijklmnop') || ' ';
			result text;
		BEGIN
			result := regexp_replace(doc, ' [[:alpha:]]+ ', word, 1 + (abs(mixed(n)) % length(doc))::int, 1);
			IF result = doc THEN
				result := regexp_replace(doc, ' [[:alpha:]]+ ', word);
			END IF;
			IF result = doc THEN
				result := regexp_replace(doc, '[1-9][0-9]*', (1 + abs(mixed(n)) % 100000)::text);
			END IF;
			RETURN result;
		END $$;
	SQL
}

# fingerprints_real: table fingerprint of $rows documents, the corpora's own and
# copies with a changed word, and query with $queries more such copies
fingerprints_real()
{
	sql <<-SQL
		SET client_min_messages = error;
		DROP TABLE IF EXISTS fingerprint, query, base;
		CREATE TABLE base AS SELECT (row_number() OVER (ORDER BY mixed(id)) - 1)::int AS n, doc FROM documents
		WHERE octet_length(doc) BETWEEN 100 AND 8000 ORDER BY mixed(id) LIMIT $rows / 10;
		ALTER TABLE base ADD PRIMARY KEY (n);
		CREATE TABLE fingerprint AS
		SELECT i AS id, nbmf_key((CASE WHEN i < c.n THEN b.doc ELSE changed(b.doc, i) END)::nbmf) AS key
		FROM (SELECT count(*) AS n FROM base) AS c, generate_series(0, $rows - 1) AS i, base AS b WHERE b.n = i % c.n;
		ALTER TABLE fingerprint ALTER key SET NOT NULL;
		CREATE TABLE query AS
		SELECT i AS n, nbmf_key(changed(b.doc, -i)::nbmf) AS key
		FROM (SELECT count(*) AS n FROM base) AS c, generate_series(1, $queries) AS i, base AS b WHERE b.n = abs(mixed(i)) % c.n;
	SQL
	queries_finish
}

# fingerprints_uniform DISTANCE: uniform fingerprints; each query has one there
fingerprints_uniform()
{
	sql <<-SQL
		SET client_min_messages = error;
		DROP TABLE IF EXISTS fingerprint, query;
		CREATE TABLE fingerprint AS SELECT i AS id, key_of(i, mixed(i)) AS key FROM generate_series(0, $rows - 1) AS i;
		ALTER TABLE fingerprint ALTER key SET NOT NULL;
		CREATE TABLE query AS SELECT i AS n, key_of(-i, mixed(abs(mixed(-i)) % $rows) # ($(flips "$1"))) AS key FROM generate_series(1, $queries) AS i;
	SQL
	queries_finish
}

queries_finish()
{
	local distance

	for distance in 3 7 9; do
		sql -c "ALTER TABLE query ADD ball$distance nbmf_ball" \
			-c "UPDATE query SET ball$distance = nbmf_ball(key, 1 - $distance / 64.0)"
	done
	sql -c 'ALTER TABLE query ADD PRIMARY KEY (n)' -c 'VACUUM FULL ANALYZE query' -c 'VACUUM ANALYZE fingerprint'
}

cas_queries()
{
	local distance

	for distance in "$@"; do
		report "distance $distance, nbmf_cas" "$(latency "SELECT id FROM fingerprint WHERE key <@ q.ball$distance" $queries)"
	done
	report '10 nearest, nbmf_cas' "$(latency 'SELECT id FROM fingerprint ORDER BY key <~> q.key LIMIT 10' 1000)"
}

measure_real()
{
	have_corpora || return 0
	load_corpora
	fingerprints_real
	cat <<-TEXT
		### Real fingerprints, $rows rows

		\`NBMF_ROWS=$rows test/bench/cas_peers.sh real\`

		$(sql -c 'SELECT count(*) FROM base') documents, a random sample of all corpora's (100 to 8,000 bytes), and as many copies
		with one changed word as it takes; each query is one more copy. $(sql -c "SELECT count(DISTINCT nbmf_simhash(key)) FROM fingerprint") different fingerprints.

		| build | seconds | bytes a row |
		|--|--:|--:|
	TEXT
	build fingerprint fingerprint_cas 'USING nbmf_cas (key)'
	printf '\n| query | p50 us | p95 us | CPU us | of it in the index, mean |\n|--|--:|--:|--:|--:|\n'
	report "the query's row alone" "$(latency 'SELECT q.key')"
	cas_queries 3 7 9
	printf '\n| | mean | median | p95 |\n|--|--:|--:|--:|\n'
	for distance in 3 7 9; do
		report "rows within distance $distance" "$(sql -c "SELECT format('%s | %s | %s', round(avg(c), 1), percentile_disc(0.5) WITHIN GROUP (ORDER BY c), percentile_disc(0.95) WITHIN GROUP (ORDER BY c))
			FROM query AS q, LATERAL (SELECT count(*) AS c FROM fingerprint WHERE key <@ q.ball$distance) AS f")"
	done
	report 'distance of the 10th' "$(sql -c "SELECT format('%s | %s | %s', round(avg(c)::numeric, 1), percentile_disc(0.5) WITHIN GROUP (ORDER BY c), percentile_disc(0.95) WITHIN GROUP (ORDER BY c))
		FROM query AS q, LATERAL (SELECT max(d) AS c FROM (SELECT key <~> q.key AS d FROM fingerprint ORDER BY key <~> q.key LIMIT 10) AS n) AS f WHERE q.n <= 200")"
	echo
	sql -c 'DROP TABLE fingerprint, query, base, documents'
}

#
# text: pg_trgm; smlar: smlar
#

# result SQL [COUNT]: what latency prints, without the time in the index
result()
{
	latency "$@" | tr -d '\n' | cut -d'|' -f1-3 | sed 's/ $//'
}

# text_create: tables text_row, of $rows documents and copies of them, and query
text_create()
{
	documents_create
	documents_corpus "$folder/chat.sgd.jsonl.zst" >/dev/null
	documents_corpus "$folder/research_note.eips.text.jsonl.zst" >/dev/null
	sql <<-SQL
		SET client_min_messages = error;
		CREATE TABLE base AS SELECT (row_number() OVER () - 1)::int AS base, doc FROM (
			SELECT doc, row_number() OVER (PARTITION BY source ORDER BY min(id)) AS n FROM documents
			WHERE octet_length(doc) BETWEEN 200 AND 4000 GROUP BY source, doc) AS d WHERE n <= $rows / 20;
		ALTER TABLE base ADD PRIMARY KEY (base);
		CREATE TABLE text_row AS SELECT i AS id, base, d AS body, d::nbmf AS value
		FROM (SELECT count(*) AS n FROM base) AS c, generate_series(0, $rows - 1) AS i, base AS b,
			LATERAL (SELECT CASE WHEN i < c.n THEN doc ELSE changed(doc, i) END AS d OFFSET 0) AS x WHERE b.base = i % c.n;
		ALTER TABLE text_row ADD PRIMARY KEY (id), ALTER value SET NOT NULL;
		CREATE INDEX ON text_row (base);
		DROP TABLE IF EXISTS query;
		CREATE TABLE query AS SELECT i AS n, base, d AS body, d::nbmf AS value
		FROM (SELECT count(*) AS n FROM base) AS c, generate_series(1, $queries) AS i, base AS b,
			LATERAL (SELECT changed(doc, -i) AS d OFFSET 0) AS x WHERE b.base = abs(mixed(i)) % c.n;
		ALTER TABLE query ADD PRIMARY KEY (n);
		VACUUM ANALYZE text_row, query;
	SQL
}

# text_about: the documents, and what recall is of
text_about()
{
	cat <<-TEXT
		$(sql -c 'SELECT count(*) FROM base') documents of chat.sgd and research_note.eips (200 to 4,000 bytes, mean $(
			sql -c 'SELECT round(avg(octet_length(body))) FROM text_row')), and copies with one
		changed word; each of $queries queries is one more copy. Recall, of 20 queries, is of the copies of
		the same document; and of all rows whose contents have a Jaccard similarity of 0.7 by nbmf.
	TEXT
}

# text_cas: the index nbmf_cas; and table near, of what is similar by content.  It is
# looked for at up to 28 bits, where a similarity of 0.7 makes one expect 10
text_cas()
{
	build text_row text_cas 'USING nbmf_cas (value)'
	sql -c "CREATE TABLE near AS SELECT q.n, r.id FROM query AS q,
		LATERAL nbmf_cas_lookup('text_cas', q.value, 1 - 28 / 64.0) AS l JOIN text_row AS r ON r.ctid = l.ctid
		WHERE q.n <= 20 AND l.similarity >= 0.7" -c 'ALTER TABLE near ADD PRIMARY KEY (n, id)' -c 'ANALYZE near'
}

# text_recall SQL: the shares of the copies, and of the similar contents, that it finds
text_recall()
{
	sql -c "SELECT format('%s | %s', round(sum(copies)::numeric / sum(all_copies), 3), round(sum(near)::numeric / sum(all_near), 3))
		FROM (SELECT f.*, (SELECT count(*) FROM text_row AS r WHERE r.base = q.base) AS all_copies,
				(SELECT count(*) FROM near WHERE near.n = q.n) AS all_near
			FROM query AS q, LATERAL (
				SELECT count(*) FILTER (WHERE r.base = q.base) AS copies, count(near.id) AS near
				FROM ($1) AS found JOIN text_row AS r USING (id) LEFT JOIN near ON near.n = q.n AND near.id = r.id) AS f
			WHERE q.n <= 20) AS s"
}

# text_query WHAT COUNT SQL: CPU time is of COUNT queries
text_query()
{
	report "$1" "$(result "$3" "$2") | $(text_recall "$3")"
}

text_queries_cas()
{
	local distance

	printf '\n| query | p50 us | p95 us | CPU us | recall, copies | contents |\n|--|--:|--:|--:|--:|--:|\n'
	report "the query's row alone" "$(result 'SELECT q.value') | | "
	for distance in 7 9 12; do
		text_query "nbmf_cas_lookup, $distance bits, then similarity of contents >= 0.7" $queries "SELECT r.id
			FROM nbmf_cas_lookup('text_cas', q.value, 1 - $distance / 64.0) AS l JOIN text_row AS r ON r.ctid = l.ctid WHERE l.similarity >= 0.7"
	done
}

measure_text()
{
	local queries=100

	have_corpora || return 0
	text_create
	sql -c 'SET client_min_messages = error' -c 'CREATE EXTENSION IF NOT EXISTS pg_trgm' \
		-c 'ALTER DATABASE postgres SET pg_trgm.similarity_threshold = 0.8'
	cat <<-TEXT
		### Near texts, beside pg_trgm, $rows rows

		\`NBMF_ROWS=$rows test/bench/cas_peers.sh text\`

		$(text_about)
		PostgreSQL $(sql -c 'SHOW server_version'), pg_trgm $(extension_version pg_trgm).

		| build | seconds | bytes a row |
		|--|--:|--:|
	TEXT
	text_cas
	build text_row text_trgm 'USING gin (body gin_trgm_ops)'
	sql -c 'VACUUM ANALYZE text_row'
	text_queries_cas
	text_query 'pg_trgm %, similarity >= 0.8' 5 'SELECT id FROM text_row WHERE body % q.body'
	echo
	sql -c 'DROP TABLE base, text_row, query, near, documents'
}

measure_smlar()
{
	local queries=100 gist

	have_corpora || return 0
	peer_create smlar "${NBMF_SMLAR:-}" ||
		{ printf 'Skipped: no smlar (NBMF_SMLAR names its source).\n\n'; return 0; }
	text_create
	sql <<-'SQL'
		CREATE OR REPLACE FUNCTION pairs_of(doc text) RETURNS integer[] LANGUAGE sql IMMUTABLE AS $$
			SELECT array_agg(DISTINCT hashtext(word || ' ' || following))
			FROM (SELECT word, lead(word) OVER (ORDER BY n) AS following
				FROM regexp_split_to_table(lower(doc), '\W+') WITH ORDINALITY AS w (word, n)) AS p
			WHERE following IS NOT NULL $$;
		ALTER TABLE query ADD pairs integer[];
		UPDATE query SET pairs = pairs_of(body);
		ALTER TABLE text_row ADD pairs integer[];
		ALTER DATABASE postgres SET smlar.threshold = 0.8;
		ALTER DATABASE postgres SET enable_seqscan = off;
	SQL
	cat <<-TEXT
		### Near texts, beside smlar, $rows rows

		\`NBMF_ROWS=$rows NBMF_SMLAR=... test/bench/cas_peers.sh smlar\`

		$(text_about)
		smlar compares, by their cosine, sets of pairs of words, hashed to integer[] beforehand for
		rows and queries. PostgreSQL $(sql -c 'SHOW server_version'), smlar $(extension_version smlar).

		| build | seconds | bytes a row |
		|--|--:|--:|
	TEXT
	report 'column pairs integer[]' "$(timed 'UPDATE text_row SET pairs = pairs_of(body)') | $(
		sql -c 'SELECT round(avg(pg_column_size(pairs)), 1) FROM text_row')"
	sql -c 'VACUUM FULL ANALYZE text_row' -c 'VACUUM FULL ANALYZE query'
	text_cas
	# the planner cannot tell GiST and GIN apart: one is gone before the other is there
	build text_row text_gist 'USING gist (pairs _int4_sml_ops)'
	sql -c 'VACUUM ANALYZE text_row'
	gist=$(text_query 'smlar %, similarity >= 0.8, GiST' 20 'SELECT id FROM text_row WHERE pairs % q.pairs')
	sql -c 'DROP INDEX text_gist'
	build text_row text_gin 'USING gin (pairs _int4_sml_ops)'
	sql -c 'VACUUM ANALYZE text_row'
	text_queries_cas
	echo "$gist"
	text_query 'smlar %, similarity >= 0.8, GIN' 20 'SELECT id FROM text_row WHERE pairs % q.pairs'
	echo
	sql -c 'ALTER DATABASE postgres RESET enable_seqscan' -c 'DROP TABLE base, text_row, query, near, documents'
}

#
# vector: pgvector
#

# pgvector_create: false, and says so, if there is none that indexes bit(64)
pgvector_create()
{
	peer_create vector "${NBMF_PGVECTOR:-}" &&
		[ "$(sql -c "SELECT count(*) FROM pg_opclass WHERE opcname = 'bit_hamming_ops'")" != 0 ] && return
	printf 'Skipped: no pgvector 0.7 or later (NBMF_PGVECTOR names its source).\n\n'
	return 1
}

# recall WHICH SQL: the share of the rows within a distance, or of the 10 nearest,
# that a query finds; of equally far ones any is right
recall()
{
	local right="d <= $1" there="within$1"

	[ "$1" != nearest ] || { right='d <= tenth'; there=10; }
	sql -c "SELECT coalesce(round(sum(found)::numeric / nullif(sum(there), 0), 3)::text, '-') FROM (
		SELECT $there AS there, (SELECT count(*) FROM (
			SELECT bit_count(f.bits # q.bits) AS d FROM ($2) AS n JOIN fingerprint AS f USING (id)) AS d WHERE $right) AS found
		FROM query AS q JOIN truth USING (n)) AS s"
}

# vector_row WHAT WHICH COUNT SQL: CPU time is of COUNT queries
vector_row()
{
	report "$1" "$(result "$4" "$3") | $(recall "$2" "$4")"
}

# vector_peers WHAT DISTANCE ...: both indexes on table fingerprint
vector_peers()
{
	local what=$1 distance ef
	shift

	sql <<-SQL
		SET client_min_messages = error;
		ALTER TABLE fingerprint ADD bits bit(64);
		UPDATE fingerprint SET bits = nbmf_simhash(key)::bit(64);
		ALTER TABLE fingerprint ADD PRIMARY KEY (id);
		ALTER TABLE query ADD bits bit(64);
		UPDATE query SET bits = nbmf_simhash(key)::bit(64);
		VACUUM FULL ANALYZE fingerprint;
		VACUUM FULL ANALYZE query;
		DROP TABLE IF EXISTS truth;
		CREATE TABLE truth AS SELECT n, t.* FROM query AS q, LATERAL (
			SELECT count(*) FILTER (WHERE d <= 3) AS within3, count(*) FILTER (WHERE d <= 9) AS within9,
				percentile_disc(10.0 / $rows) WITHIN GROUP (ORDER BY d) AS tenth
			FROM (SELECT bit_count(f.bits # q.bits) AS d FROM fingerprint AS f) AS s OFFSET 0) AS t WHERE q.n <= 100;
		ALTER TABLE truth ADD PRIMARY KEY (n);
		ANALYZE truth;
	SQL
	printf '#### %s\n\nWithin distance 3 are on average %s rows, within 9 %s.\n\n| build | seconds | bytes a row |\n|--|--:|--:|\n' "$what" \
		"$(sql -c 'SELECT round(avg(within3), 1) FROM truth')" "$(sql -c 'SELECT round(avg(within9), 1) FROM truth')"
	build fingerprint fingerprint_cas 'USING nbmf_cas (key)'
	build fingerprint fingerprint_hnsw 'USING hnsw (bits bit_hamming_ops)'
	printf '\n| query | p50 us | p95 us | CPU us | recall |\n|--|--:|--:|--:|--:|\n'
	for distance in "$@"; do
		vector_row "distance $distance, nbmf_cas" "$distance" $queries "SELECT id FROM fingerprint WHERE key <@ q.ball$distance"
		for ef in 40 200; do
			sql -c "ALTER DATABASE postgres SET hnsw.ef_search = $ef"
			vector_row "distance $distance, hnsw, of the $ef nearest" "$distance" 200 \
				"SELECT id FROM (SELECT id, bits <~> q.bits AS d FROM fingerprint ORDER BY bits <~> q.bits LIMIT $ef) AS s WHERE d <= $distance"
		done
	done
	vector_row '10 nearest, nbmf_cas' nearest 1000 'SELECT id FROM fingerprint ORDER BY key <~> q.key LIMIT 10'
	for ef in 40 200 1000; do
		sql -c "ALTER DATABASE postgres SET hnsw.ef_search = $ef"
		vector_row "10 nearest, hnsw, ef_search $ef" nearest 200 'SELECT id FROM fingerprint ORDER BY bits <~> q.bits LIMIT 10'
	done
	echo
	sql -c 'DROP TABLE fingerprint, query, truth'
}

measure_vector()
{
	pgvector_create || return 0
	sql -c 'ALTER DATABASE postgres SET enable_seqscan = off'
	cat <<-TEXT
		### Near fingerprints, beside pgvector, $rows rows

		\`NBMF_ROWS=$rows NBMF_PGVECTOR=... test/bench/cas_peers.sh vector\`

		PostgreSQL $(sql -c 'SHOW server_version'), pgvector $(extension_version vector), HNSW with its defaults (m 16, ef_construction 64), each
		built by $((${NBMF_WORKERS:-0} + 1)) processes. Recall is against a scan of the whole table, of 100 queries.

	TEXT
	if have_corpora; then
		load_corpora
		fingerprints_real
		sql -c 'DROP TABLE base, documents'
		vector_peers 'Fingerprints of real documents with a changed word' 3 9
	fi
	fingerprints_uniform 3
	vector_peers 'Uniform fingerprints, one at distance 3' 3
	fingerprints_uniform 9
	vector_peers 'Uniform fingerprints, one at distance 9' 9
	sql -c 'ALTER DATABASE postgres RESET enable_seqscan'
}

#
# bktree: SP-GiST
#

# bktree_row WHAT COUNT SQL: CPU time is of COUNT queries
bktree_row()
{
	report "$1" "$(result "$3" "$2") | $(sql -c "SELECT count(*) FROM query AS q, LATERAL ($3) AS f WHERE q.n <= 20")"
}

# bktree_peers WHAT DISTANCE ...: both indexes on table fingerprint
bktree_peers()
{
	local what=$1 distance
	shift

	sql <<-SQL
		SET client_min_messages = error;
		ALTER TABLE fingerprint ADD bits int8;
		UPDATE fingerprint SET bits = nbmf_simhash(key);
		ALTER TABLE query ADD bits int8;
		UPDATE query SET bits = nbmf_simhash(key);
		VACUUM FULL ANALYZE fingerprint;
		VACUUM FULL ANALYZE query;
	SQL
	printf '#### %s\n\n| build | seconds | bytes a row |\n|--|--:|--:|\n' "$what"
	build fingerprint fingerprint_cas 'USING nbmf_cas (key)'
	build fingerprint fingerprint_bktree 'USING spgist (bits bktree_ops)'
	printf '\n| query | p50 us | p95 us | CPU us | rows of 20 queries |\n|--|--:|--:|--:|--:|\n'
	for distance in "$@"; do
		bktree_row "distance $distance, nbmf_cas" $queries "SELECT id FROM fingerprint WHERE key <@ q.ball$distance"
		bktree_row "distance $distance, BK-tree" 20 "SELECT id FROM fingerprint WHERE bits <@ ROW(q.bits, $distance)::bktree_area"
	done
	echo
	sql -c 'DROP TABLE fingerprint, query'
}

measure_bktree()
{
	if ! peer_create bktree "${NBMF_BKTREE:-}"; then
		printf 'Skipped: no BK-tree (NBMF_BKTREE names its source).\n\n'
		return 0
	fi
	sql -c 'ALTER DATABASE postgres SET enable_seqscan = off'
	cat <<-TEXT
		### Near fingerprints, beside a BK-tree, $rows rows

		\`NBMF_ROWS=$rows NBMF_BKTREE=... test/bench/cas_peers.sh bktree\`

		PostgreSQL $(sql -c 'SHOW server_version'), bktree $(extension_version bktree) of pg-spgist_hamming.

	TEXT
	if have_corpora; then
		load_corpora
		fingerprints_real
		sql -c 'DROP TABLE base, documents'
		bktree_peers 'Fingerprints of real documents with a changed word' 3 7 9
	fi
	fingerprints_uniform 3
	bktree_peers 'Uniform fingerprints' 3 7 9
	sql -c 'ALTER DATABASE postgres RESET enable_seqscan'
}

[ $# -gt 0 ] || set -- hits soak real text smlar vector bktree
for part in "$@"; do
	case $part in
	hits | soak | real | text | smlar | vector | bktree) ;;
	*) echo 'usage: test/bench/cas_peers.sh [hits|soak|real|text|smlar|vector|bktree ...]' >&2; exit 2 ;;
	esac
done
nbmf_requirements
nbmf_scratch
nbmf_build "$top"
nbmf_server bench "shared_preload_libraries = 'nbmf'" "nbmf.latency_sample = 0" "shared_buffers = '1GB'" "max_wal_size = '16GB'" "checkpoint_timeout = '1h'" \
	"plan_cache_mode = force_generic_plan" "maintenance_work_mem = '$([ "${NBMF_WORKERS:-0}" = 0 ] && echo 512MB || echo 8GB)'" "autovacuum = off" "fsync = off" "jit = off" \
	"max_parallel_workers_per_gather = 0" "max_parallel_maintenance_workers = ${NBMF_WORKERS:-0}" "max_worker_processes = 24" "max_parallel_workers = 16" "min_parallel_table_scan_size = '64kB'"
cas_measure_create
changed_create
for part in "$@"; do
	"measure_$part"
done

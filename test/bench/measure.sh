# measure.sh: the same documents as text, jsonb and nbmf, measured side by side.
#
# Sourced by ./quickstart and test/bench/run, after documents.sh.
#
# Machines are noisy: whatever is timed is timed in rounds, each contender once
# a round, and the median of the rounds is reported.  Measurements are rows of
#
#   measured (what, contender, round, value)

# A contender NAME is kept in table in_NAME, from column ${CONTENDER_SOURCE[NAME]}
declare -A CONTENDER_TYPE=(
	[text_pglz]='text COMPRESSION pglz' [text_lz4]='text COMPRESSION lz4'
	[jsonb_pglz]='jsonb COMPRESSION pglz' [jsonb_lz4]='jsonb COMPRESSION lz4'
	[nbmf]='nbmf')
declare -A CONTENDER_SOURCE=(
	[text_pglz]=doc [text_lz4]=doc
	[jsonb_pglz]=json::jsonb [jsonb_lz4]=json::jsonb
	[nbmf]=doc)

measure_create()
{
	CONTENDERS=(text_pglz text_lz4 jsonb_pglz jsonb_lz4 nbmf)
	if ! sql -c 'SET default_toast_compression = lz4' 2>/dev/null; then
		nbmf_say 'this server is built without lz4: left out'
		CONTENDERS=(text_pglz jsonb_pglz nbmf)
	fi
	sql <<-'SQL'
		SET client_min_messages = error;
		DROP TABLE IF EXISTS measured, contender;
		CREATE TABLE measured (what text, contender text, round integer, value float8);
		CREATE VIEW median AS
			SELECT what, contender,
				percentile_cont(0.5) WITHIN GROUP (ORDER BY value) AS value,
				min(value), max(value)
			FROM measured GROUP BY what, contender;
		CREATE TABLE contender (place integer, contender text, label text);
		INSERT INTO contender VALUES (1, 'text_pglz', 'text (pglz)'), (2, 'text_lz4', 'text (lz4)'),
			(3, 'jsonb_pglz', 'jsonb (pglz)'), (4, 'jsonb_lz4', 'jsonb (lz4)'), (5, 'nbmf', 'nbmf');
	SQL
}

measure_note()
{
	sql -c "INSERT INTO measured VALUES ('$1', '$2', $3, $4)"
}

# An empty table for a contender, on both sides of COPY and INSERT
measure_table()
{
	sql <<-SQL
		SET client_min_messages = error;
		DROP TABLE IF EXISTS in_$1;
		CREATE TABLE in_$1 (id integer PRIMARY KEY, body ${CONTENDER_TYPE[$1]})
			WITH (autovacuum_enabled = off);
	SQL
}

# Milliseconds that a statement takes, commit included
measure_ms()
{
	sql -c '\timing on' -c "$1" | sed -n 's/^Time: \([0-9.]*\) ms.*/\1/p'
}

# measure_insert CONTENDER ROUND [WHAT CONDITION]: time INSERT .. SELECT of all
# documents, or of those that meet a condition
measure_insert()
{
	measure_table "$1"
	sql -c CHECKPOINT
	measure_note "${3:-insert}" "$1" "$2" "$(measure_ms "INSERT INTO in_$1
		SELECT id, ${CONTENDER_SOURCE[$1]} FROM documents WHERE ${4:-true}")"
}

# measure_bytes CONTENDER: what the documents take there
measure_bytes()
{
	sql <<-SQL
		INSERT INTO measured SELECT 'table bytes', '$1', 1, pg_total_relation_size('in_$1');
		INSERT INTO measured SELECT 'value bytes', '$1', 1, sum(pg_column_size(body)) FROM in_$1;
	SQL
}

# measure_pin on|off: keep the server and its client on one processor.  They take
# turns anyway; on two processors, waking the other up costs more than the read,
# and varies tenfold with what else the machine does.
measure_pin()
{
	local server processors

	command -v taskset >/dev/null || return 0
	server=$(head -n 1 "$NBMF_SCRATCH/demo/postmaster.pid")
	processors=$(taskset -cp $$ | sed 's/.*: //')
	PINNED=()
	if [ "$1" = on ]; then
		processors=${processors%%[,-]*}
		PINNED=(taskset -c "$processors")
	fi
	taskset -cp "$processors" "$server" >/dev/null 2>&1 || PINNED=()
}

# measure_reads CONTENDER ROUND SECONDS: rows read by primary key in a second
measure_reads()
{
	local rows script=$NBMF_SCRATCH/read.sql tps

	rows=$(sql -c "SELECT count(*) FROM in_$1")
	printf '%s\n' '\set id random(1, :rows)' "SELECT body FROM in_$1 WHERE id = :id;" >"$script"
	measure_pin on
	tps=$("${PINNED[@]}" "$NBMF_BIN/pgbench" -n -M prepared -c 1 -T "$3" \
		-D rows="$rows" -f "$script" 2>/dev/null | sed -n 's/^tps = \([0-9.]*\).*/\1/p')
	measure_pin off
	measure_note reads "$1" "$2" "$tps"
}

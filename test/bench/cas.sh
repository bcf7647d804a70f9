#!/bin/bash
# cas.sh: measure the index nbmf_cas, and report in Markdown.
#
#   test/bench/cas.sh [ROWS ...]
#
# Fingerprints are uniform, and each query's has one neighbour at the distance
# that is asked for.  Peers, in the same run on the same rows: btree and hash
# index on a 16-byte digest, and four covering btree indexes on 16-bit bands of
# the fingerprint with hand-written SQL.  Times are of pgbench with prepared
# statements and generic plans, executor and protocol included; medians, in microseconds.  Rows are
# 100,000 and 1,000,000 if not given; NBMF_CAS_SECONDS is how long each query
# runs, 4 if not set.

set -euo pipefail
top=$(cd "$(dirname "$0")/../.." && pwd)
. "$top/test/tools/setup.sh"

seconds=${NBMF_CAS_SECONDS:-4}
[ $# -gt 0 ] || set -- 100000 1000000

sql()
{
	"$NBMF_BIN/psql" -XqAt -v ON_ERROR_STOP=1 "$@"
}

# timed SQL: one execution, in seconds
timed()
{
	local start end

	start=$(date +%s.%N)
	sql -c "$1" >/dev/null
	end=$(date +%s.%N)
	awk -v a="$start" -v b="$end" 'BEGIN { printf "%.2f", b - a }'
}

# latency SQL: median and 95th percentile in microseconds; :i is a random row
latency()
{
	local dir=$NBMF_SCRATCH/latency

	rm -rf "$dir"
	mkdir "$dir"
	printf '\\set i random(1, %d)\n%s\n' "$rows" "$1" >"$dir/query.sql"
	sql -c 'SELECT pg_stat_nbmf_cas_reset()' >/dev/null
	(cd "$dir" && pgbench -n -M prepared -T "$seconds" -f query.sql -l --log-prefix=log >/dev/null)
	cat "$dir"/log* | awk '{ print $3 }' | sort -n |
		awk '{ a[NR] = $1 } END { printf "%d | %d", a[int(NR * .5) + 1], a[int(NR * .95) + 1] }'
	sql -c "SELECT ' | ' || coalesce(round(avg_lookup_ms::numeric * 1000, 1)::text, '') FROM pg_stat_nbmf_cas WHERE indexrelname = 'fingerprint_cas'"
}

report()
{
	printf '| %s | %s |\n' "$1" "$2"
	nbmf_say "$(date +%T) $rows rows: $1: $2"
}

# flips DISTANCE: a number with so many bits, spread over the chunks
flips()
{
	sql -c "SELECT bit_or(1::bigint << ((i * 17 + 3) % 64)) FROM generate_series(1, $1) AS i"
}

# bands DISTANCE RADIUS: the fingerprints within a distance by hand; radius 0 or 1
bands()
{
	local band bit value values out=''

	for band in 0 1 2 3; do
		value="((q.bits >> $((16 * band))) & 65535)::int"
		values=$value
		if [ "$2" = 1 ]; then
			for bit in $(seq 0 15); do values+=", $value # $((1 << bit))"; done
		fi
		[ -z "$out" ] || out+=' UNION '
		out+="SELECT id FROM fingerprint WHERE band$band = ANY (ARRAY[$values]) AND bit_count((bits # q.bits)::bit(64)) <= $1"
	done
	echo "SELECT n.id FROM (SELECT mixed(:i) # ($(flips "$1")) AS bits) AS q, LATERAL ($out) AS n"
}

measure()
{
	local distance threshold bytes before

	sql <<-SQL
		SET client_min_messages = error;
		DROP TABLE IF EXISTS fingerprint, grown;
		CREATE TABLE fingerprint (id integer, key nbmf_key NOT NULL, digest uuid, bits bigint,
			band0 integer, band1 integer, band2 integer, band3 integer);
		INSERT INTO fingerprint SELECT i, key_of(i, b), md5(i::text)::uuid, b,
			b & 65535, (b >> 16) & 65535, (b >> 32) & 65535, (b >> 48) & 65535
		FROM (SELECT i, mixed(i) AS b FROM generate_series(1, $rows) AS i) AS s;
		VACUUM ANALYZE fingerprint;
	SQL

	printf '\n### %s rows\n\n| build | seconds | bytes a row |\n|--|--:|--:|\n' "$rows"
	for index in "cas USING nbmf_cas (key)" "digest_btree USING btree (digest)" \
		"digest_hash USING hash (digest)" "band0 (band0, bits, id)" "band1 (band1, bits, id)" \
		"band2 (band2, bits, id)" "band3 (band3, bits, id)"; do
		bytes=$(timed "CREATE INDEX fingerprint_${index%% *} ON fingerprint ${index#* }")
		report "${index#* }" "$bytes | $(sql -c "SELECT round(pg_relation_size('fingerprint_${index%% *}') / $rows.0, 1)")"
	done
	sql -c 'VACUUM fingerprint' -c 'CHECKPOINT'

	# steady state: an index as large, no checkpoint, pages seen before
	sql -c 'CREATE TABLE grown (key nbmf_key NOT NULL)' -c 'CREATE INDEX grown_key ON grown USING nbmf_cas (key)' \
		-c 'CREATE TABLE plain (key nbmf_key NOT NULL)' -c 'CREATE TABLE source AS SELECT key FROM fingerprint'
	report "grown by $rows inserts" "$(timed 'INSERT INTO grown SELECT key FROM source') | $(sql -c "SELECT round(pg_relation_size('grown_key') / $rows.0, 1)")"
	sql -c "TRUNCATE source" -c "INSERT INTO source SELECT key_of(-i, mixed(-i)) FROM generate_series(1, 50000) AS i"
	sql -c "INSERT INTO grown SELECT key_of(-i, mixed(-i)) FROM generate_series(50001, 100000) AS i"
	printf '\n| insert, steady state | us a row | WAL bytes a row |\n|--|--:|--:|\n'
	for table in plain grown; do
		before=$(sql -c 'SELECT pg_current_wal_insert_lsn()')
		seconds_taken=$(timed "INSERT INTO $table SELECT key FROM source")
		report "$([ $table = plain ] && echo 'table alone' || echo 'with nbmf_cas')" \
			"$(awk -v s="$seconds_taken" 'BEGIN { printf "%.1f", s * 1e6 / 50000 }') | $(sql -c "SELECT round((pg_current_wal_insert_lsn() - '$before') / 50000)")"
	done
	sql -c 'DROP TABLE plain, source'

	printf '\n| query | p50 us | p95 us | of it in the index, mean |\n|--|--:|--:|--:|\n'
	report 'SELECT 1' "$(latency 'SELECT 1')"
	report 'making a key' "$(latency 'SELECT key_of(:i, mixed(:i))')"
	report 'digest, btree' "$(latency "SELECT id FROM fingerprint WHERE digest = md5(:i::text)::uuid")"
	sql -c 'DROP INDEX fingerprint_digest_btree'
	report 'digest, hash' "$(latency "SELECT id FROM fingerprint WHERE digest = md5(:i::text)::uuid")"
	report 'exact, nbmf_cas' "$(latency "SELECT id FROM fingerprint WHERE key = key_of(:i, mixed(:i))")"
	for distance in 3 5 7 9; do
		threshold=$(awk -v d=$distance 'BEGIN { print 1 - d / 64 }')
		report "distance $distance, nbmf_cas" "$(latency "SELECT id FROM fingerprint WHERE key <@ nbmf_ball(key_of(:i, mixed(:i) # ($(flips $distance))), $threshold)")"
		case $distance in
			3) report "distance 3, four bands" "$(latency "$(bands 3 0)")" ;;
			7) report "distance 7, four bands" "$(latency "$(bands 7 1)")" ;;
		esac
	done
	report '10 nearest, one at distance 3' "$(latency "SELECT id FROM fingerprint ORDER BY key <~> key_of(:i, mixed(:i) # ($(flips 3))) LIMIT 10")"

	# everything that is near is found
	for distance in 3 5 7 9 20; do
		threshold=$(awk -v d=$distance 'BEGIN { print 1 - d / 64 }')
		sql -c "SET max_parallel_workers_per_gather = 0" -c "
			SELECT format('distance $distance: %s of %s found', sum(found), sum(there)) FROM generate_series(1, 5) AS q,
			LATERAL (SELECT count(*) AS found FROM fingerprint WHERE key <@ nbmf_ball(key_of(q, mixed(q) # ($(flips $distance))), $threshold)) AS f,
			LATERAL (SELECT count(*) AS there FROM fingerprint WHERE bit_count((bits # (mixed(q) # ($(flips $distance))))::bit(64)) <= $distance) AS t"
	done | sed 's/^/\n/'
}

nbmf_requirements
nbmf_scratch
nbmf_build "$top"
nbmf_server bench "shared_preload_libraries = 'nbmf'" "nbmf.latency_sample = 0" "shared_buffers = '1GB'" "max_wal_size = '16GB'" "checkpoint_timeout = '1h'" \
	"plan_cache_mode = force_generic_plan" "maintenance_work_mem = '256MB'" "autovacuum = off" "fsync = off" "jit = off"
sql -c "CREATE EXTENSION nbmf"
sql <<-'SQL'
	CREATE FUNCTION mixed(seed bigint) RETURNS bigint LANGUAGE sql IMMUTABLE
		AS $$ SELECT hashint8extended(seed, 4711) $$;
	CREATE FUNCTION key_of(id bigint, bits bigint) RETURNS nbmf_key LANGUAGE sql IMMUTABLE
		AS $$ SELECT (md5(id::text) || ':' || lpad(to_hex(bits), 16, '0'))::nbmf_key $$;
SQL
printf '## The index nbmf_cas\n\n`test/bench/cas.sh`\n'
for rows in "$@"; do
	measure
done

#!/bin/bash
# cas.sh: measure the index nbmf_cas, and report in Markdown.
#
#   test/bench/cas.sh [ROWS ...]
#
# Fingerprints are uniform, and each query's has one neighbour at the distance
# that is asked for.  Peers, in the same run on the same rows: btree and hash
# index on a 16-byte digest, and four covering btree indexes on 16-bit bands of
# the fingerprint with hand-written SQL.  What is looked for comes from a table of
# 10,000 queries, by its primary key.  Times are of pgbench with prepared
# statements and generic plans, executor and protocol included; and the CPU time
# of 5,000 queries (500 of the slowest two) in one statement, the least of five, which other work on the machine
# disturbs less.  Rows are 100,000 and 1,000,000 if not given; NBMF_CAS_SECONDS is
# how long each query runs, 4 if not set.

set -euo pipefail
top=$(cd "$(dirname "$0")/../.." && pwd)
. "$top/test/tools/setup.sh"
. "$top/test/bench/documents.sh"
. "$top/test/bench/cas_measure.sh"

[ $# -gt 0 ] || set -- 100000 1000000

# flipped RADIUS: the 16-bit numbers that have 1 to so many bits
flipped()
{
	local i j

	for ((i = 0; i < 16 && $1 > 0; i++)); do
		echo $((1 << i))
		for ((j = 0; j < i && $1 > 1; j++)); do echo $((1 << i | 1 << j)); done
	done
}

# bands DISTANCE RADIUS: the fingerprints within a distance by hand; radius 0 to 2
bands()
{
	local band bit value values out=''

	for band in 0 1 2 3; do
		value="((q.bits$1 >> $((16 * band))) & 65535)::int"
		values=$value
		for bit in $(flipped "$2"); do values+=", $value # $bit"; done
		[ -z "$out" ] || out+=' UNION '
		out+="SELECT id FROM fingerprint WHERE band$band = ANY (ARRAY[$values]) AND bit_count((bits # q.bits$1)::bit(64)) <= $1"
	done
	echo "$out"
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
		DROP TABLE IF EXISTS query;
		CREATE TABLE query AS SELECT n::integer, md5(i::text)::uuid AS digest, key_of(i, mixed(i)) AS key
		FROM generate_series(1, 10000) AS n, LATERAL (SELECT 1 + abs(mixed(-n)) % $rows AS i) AS r;
		ALTER TABLE query ADD PRIMARY KEY (n);
	SQL
	for distance in 3 5 7 9; do
		sql -c "ALTER TABLE query ADD bits$distance bigint, ADD key$distance nbmf_key, ADD ball$distance nbmf_ball" \
			-c "UPDATE query SET bits$distance = nbmf_simhash(key) # ($(flips $distance)), key$distance = key_of(-n, nbmf_simhash(key) # ($(flips $distance)))" \
			-c "UPDATE query SET ball$distance = nbmf_ball(key$distance, 1 - $distance / 64.0)"
	done
	sql -c 'VACUUM FULL ANALYZE query'

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

	printf '\n| query | p50 us | p95 us | CPU us | of it in the index, mean |\n|--|--:|--:|--:|--:|\n'
	report "the query's row alone" "$(latency 'SELECT q.key')"
	report 'digest, btree' "$(latency 'SELECT id FROM fingerprint WHERE digest = q.digest')"
	sql -c 'DROP INDEX fingerprint_digest_btree'
	report 'digest, hash' "$(latency 'SELECT id FROM fingerprint WHERE digest = q.digest')"
	report 'exact, nbmf_cas' "$(latency 'SELECT id FROM fingerprint WHERE key = q.key')"
	for distance in 3 5 7 9; do
		report "distance $distance, nbmf_cas" "$(latency "SELECT id FROM fingerprint WHERE key <@ q.ball$distance")"
		case $distance in
			3) report "distance 3, four bands" "$(latency "$(bands 3 0)")" ;;
			5) report "distance 5, four bands" "$(latency "$(bands 5 1)" 500)" ;;
			7) report "distance 7, four bands" "$(latency "$(bands 7 1)" 500)" ;;
			9) report "distance 9, four bands" "$(latency "$(bands 9 2)" 200)" ;;
		esac
	done
	sql -c 'VACUUM ANALYZE grown'
	for distance in 3 7; do
		report "distance $distance, nbmf_cas grown by inserts" "$(latency "SELECT key FROM grown WHERE key <@ q.ball$distance")"
	done
	report '10 nearest, one at distance 3' "$(latency 'SELECT id FROM fingerprint ORDER BY key <~> q.key3 LIMIT 10' 500)"

	# many contents of one fingerprint: a lookup among them, and an insert under a constraint
	sql <<-SQL
		SET client_min_messages = error;
		DROP TABLE IF EXISTS skewed;
		CREATE TABLE skewed (id integer, key nbmf_key NOT NULL, EXCLUDE USING nbmf_cas (key WITH =));
		INSERT INTO skewed SELECT i, key_of(i, 77) FROM generate_series(1, 100000) AS i;
		VACUUM ANALYZE skewed;
		UPDATE query SET key = key_of(n * 10, 77);
	SQL
	report 'exact, among 100000 of one fingerprint' "$(latency 'SELECT id FROM skewed WHERE key = q.key')"
	printf '\nAn insert among them under EXCLUDE (key WITH =): %s us of CPU\n' \
		"$(sql -c "SELECT cpu('INSERT INTO skewed SELECT nextval(''skewed_id''), key_of(currval(''skewed_id''), 77) FROM generate_series(1, 5000)', 5000)")"

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
cas_measure_create
sql -c "CREATE SEQUENCE skewed_id START 1000000"
printf '## The index nbmf_cas\n\n`test/bench/cas.sh`\n'
for rows in "$@"; do
	measure
done

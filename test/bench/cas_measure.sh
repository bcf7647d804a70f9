# cas_measure.sh: what the measurements of the index nbmf_cas have in common.
#
# Sourced by test/bench/cas.sh and test/bench/cas_peers.sh, after
# test/tools/setup.sh and test/bench/documents.sh.  Queries come from a table
# query (n, ...), whose n are 1 to $queries.

seconds=${NBMF_CAS_SECONDS:-4}
queries=10000

# report WHAT RESULT: a row of a table.  What fails in the command substitutions that
# make a result ends no script: ask whether the server is still there
report()
{
	sql -c 'SELECT' >/dev/null
	printf '| %s | %s |\n' "$1" "$2"
	nbmf_say "$(date +%T) $rows rows: $1: $2"
}

# flips DISTANCE: a number with so many bits, spread over the chunks
flips()
{
	sql -c "SELECT bit_or(1::bigint << ((i * 17 + 3) % 64)) FROM generate_series(1, $1) AS i"
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

# latency SQL [COUNT]: median, 95th percentile and CPU time in microseconds, of a
# query for query q; the CPU time is of COUNT queries
latency()
{
	local dir=$NBMF_SCRATCH/latency

	rm -rf "$dir"
	mkdir "$dir"
	printf '\\set i random(1, %d)\nSELECT n.* FROM query AS q, LATERAL (%s) AS n WHERE q.n = :i;\n' "$queries" "$1" >"$dir/query.sql"
	sql -c 'SELECT pg_stat_nbmf_cas_reset()' >/dev/null
	(cd "$dir" && pgbench -n -M prepared -T "$seconds" -f query.sql -l --log-prefix=log >/dev/null)
	cat "$dir"/log* | awk '{ print $3 }' | sort -n |
		awk '{ a[NR] = $1 } END { printf "%d | %d | ", a[int(NR * .5) + 1], a[int(NR * .95) + 1] }'
	sql -c "SELECT cpu(\$\$SELECT count(*) FROM query AS q, LATERAL ($1 OFFSET 0) AS n WHERE q.n <= ${2:-5000}\$\$, ${2:-5000})" | tr -d '\n'
	sql -c "SELECT ' | ' || coalesce(round(avg_lookup_ms::numeric * 1000, 1)::text, '') FROM pg_stat_nbmf_cas WHERE indexrelname = 'fingerprint_cas'"
}

# the extension, and functions that make keys and measure
cas_measure_create()
{
	sql <<-'SQL'
		CREATE EXTENSION nbmf;
		CREATE FUNCTION mixed(seed bigint) RETURNS bigint LANGUAGE sql IMMUTABLE
			AS $$ SELECT hashint8extended(seed, 4711) $$;
		CREATE FUNCTION key_of(id bigint, bits bigint) RETURNS nbmf_key LANGUAGE sql IMMUTABLE
			AS $$ SELECT (md5(id::text) || ':' || lpad(to_hex(bits), 16, '0'))::nbmf_key $$;
		-- microseconds of CPU of one of a statement's parts (as Linux counts them), the least of five
		CREATE FUNCTION cpu(query text, parts integer) RETURNS numeric LANGUAGE plpgsql AS $$
		DECLARE
			best numeric := 'Infinity';
			start numeric;
		BEGIN
			FOR i IN 1 .. 5 LOOP
				start := split_part(pg_read_file('/proc/self/schedstat'), ' ', 1);
				EXECUTE query;
				best := least(best, split_part(pg_read_file('/proc/self/schedstat'), ' ', 1)::numeric - start);
			END LOOP;
			RETURN round(best / parts / 1000, 1);
		END $$;
	SQL
}

# A cancel is served in the middle of a bucket's long chain: by an insert that looks
# for room, by a search, and by VACUUM.
use strict;
use warnings FATAL => 'all';

use NbmfTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(sleep);

my $node = new_node('main',
	conf => "shared_buffers = 128MB\nfsync = off\nclient_min_messages = warning\nbacktrace_functions = 'ProcessInterrupts'\n");

$node->start;
$node->safe_psql('postgres', 'CREATE EXTENSION nbmf');
create_keys($node, 'postgres');

# Making the index's key cancels a backend, if the row says so: whatever happens in the
# index afterwards has that before it
$node->safe_psql(
	'postgres', q{
	CREATE FUNCTION cancels(int) RETURNS boolean LANGUAGE internal IMMUTABLE STRICT AS 'pg_cancel_backend';
	CREATE TABLE chain (id int, pid int, key nbmf_key);
	CREATE INDEX chain_key ON chain USING nbmf_cas ((CASE WHEN pid = 0 OR cancels(pid) THEN key END));
	INSERT INTO chain SELECT i, 0, key_of(1, 5) FROM generate_series(1, 100000) AS i;
	VACUUM chain;
	DELETE FROM chain WHERE id = 700;
	VACUUM (INDEX_CLEANUP on) chain;
	INSERT INTO chain VALUES (700, 0, key_of(1, 5))});
is( $node->safe_psql('postgres',
		"SELECT max(n) > 150 FROM (SELECT count(*) FILTER (WHERE type = 'overflow') AS n FROM generate_series(0, pg_relation_size('chain_key') / 8192 - 1) AS i, nbmf_index_page('chain_key', i) GROUP BY \"table\") AS c"),
	't', 'there are long chains');

#
# Insert: the chain's hint is a page that has just been filled, all others are full, too.
# An insert that is cancelled on its way to the end leaves no entry.
#
is(sqlstate_of($node, 'postgres', 'INSERT INTO chain VALUES (0, pg_backend_pid(), key_of(1, 5))'),
	'57014', 'insert: cancelled');
is($node->safe_psql('postgres', "SELECT nbmf_index_check('chain_key', true)"),
	'100000', 'insert: before it had reached the end of the chain');
$node->safe_psql('postgres', 'INSERT INTO chain VALUES (100001, 0, key_of(1, 5))');
is($node->safe_psql('postgres', "SELECT nbmf_index_check('chain_key', true)"),
	'100001', 'insert: the next one does');

#
# Search: lookups that find nothing walk the whole chain each; where they are when they are
# cancelled is what the server's backtraces say
#
$node->safe_psql('postgres',
	'CREATE INDEX chain_tenant ON chain USING nbmf_cas (id, key)');
sub served_in_chain
{
	my ($sql) = @_;
	my $before = -s $node->logfile;
	my $log;
	my $served = 0;

	foreach my $ms (50, 100, 150, 200, 250)
	{
		is( sqlstate_of($node, 'postgres',
				"SET enable_seqscan = off; SET enable_bitmapscan = off; SET enable_memoize = off; SET max_parallel_workers_per_gather = 0; SET jit = off; SET statement_timeout = $ms; $sql"),
			'57014', "cancelled after $ms ms");
	}
	$log = slurp_file($node->logfile, $before);
	return undef if $log !~ /BACKTRACE/;
	# a name, or where in the library there is nothing exported, from its symbols
	foreach my $trace (split /BACKTRACE/, $log)
	{
		$served++ if $trace =~ /\bnbmf_cas_pause\b/ || in_function('nbmf_cas_pause', $trace);
	}
	return $served;
}

# Does a backtrace have an address in that function, by the library's symbols?
sub in_function
{
	my ($name, $trace) = @_;

	while ($trace =~ m{^\s*(\S+nbmf\S*)\(\+0x([0-9a-f]+)\)}mg)
	{
		my ($library, $at) = ($1, hex $2);
		my ($symbols) = run_command([ 'nm', '-S', '--defined-only', $library ]);

		return 1
		  if $symbols =~ /^([0-9a-f]+) ([0-9a-f]+) \w \Q$name\E$/m
		  && $at >= hex $1
		  && $at < hex($1) + hex $2;
	}
	return 0;
}

my $served = served_in_chain(
	'SELECT count(*) FROM (SELECT generate_series(1, 100000000) AS g) AS n, LATERAL (SELECT 1 FROM chain WHERE id = -g AND key = key_of(1, 5) OFFSET 0) AS c');
SKIP:
{
	skip 'the server makes no backtraces', 1 if !defined $served;
	cmp_ok($served, '>=', 3, 'search: within the chain');
}
$node->safe_psql('postgres', 'DROP INDEX chain_tenant');

#
# VACUUM: it may read a page each 10 ms or more; the heap is read in an instant, and so
# would be the buckets without their chains
#
$node->safe_psql('postgres', 'VACUUM chain; DELETE FROM chain WHERE id = 500');
my $vacuum = start_session($node, 'postgres',
	"SET vacuum_cost_delay = 10; SET vacuum_cost_limit = 1;\nVACUUM (INDEX_CLEANUP on, PARALLEL 0) chain;\n");
$node->poll_query_until('postgres',
	"SELECT phase = 'vacuuming indexes' FROM pg_stat_progress_vacuum")
  or die 'VACUUM never gets to the index';
sleep 1.5;
$node->safe_psql('postgres', 'SELECT pg_cancel_backend(pid) FROM pg_stat_progress_vacuum');
isnt(finish_session($vacuum), 0, 'VACUUM: cancelled');
like($vacuum->{err}, qr/canceling statement.*while vacuuming index "chain_key"/s, 'VACUUM: within the chain');
like($node->safe_psql('postgres', "SELECT nbmf_index_check('chain_key', true)"),
	qr/^10000[01]$/, 'VACUUM: the index is whole');
$node->safe_psql('postgres', 'VACUUM (INDEX_CLEANUP on) chain');
is($node->safe_psql('postgres', "SELECT nbmf_index_check('chain_key', true)"),
	'100000', 'VACUUM: the next one ends');
$node->stop;
done_testing();

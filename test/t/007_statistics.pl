# pg_stat_nbmf.  With nbmf preloaded, counters are shared by the sessions of a
# database, exact under concurrency, kept by a clean restart and by nothing
# else; and no file that is not whole keeps the server from starting.  Without
# preloading a session counts for itself and the view says so.
use strict;
use warnings FATAL => 'all';

use NbmfTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(usleep);

my $counters = q{
	SELECT values_encoded, values_decoded, raw_bytes, stored_bytes, decoded_bytes,
		encode_errors, decode_errors, preloaded
	FROM pg_stat_nbmf};
my $zero = '0|0|0|0|0|0|0|';

# A damaged value: stored text with a wrong checksum
my $damaged = q{frame_as_nbmf('\x0000000000616263')};

#
# Without preloading
#
my $plain = new_node('plain');
$plain->start;
$plain->safe_psql('postgres', 'CREATE EXTENSION nbmf');
create_aliases($plain, 'postgres');
is( $plain->safe_psql(
		'postgres', qq{
		CREATE TABLE doc (v nbmf);
		INSERT INTO doc SELECT nbmf_encode(repeat('x', i)) FROM generate_series(1, 10) AS i;
		$counters}),
	'10|0|55|115|0|0|0|f',
	'plain: a session counts what it does, and is not preloaded');
is($plain->safe_psql('postgres', $counters),
	"${zero}f", 'plain: the next session begins at zero');
is( $plain->safe_psql(
		'postgres', qq{
		SELECT count(v::text) FROM doc;
		SELECT count(v::text) FROM doc WHERE length(v::text) > 5;
		DO \$\$ BEGIN PERFORM $damaged\::text; EXCEPTION WHEN data_corrupted THEN END \$\$;
		$counters;
		SELECT pg_stat_nbmf_reset();
		$counters}),
	"10\n5\n0|25|0|0|150|0|1|f\n\n${zero}f",
	'plain: decoding, errors and reset');
is( $plain->safe_psql(
		'postgres', q{
		SET nbmf.latency_sample = 0;
		SELECT length(repeat('y', 1000)::nbmf::text);
		SELECT encode_p50_ms IS NULL, decode_p95_ms IS NULL, avg_latency_ms IS NULL,
			error_rate FROM pg_stat_nbmf;
		SET nbmf.latency_sample = 1;
		SELECT count(nbmf_encode(repeat('z', i))::text) FROM generate_series(1, 1000) AS i;
		SELECT encode_p50_ms > 0, encode_p50_ms <= encode_p95_ms, decode_p50_ms > 0,
			decode_p50_ms <= decode_p95_ms, avg_latency_ms BETWEEN 1e-6 AND 1000
		FROM pg_stat_nbmf}),
	"1000\nt|t|t|0\n1000\nt|t|t|t|t",
	'plain: latencies are of what is timed');
$plain->stop;
ok(!-e $plain->data_dir . '/pg_stat/nbmf.stat', 'plain: no file is written');

#
# Preloaded
#
my $node = new_node('main',
	conf => "shared_preload_libraries = 'nbmf'\nrestart_after_crash = on\n"
	  . "max_connections = 30\n");
my $file = $node->data_dir . '/pg_stat/nbmf.stat';
$node->start;
foreach my $db ('one', 'two')
{
	$node->safe_psql('postgres', "CREATE DATABASE $db");
	$node->safe_psql($db, 'CREATE EXTENSION nbmf');
	create_aliases($node, $db);
}
is($node->safe_psql('one', $counters), "${zero}t", 'preloaded, and zero');

# Sizes are those of the content, and of the values in their rows
create_documents($node, 'one', @unicode_any);
$node->safe_psql(
	'one', q{
	CREATE TABLE doc (id int, v nbmf);
	INSERT INTO doc SELECT id, body FROM document});
my $encoded = $node->safe_psql(
	'one', q{
	SELECT count(*), 0, sum((nbmf_info(v)).raw_bytes), sum((nbmf_info(v)).stored_bytes),
		0, 0, 0, true FROM doc});
is($node->safe_psql('one', $counters),
	$encoded, 'what was encoded is counted, and headers cost nothing');
is( $node->safe_psql(
		'one', q{
		SELECT sum(CASE WHEN nbmf_kind(v) = 'bytea' THEN (length(body) - 2) / 2
						WHEN nbmf_kind(v) = 'vector' THEN 4 * cardinality(body::real[])
						ELSE octet_length(body) END)
			= (SELECT raw_bytes FROM pg_stat_nbmf)
		FROM doc JOIN document USING (id)}),
	't',
	'raw bytes are those of the documents');
is( $node->safe_psql(
		'one', q{
		SELECT compression_ratio = raw_bytes::float8 / stored_bytes, error_rate,
			(SELECT sum(pg_column_size(v)) FROM doc)
				- (stored_bytes - 4 * (SELECT count(*) FROM doc WHERE pg_column_size(v) > 1996))
				BETWEEN 0 AND 4 * (SELECT count(*) FROM doc)
		FROM pg_stat_nbmf}),
	't|0|t',
	'compression ratio and error rate follow');

my ($count, undef, $raw, $stored) = split /\|/, $encoded;
$node->safe_psql('one',
	'BEGIN; SELECT sum(length(v::text)) FROM doc; ROLLBACK');
is( $node->safe_psql('one', $counters),
	"$count|$count|$raw|$stored|$raw|0|0|t",
	'what was decoded is counted, rolled back or not');
is($node->safe_psql('two', $counters),
	"${zero}t", 'the other database has counted nothing');

# What others see of a transaction that is open: nothing yet
my $open = start_session($node, 'two',
	"BEGIN;\nSELECT 'begun', length('x'::text::nbmf::text);\nSELECT pg_sleep(1.5);\nCOMMIT;\n"
);
$node->poll_query_until('two',
	"SELECT count(*) = 1 FROM pg_stat_activity WHERE wait_event = 'PgSleep'");
is($node->safe_psql('two', $counters),
	"${zero}t", 'an open transaction is not yet counted');
is(finish_session($open), 0, 'the transaction ends');
is($node->safe_psql('two', $counters), '1|1|1|7|1|0|0|t', 'and is counted');

# Errors are counted, of transactions that fail too
is(sqlstate_of($node, 'two', "SELECT $damaged\::text"),
	'XX001', 'a damaged value');
is($node->safe_psql('two', "SELECT nbmf_verify($damaged)"), 'f', 'verified');
is( $node->safe_psql(
		'two',
		'SELECT encode_errors, decode_errors, error_rate FROM pg_stat_nbmf'),
	'0|2|0.5',
	'errors are counted');

# Parallel workers count for the same database
is( $node->safe_psql(
		'two', q{
		CREATE TABLE many (v nbmf);
		INSERT INTO many SELECT nbmf_encode(repeat('w', 100 + i % 10))
			FROM generate_series(1, 5000) AS i;
		SELECT pg_stat_nbmf_reset();
		SET parallel_setup_cost = 0; SET parallel_tuple_cost = 0;
		SET min_parallel_table_scan_size = 0; SET parallel_leader_participation = off;
		SELECT sum(length(v::text)) FROM many}),
	"\n522500",
	'a parallel query');
like(
	$node->safe_psql(
		'two', q{
		SET parallel_setup_cost = 0; SET parallel_tuple_cost = 0;
		SET min_parallel_table_scan_size = 0; SET parallel_leader_participation = off;
		EXPLAIN (COSTS off) SELECT sum(length(v::text)) FROM many}),
	qr/Gather/,
	'it is parallel');
is( $node->safe_psql('two', $counters),
	'0|5000|0|0|522500|0|0|t',
	'parallel workers have counted');

# Many at once, and nothing gets lost
my $script = $node->basedir . '/bench.sql';
append_to_file($script,
	"SELECT length(nbmf_encode(repeat('v', 200))::text), :client_id;\n");
$node->safe_psql('two', 'SELECT pg_stat_nbmf_reset()');
my @size = split /\|/,
  $node->safe_psql('one',
	"SELECT (i).raw_bytes, (i).stored_bytes FROM nbmf_info(nbmf_encode(repeat('v', 200))) AS i"
  );
command_ok(
	[
		'pgbench', '-n', '-c', '8', '-j', '2', '-t', '250', '-f', $script,
		connection($node), 'two'
	],
	'eight clients');
is( $node->safe_psql('two', $counters),
	join('|',
		2000, 2000, map({ 2000 * $_ } $size[0], $size[1], $size[0]),
		0, 0, 't'),
	'their sums are exact');
is( $node->safe_psql(
		'two', q{
		SELECT encode_p50_ms > 0, encode_p50_ms <= encode_p95_ms, decode_p50_ms > 0,
			decode_p50_ms <= decode_p95_ms, avg_latency_ms > 0 FROM pg_stat_nbmf}),
	't|t|t|t|t',
	'they were timed');

#
# Who may look
#
$node->safe_psql(
	'two', q{
	CREATE ROLE nobody LOGIN;
	CREATE ROLE watcher LOGIN IN ROLE pg_read_all_stats;
	CREATE ROLE resetter LOGIN IN ROLE pg_monitor;
	GRANT EXECUTE ON FUNCTION pg_stat_nbmf_reset() TO resetter});
foreach my $sql (
	'SELECT * FROM pg_stat_nbmf',
	'SELECT nbmf_stat()',
	'SELECT pg_stat_nbmf_reset()')
{
	is(sqlstate_of($node, 'two', $sql, '-U', 'nobody'),
		'42501', "nobody may not: $sql");
}
is(sqlstate_of($node, 'two', $counters, '-U', 'watcher'),
	'none', 'a member of pg_read_all_stats may look');
is( $node->safe_psql('two', $counters, extra_params => [ '-U', 'watcher' ]),
	$node->safe_psql('two', $counters),
	'and sees what a superuser sees');
is( sqlstate_of($node, 'two', 'SELECT pg_stat_nbmf_reset()', '-U', 'watcher'),
	'42501',
	'but may not reset');

#
# Restarts.  The counters, with percentiles and time of the last reset
#
my $everything = 'SELECT row(s.*) FROM (SELECT * FROM pg_stat_nbmf) AS s';
my %before = map { $_ => $node->safe_psql($_, $everything) } ('one', 'two');

$node->stop('fast');
ok(-s $file, 'a clean shutdown writes the file');
my $saved = slurp_file($file);
$node->start;
ok(!-e $file, 'the start takes it away');
foreach my $db ('one', 'two')
{
	is($node->safe_psql($db, $everything),
		$before{$db}, "clean restart: counters of $db are kept");
}
$node->stop('smart');
$node->start;
is($node->safe_psql('one', $everything),
	$before{one}, 'clean restart: a second time');

$node->safe_psql('two', "SELECT 'counted'::text::nbmf");
isnt($node->safe_psql('two', $everything),
	$before{two}, 'clean restart: and counting goes on');

$node->safe_psql(
	'two',
	'SELECT pg_stat_nbmf_reset()',
	extra_params => [ '-U', 'resetter' ]);
is($node->safe_psql('two', $counters),
	"${zero}t", 'reset by whom it was granted');
is($node->safe_psql('one', $everything),
	$before{one}, 'reset: the other database is as it was');
is( $node->safe_psql(
		'two',
		q{SELECT now() - stats_reset < '1 minute', encode_p50_ms IS NULL,
		  decode_p95_ms IS NULL, avg_latency_ms IS NULL, compression_ratio IS NULL
		  FROM pg_stat_nbmf}),
	't|t|t|t|t',
	'reset: percentiles and time of reset too');

# A database that is gone
$node->safe_psql('postgres', 'CREATE DATABASE three');
$node->safe_psql('three',
	"CREATE EXTENSION nbmf; SELECT 'x'::text::nbmf; $counters");
$node->safe_psql('postgres', 'DROP DATABASE three');
$node->restart;
is($node->safe_psql('one', $everything),
	$before{one}, 'a dropped database leaves the others alone');

#
# Crashes: counters of a server that crashed are not to be trusted
#
my $pid = start_session($node, 'one', "SELECT pg_sleep(600);\n");
$node->poll_query_until('one',
	"SELECT count(*) = 1 FROM pg_stat_activity WHERE wait_event = 'PgSleep'");
kill 'KILL',
  $node->safe_psql('one',
	"SELECT pid FROM pg_stat_activity WHERE wait_event = 'PgSleep'");
finish_session($pid);
answers_again($node, 'one')
  or die 'the server does not come back';
is($node->safe_psql('one', $counters),
	"${zero}t", 'after a crash of a backend: zero');
$node->safe_psql('one', "SELECT 'after'::text::nbmf");
$node->restart;
is($node->safe_psql('one', $counters),
	'1|1|5|11|5|0|0|t',
	'and what is counted then is kept by a clean restart');

my @children = split /\n/,
  $node->safe_psql('one', 'SELECT pid FROM pg_stat_activity');
$node->kill9;
foreach my $child (@children)
{
	usleep(20_000) while kill 0, $child;
}
ok(!-e $file, 'a crash of the postmaster writes no file');
$node->start;
is($node->safe_psql('one', $counters),
	"${zero}t", 'after a crash of the postmaster: zero');

#
# Files that are not whole.  The saved one has two databases; of what can be
# read, the first may count.
#
sub start_with
{
	my ($bytes) = @_;
	my $log;

	$node->stop;
	unlink $file;
	append_to_file($file, $bytes);
	chmod 0600, $file;
	$log = -s $node->logfile;
	ok($node->start(fail_ok => 1), '... the server starts');
	return (
		scalar $node->log_contains(
			qr/LOG: .*ignoring invalid data in file "pg_stat\/nbmf.stat"/,
			$log),
		$node->safe_psql('one', $everything),
		$node->safe_psql('two', $counters));
}

my ($complains, $one, $two) = start_with($saved);
is($complains, '', 'the whole file: no complaint');
is($one, $before{one}, 'the whole file: counters are back');
isnt($two, "${zero}t", 'the whole file: of both databases');

my $half = 8 + (length($saved) - 8) / 2;
my %broken = (
	'nothing' => '',
	'one byte' => substr($saved, 0, 1),
	'the magic number only' => substr($saved, 0, 4),
	'no record' => substr($saved, 0, 8),
	'half a record' => substr($saved, 0, 100),
	'one record of two' => substr($saved, 0, $half),
	'all but a byte' => substr($saved, 0, -1),
	'another magic number' => 'x' . substr($saved, 1),
	'too many records' => substr($saved, 0, 4)
	  . pack('L', 129)
	  . substr($saved, 8),
	'garbage' => join('', map { chr(($_ * 7919) % 251) } (1 .. 10000)),
	'text' => "not a file of nbmf\n" x 500,
	'a flipped bit at the start' => substr($saved, 0, 30)
	  . chr(ord(substr($saved, 30, 1)) ^ 1)
	  . substr($saved, 31),
	'a flipped bit at the end' => substr($saved, 0, -20)
	  . chr(ord(substr($saved, -20, 1)) ^ 1)
	  . substr($saved, -19),);
foreach my $name (sort keys %broken)
{
	($complains, $one, $two) = start_with($broken{$name});
	is($complains, 1, "$name: the log says so");

	# the records are in the order of the slots, "one" came first
	if ($name =~ /two|byte$|end/ && $name ne 'one byte')
	{
		is($one, $before{one}, "$name: what is whole is kept");
	}
	else
	{
		unlike($one, qr/^\($count,/, "$name: nothing of it is taken");
	}
	is($two, "${zero}t", "$name: what is not whole is left out");
}

# something that is no file at all
$node->stop;
unlink $file;
mkdir $file;
ok($node->start(fail_ok => 1), 'a directory: the server starts');
is($node->safe_psql('two', $counters),
	"${zero}t", 'a directory: counters are zero');
$node->stop;
ok($node->start(fail_ok => 1), 'a directory: and starts again');
$node->stop;
rmdir $file;

unlike(
	slurp_file($node->logfile),
	qr/PANIC|TRAP|signal 11|signal 6/,
	'no crash but those that were made');
done_testing();

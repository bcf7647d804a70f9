# nbmf_cas over crashes: the postmaster is killed while rows are inserted,
# deleted, vacuumed and indexes are built; after recovery every index is whole
# and complete, and nothing that was committed is lost.  Unlogged indexes are
# empty and usable.
use strict;
use warnings FATAL => 'all';

use NbmfTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time usleep);

my $node = new_node('main',
	conf => "max_parallel_maintenance_workers = 2\nmax_parallel_workers = 8\nmin_parallel_table_scan_size = 0\n"
	  . "min_parallel_index_scan_size = 0\nmaintenance_work_mem = 128MB\nlog_min_messages = debug2\nmax_connections = 40\nshared_buffers = 32MB\nmax_wal_size = 1GB\n"
	  . "checkpoint_timeout = 30s\nclient_min_messages = warning\n");
my $timeout = $PostgreSQL::Test::Utils::timeout_default;

$node->start;
$node->safe_psql('postgres', 'CREATE EXTENSION nbmf');
create_keys($node, 'postgres');

# PostgreSQL with assertions has a leader of parallel workers trip over one of its own
# when the postmaster is gone ("!IsTransactionOrTransactionBlock()" in pgstat.c)
my $parallel = $node->safe_psql('postgres', 'SHOW debug_assertions') eq 'off';
$node->safe_psql('postgres', 'ALTER SYSTEM SET max_parallel_maintenance_workers = 0') if !$parallel;
$node->safe_psql(
	'postgres', q{
	CREATE TABLE crash (id int PRIMARY KEY, key nbmf_key NOT NULL);
	CREATE INDEX crash_key ON crash USING nbmf_cas (key);
	CREATE INDEX crash_id ON crash USING nbmf_cas (id, key);
	CREATE INDEX crash_part ON crash USING nbmf_cas (key) WHERE id % 2 = 1;
	CREATE TABLE once (id int, body nbmf, CONSTRAINT once_body EXCLUDE USING nbmf_cas (body WITH =));
	CREATE UNLOGGED TABLE fleeting (id int, key nbmf_key);
	CREATE INDEX fleeting_key ON fleeting USING nbmf_cas (key);
	CREATE TABLE built (id int, key nbmf_key);
	INSERT INTO built SELECT i, key_of(i, mixed(i)) FROM generate_series(1, 30000) AS i;
	CREATE SEQUENCE s});

# a third of the keys is equal or nearly so, and in chains
my %work = (
	insert => q{
		WITH n AS (SELECT nextval('s') AS n)
		INSERT INTO crash SELECT n * 300 + i, key_of(i, CASE i % 3 WHEN 0 THEN i % 6 ELSE mixed(n * 300 + i) END) FROM n, generate_series(0, 299) AS i;
		SELECT currval('s');},
	once => q{
		INSERT INTO once SELECT i, 'text ' || (random() * 2000)::int FROM generate_series(1, 20) AS i ON CONFLICT DO NOTHING;
		INSERT INTO fleeting SELECT i, key_of(i, mixed(i)) FROM generate_series(1, 20) AS i;},
	delete => q{
		DELETE FROM crash WHERE id % 300 < 30 AND id % 2 = 0;
		DELETE FROM once WHERE id % 3 = 0;
		SELECT pg_sleep(0.05);},
	vacuum => q{
		VACUUM (INDEX_CLEANUP on, PARALLEL 2) crash;
		VACUUM (INDEX_CLEANUP on) once;
		SELECT pg_sleep(0.02);},
	build => q{
		CREATE INDEX built_key ON built USING nbmf_cas (key);
		DROP INDEX built_key;},
	checkpoint => q{
		SELECT pg_sleep(0.3);
		CHECKPOINT;});

sub start_work
{
	my %sessions;

	foreach my $name (sort keys %work)
	{
		my $session = { in => $work{$name} x 2000, out => '', err => '' };

		$session->{run} = IPC::Run::start(
			[ 'psql', '-XAtq', connection($node), '-d', 'dbname=postgres', '-f', '-' ],
			'<', \$session->{in}, '>', \$session->{out}, '2>', \$session->{err},
			IPC::Run::timeout($timeout));
		$sessions{$name} = $session;
	}
	return \%sessions;
}

my $scan = q{SET enable_seqscan = off; SET enable_bitmapscan = off;};
my $oracle = q{SET enable_indexscan = off; SET enable_bitmapscan = off;};
my @seen;
srand(7);
foreach my $round (1 .. 4)
{
	my $sessions = start_work();
	my $end = time() + 1.5 + rand(1.5);

	while (time() < $end)
	{
		$_->{run}->pump_nb foreach values %$sessions;
		usleep(5_000);
	}
	kill_postmaster($node);
	foreach my $session (values %$sessions)
	{
		eval { $session->{run}->finish };
	}
	push @seen, grep { /^\d+$/ } split /\n/, $sessions->{insert}->{out} =~ s/[^\n]*\z//r;
	my $errors = join("\n", map { $_->{err} } values %$sessions);
	unlike($errors, qr/corrupted|nbmf|deadlock|ERROR/, "round $round: no errors before");

	$node->start;
	answers_again($node, 'postgres') or die 'the server does not come back';
	foreach my $index ('crash_key', 'crash_id', 'crash_part', 'once_body', 'fleeting_key')
	{
		my ($ret, $out, $err) = $node->psql('postgres', "SELECT nbmf_index_check('$index', true)");
		is($err, '', "round $round: $index is whole and complete");
	}
	is($node->safe_psql('postgres', 'SELECT count(*) FROM fleeting'),
		'0', "round $round: what was unlogged is empty");
	my $list = join(',', @seen);
	is( $node->safe_psql('postgres',
			"SELECT n FROM unnest('{$list}'::int[]) AS n WHERE (SELECT count(*) FROM crash WHERE id = n * 300 + 299) <> 1"),
		'', "round $round: no commit is lost");
	foreach my $bits (0, 3, 5)
	{
		my $query = "SELECT count(*), sum(id) FROM crash WHERE key ~= key_of(0, $bits)";
		is( $node->safe_psql('postgres', "$scan $query"),
			$node->safe_psql('postgres', "$oracle $query"),
			"round $round: the index finds what is there");
	}
	is( $node->safe_psql('postgres',
			"$oracle SELECT body FROM once GROUP BY body HAVING count(*) > 1"),
		'', "round $round: the constraint holds");
	$node->safe_psql('postgres', 'DROP INDEX IF EXISTS built_key; CREATE INDEX built_key ON built USING nbmf_cas (key)');
	is( $node->safe_psql('postgres', "SELECT nbmf_index_check('built_key', true)"),
		'30000', "round $round: an index can be built");
	$node->safe_psql('postgres', 'DROP INDEX built_key; VACUUM (INDEX_CLEANUP on) crash');
}
my $log = slurp_file($node->logfile);
SKIP:
{
	skip 'a server with assertions has no parallel workers here', 2 if !$parallel;
	like($log, qr/launched [1-9]\d* parallel vacuum workers? for index vacuuming/, 'VACUUM had parallel workers');
	like($log, qr/is built with 2 of 2 parallel workers/, 'of builds, too');
}
unlike($log, qr/PANIC|TRAP|signal 11|signal 6/, 'no crash but those that were made');
$node->stop;
done_testing();

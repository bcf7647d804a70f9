# Crashes: a backend or the postmaster is killed with kill -9 while COPY,
# UPDATE, DELETE and VACUUM run side by side, and the server recovers.
#
# Each row holds its document twice, as nbmf and as plain text, written by the
# same statement.  So after recovery they must be equal in every row, every
# value must verify, the hash index must find every row, and every row whose
# commit a client has seen must be there.
use strict;
use warnings FATAL => 'all';

use NbmfTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(usleep);

my $node = new_node('main',
	conf => "restart_after_crash = on\nmax_wal_size = 64MB\n"
	  . "checkpoint_timeout = 30s\nshared_buffers = 16MB\nmax_connections = 30\n"
);
my $copy_file = $node->basedir . '/rows.csv';

$node->start;
$node->safe_psql('postgres', 'CREATE EXTENSION nbmf');
create_documents($node, 'postgres', @unicode_any);
$node->safe_psql(
	'postgres', qq{
	CREATE TABLE crash (id bigserial PRIMARY KEY, source int, v nbmf, oracle text);
	CREATE INDEX crash_v ON crash USING hash (v);
	CREATE TABLE small AS SELECT id, body FROM document WHERE length(body) < 150000;
	CREATE UNIQUE INDEX ON small (id);
	COPY (SELECT 1, body, body FROM small) TO '$copy_file' (FORMAT csv)});

# What runs while the server is killed.  The clients stop when it is gone.
# Deadlocks between the two updates are no matter here.
my %work = (
	copy =>
	  "COPY crash (source, v, oracle) FROM '$copy_file' (FORMAT csv);\n",
	update => q{
		UPDATE crash SET v = s.body, oracle = s.body
		FROM small AS s WHERE s.id = (crash.id * 7 + txid_current()) % 180 + 1
			AND crash.id % 11 = txid_current() % 11;},
	update_back => q{
		WITH c AS (SELECT id, oracle || ' and more' AS new FROM crash
				   WHERE id % 13 = txid_current() % 13 AND length(oracle) < 50000
				   FOR UPDATE SKIP LOCKED)
		UPDATE crash SET v = c.new, oracle = c.new FROM c WHERE c.id = crash.id;},
	delete => q{
		DELETE FROM crash WHERE source = 1 AND id % 5 = txid_current() % 5;
		VACUUM crash;},
	insert => q{
		INSERT INTO crash (source, v, oracle)
		SELECT 2, body || '!', body || '!' FROM small
		WHERE id = (SELECT txid_current() % 180 + 1)
		RETURNING id;},);

# Wait until the work is well under way
sub wait_for_work
{
	my ($sessions, $millis) = @_;

	$node->poll_query_until('postgres',
			'SELECT count(DISTINCT application_name) = '
		  . scalar(keys %work)
		  . " FROM pg_stat_activity WHERE application_name IN ('"
		  . join("', '", sort keys %work) . "')")
	  or die 'the work does not start';
	my $deadline = Time::HiRes::time() + $millis / 1000;
	while (Time::HiRes::time() < $deadline
		|| $sessions->{insert}->{out} !~ /^\d+\n/)
	{
		$_->{run}->pump_nb foreach values %$sessions;
		usleep(10_000);
	}
	return;
}

sub check_all
{
	my ($what, @seen) = @_;

	is( $node->safe_psql(
			'postgres', q{
			SELECT id, source, length(oracle), length(v::text) FROM crash
			WHERE v::text IS DISTINCT FROM oracle OR v IS NULL ORDER BY id}),
		'',
		"$what: every row holds its document");
	is_deeply([ verify_columns($node, 'postgres') ],
		['1'], "$what: all columns verify");
	is( $node->safe_psql(
			'postgres', q{
			SET enable_seqscan = off; SET enable_hashjoin = off;
			SET enable_mergejoin = off; SET enable_bitmapscan = off;
			SET enable_memoize = off; SET enable_material = off;
			SELECT a.id, a.source FROM
				(SELECT * FROM crash WHERE id % 5 = 0 ORDER BY id DESC LIMIT 2000) AS a
			WHERE NOT EXISTS (SELECT FROM crash AS b WHERE b.v = a.v AND b.id + 0 = a.id)
			ORDER BY 1}),
		'',
		"$what: the hash index finds every row");

	my $ids = join(',', @seen);
	cmp_ok(scalar(@seen), '>', 20, "$what: clients have seen commits");
	is( $node->safe_psql(
			'postgres',
			"SELECT id FROM unnest('{$ids}'::bigint[]) AS id
			 EXCEPT SELECT id FROM crash ORDER BY 1"),
		'',
		"$what: no commit is lost");
	return;
}

srand(20240613);
my @seen;
my $round = 0;
foreach my $victim ('copy', 'postmaster', 'update', 'postmaster')
{
	my $what = 'round ' . ++$round . ", $victim killed";
	my $log = -s $node->logfile;
	my $sessions = start_repeating($node, 'postgres', 3000, %work);

	wait_for_work($sessions, 700 + int(rand(600)));
	if ($victim eq 'postmaster')
	{
		kill_postmaster($node);
	}
	else
	{
		my $pid;

		# in the middle of a statement
		for (1 .. 1000)
		{
			$pid = $node->safe_psql(
				'postgres',
				"SELECT pid FROM pg_stat_activity
				 WHERE application_name = '$victim' AND state = 'active'");
			last if $pid ne '';
		}
		like($pid, qr/^\d+$/, "$what: backend found");
		kill 'KILL', $pid;
	}
	foreach my $session (values %$sessions)
	{
		# ends with an error: its server is gone
		eval { $session->{run}->finish };
	}
	# the last line may not be whole
	my @new = grep { /^\d+$/ } split /\n/,
	  $sessions->{insert}->{out} =~ s/[^\n]*\z//r;
	push @seen, @new;

	$node->start if $victim eq 'postmaster';
	answers_again($node, 'postgres')
	  or die 'the server does not come back';
	ok( $node->log_contains(
			qr/automatic recovery in progress|was not properly shut down/,
			$log),
		"$what: the server has recovered");
	check_all($what, @seen);
	my ($errors) = join("\n", map { $_->{err} } values %$sessions);
	unlike($errors, qr/nbmf|out of memory|damaged/, "$what: no other errors");
}

# and goes on working
$node->safe_psql('postgres', $work{$_})
  foreach ('copy', 'update', 'update_back', 'delete', 'insert');
check_all('afterwards', @seen);
unlike(
	slurp_file($node->logfile),
	qr/PANIC|TRAP|signal 11|signal 6/,
	'no crash but those that were made');
$node->stop;
done_testing();

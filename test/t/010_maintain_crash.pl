# Crashes of nbmf.train and nbmf.maintain: the backend that runs them, or the
# postmaster, is killed with kill -9 at any moment, while others write to the
# same table.
#
# Each row holds its document twice, as nbmf and as plain text, written by the
# same statement; maintenance writes the one and must not change what it says.
# So after recovery they are equal in every row, every value verifies, the
# index on an expression agrees, and every object that a value refers to is
# there.
use strict;
use warnings FATAL => 'all';

use NbmfTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time usleep);

my $node = new_node('main',
	conf => "restart_after_crash = on\nmax_wal_size = 64MB\n"
	  . "checkpoint_timeout = 30s\nshared_buffers = 16MB\nmax_connections = 30\n"
	  . "client_min_messages = warning\n");

$node->start;
$node->safe_psql('postgres', 'CREATE EXTENSION nbmf');
create_records($node, 'postgres', 1500);
$node->safe_psql(
	'postgres', q{
	CREATE TABLE crash (id bigserial PRIMARY KEY, tenant text, body nbmf, oracle text);
	CREATE INDEX crash_md5 ON crash (md5(body::text));
	SELECT nbmf.attach('crash', 'body', class => 'legal', tenant_by => 'tenant');
	INSERT INTO crash (tenant, body, oracle) SELECT tenant, d, d FROM record});

# The writers do not meet, so that they cannot wait for each other in a circle;
# whoever deadlocks has done so with maintenance.  Attaching anew makes new dictionaries, and all values due
my %work = (
	maintain => q{
		CALL nbmf.train('crash', 'body');
		CALL nbmf.maintain('crash');
		SELECT nbmf.detach('crash', 'body'), nbmf.attach('crash', 'body',
			class => (ARRAY['legal', 'general', 'chat'])[1 + txid_current() % 3], tenant_by => 'tenant');
		CALL nbmf.maintain();
		SELECT 'maintained';},
	update => q{
		UPDATE crash SET body = s.d, oracle = s.d, tenant = s.tenant
		FROM (SELECT tenant, record_text(n + txid_current()::int, tenant) AS d, n FROM record) AS s
		WHERE s.n = 1 + crash.id % 1500 AND crash.id % 2 = 1
			AND crash.id % 41 = txid_current() % 41;},
	insert => q{
		INSERT INTO crash (tenant, body, oracle)
		SELECT tenant, d, d FROM record WHERE n % 97 = txid_current() % 97
		RETURNING id;
		SELECT pg_sleep(0.005);},
	delete => q{
		DELETE FROM crash WHERE id % 2 = 0 AND id > 1000 AND id % 13 = txid_current() % 13;
		SELECT pg_sleep(0.02);},
	vacuum => q{
		VACUUM crash;
		SELECT pg_sleep(0.1);},);

# Until maintenance has come round once, and then for a moment
sub wait_for_work
{
	my ($sessions, $seconds) = @_;
	my $deadline;

	while (!defined $deadline || time() < $deadline)
	{
		$_->{run}->pump_nb foreach values %$sessions;
		$deadline //= time() + $seconds
		  if $sessions->{maintain}->{out} =~ /maintained/
		  && $sessions->{insert}->{out} =~ /\d\n/;
		usleep(5_000);
	}
	return;
}

sub check_all
{
	my ($what, @seen) = @_;

	is( $node->safe_psql(
			'postgres', q{
			SELECT id, length(oracle), length(body::text) FROM crash
			WHERE body::text IS DISTINCT FROM oracle OR body IS NULL ORDER BY id LIMIT 20}),
		'',
		"$what: every row holds its document");
	is($node->safe_psql('postgres', q{SELECT * FROM nbmf_verify_table('crash', 'body')}),
		'', "$what: all values verify");
	is( $node->safe_psql(
			'postgres', q{
			SELECT id, (nbmf_info(body)).object FROM crash
			WHERE (nbmf_info(body)).object NOT IN (SELECT id FROM nbmf.object) LIMIT 20}),
		'',
		"$what: no value refers to an object that is not there");
	is( $node->safe_psql(
			'postgres', q{
			SELECT count(*) FROM crash AS c JOIN nbmf.object AS o ON o.id = (nbmf_info(body)).object
			WHERE o.tenant <> c.tenant}),
		'0',
		"$what: nor to one of another tenant");
	is( $node->safe_psql(
			'postgres', q{
			SELECT count(*), max(id) <= (SELECT last_value FROM nbmf.object_id) FROM nbmf.object
			WHERE id IN (SELECT id FROM nbmf.object GROUP BY id HAVING count(*) > 1)
				OR id = (SELECT max(id) FROM nbmf.object)}),
		'1|t',
		"$what: ids are what they have to be");
	is( $node->safe_psql(
			'postgres', q{
			SET enable_seqscan = off; SET enable_hashjoin = off; SET enable_mergejoin = off;
			SELECT a.id FROM (SELECT id, oracle FROM crash WHERE id % 7 = 0 ORDER BY id LIMIT 1000) AS a
			WHERE NOT EXISTS (SELECT FROM crash AS b WHERE md5(b.body::text) = md5(a.oracle) AND b.id = a.id)}),
		'',
		"$what: the index finds every row");
	is( $node->safe_psql('postgres',
			"SELECT count(*) FROM pg_trigger WHERE tgname = 'zz_nbmf_body'")
		  eq $node->safe_psql('postgres', 'SELECT count(*) FROM nbmf.attachment')
		? 'yes'
		: 'no',
		'yes',
		"$what: the column is attached or not, as a whole");

	# ids that are deleted again are not asked for
	my $ids = join(',', grep { $_ <= 1000 } @seen);
	is( $node->safe_psql(
			'postgres',
			"SELECT id FROM unnest('{$ids}'::bigint[]) AS id EXCEPT SELECT id FROM crash"),
		'',
		"$what: no commit is lost");
	return;
}

srand(20240702);
my @seen = (1 .. 1000);
my $round = 0;
foreach my $victim ('maintain', 'postmaster', 'maintain', 'postmaster')
{
	my $what = 'round ' . ++$round . ", $victim killed";
	my $log = -s $node->logfile;
	my $sessions = start_repeating($node, 'postgres', 2000, %work);

	wait_for_work($sessions, rand(1));
	if ($victim eq 'postmaster')
	{
		kill_postmaster($node);
	}
	else
	{
		my $pid;

		for (1 .. 1000)
		{
			$pid = $node->safe_psql(
				'postgres', q{
				SELECT pid FROM pg_stat_activity
				WHERE application_name = 'maintain' AND state = 'active' AND query ~ 'CALL'});
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
	push @seen, grep { /^\d+$/ } split /\n/,
	  $sessions->{insert}->{out} =~ s/[^\n]*\z//r;

	$node->start if $victim eq 'postmaster';
	answers_again($node, 'postgres')
	  or die 'the server does not come back';
	ok( $node->log_contains(
			qr/automatic recovery in progress|was not properly shut down/,
			$log),
		"$what: the server has recovered");
	check_all($what, @seen);
	my $errors = join("\n", map { $_->{err} } values %$sessions);
	unlike($errors, qr/nbmf|out of memory|damaged|deadlock/,
		"$what: no other errors");
	$node->safe_psql('postgres', q{
		SELECT nbmf.attach('crash', 'body') WHERE NOT EXISTS (SELECT FROM nbmf.attached)});
}

# and goes on working
$node->safe_psql('postgres', "CALL nbmf.train('crash', 'body'); CALL nbmf.maintain()");
check_all('afterwards', @seen);
unlike(
	slurp_file($node->logfile),
	qr/PANIC|TRAP|signal 11|signal 6/,
	'no crash but those that were made');
$node->stop;
done_testing();

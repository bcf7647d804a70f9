# Passes of nbmf.maintain: what others see while one runs, that no two run on a
# column, that what was stopped is gone on with, by whatever it was stopped,
# and that what is remembered as done is never more than what was done.
#
# Half of the values are noise, which maintenance tries and leaves as it is:
# how many it decodes says what it has tried again.
use strict;
use warnings FATAL => 'all';

use NbmfTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = new_node(
	'main',
	allows_streaming => 1,
	conf => "restart_after_crash = on\nmax_connections = 40\nshared_buffers = 32MB\n"
	  . "max_prepared_transactions = 10\nfsync = off\nclient_min_messages = warning\n");
my $rows = 800;

$node->start;
$node->safe_psql('postgres', 'CREATE EXTENSION nbmf');
create_records($node, 'postgres', $rows);

# Table NAME (n, body, oracle) of some four batches, with few rows on a block;
# maintenance waits for advisory lock 42 at row "stop", if another session has
# that lock.
$node->safe_psql(
	'postgres', q{
	CREATE ROLE owner LOGIN;
	CREATE ROLE stranger LOGIN;
	CREATE ROLE watcher LOGIN;
	GRANT pg_read_all_stats TO watcher;
	GRANT ALL ON SCHEMA public TO owner;
	CREATE TABLE stop (tab text, n int);
	GRANT SELECT ON stop TO PUBLIC;
	CREATE FUNCTION pause(tab text, place int) RETURNS boolean LANGUAGE plpgsql AS $$
	BEGIN
		IF current_setting('session_replication_role') = 'replica'
			AND (tab, place) = (SELECT s.tab, s.n FROM public.stop s) THEN
			PERFORM pg_advisory_lock_shared(42);
			PERFORM pg_advisory_unlock_shared(42);
		END IF;
		RETURN true;
	END $$;
	CREATE FUNCTION noise_text(n int) RETURNS text LANGUAGE sql IMMUTABLE AS $$
		SELECT '\x' || md5('a' || n) || md5('b' || n) $$;
	CREATE PROCEDURE make_table(name text) LANGUAGE plpgsql AS $$
	BEGIN
		EXECUTE format('CREATE TABLE %1$I (n int PRIMARY KEY, body nbmf, oracle text, CHECK (pause(%1$L, n)))
			WITH (fillfactor = 10)', name);
		EXECUTE format('ALTER TABLE %I OWNER TO owner', name);
		PERFORM nbmf.attach(name, 'body');
		EXECUTE format('INSERT INTO %I SELECT n, t, t FROM record,
			LATERAL (SELECT CASE n %% 2 WHEN 0 THEN d ELSE noise_text(n) END) AS s (t) ORDER BY n', name);
	END $$});

sub session_with_pid
{
	my ($server, @params) = @_;
	my $session = open_session($server // $node, 'postgres', @params);

	$session->{pid} = ask($session, 'SELECT pg_backend_pid()');
	return $session;
}

sub make_table
{
	my ($name) = @_;

	$node->safe_psql('postgres', "CALL make_table('$name')");
	return;
}

sub progress
{
	my ($columns, @params) = @_;
	my ($ret, $out, $err) = $node->psql('postgres',
		"SELECT $columns FROM pg_stat_progress_nbmf", extra_params => \@params);

	return "$out$err";
}

sub pass_of
{
	my ($table, $columns) = @_;

	return $node->safe_psql('postgres',
		"SELECT $columns FROM nbmf.pass WHERE relation = '$table'::regclass");
}

# Begin maintenance in a session, and wait until it stands still at a row
my $locker = session_with_pid();

sub stand_still
{
	my ($session, $table, $row) = @_;

	ask($locker, 'SELECT pg_advisory_lock(42)');
	$node->safe_psql('postgres', "TRUNCATE stop; INSERT INTO stop VALUES ('$table', $row)");
	request($session, "CALL nbmf.maintain('$table')");
	$node->poll_query_until('postgres',
		"SELECT count(*) > 0 FROM pg_stat_activity WHERE pid = $session->{pid} AND wait_event = 'advisory'"
	) or die 'maintenance does not stand still';
	return;
}

sub go_on
{
	ask($locker, 'SELECT pg_advisory_unlock_all()');
	$node->safe_psql('postgres', 'TRUNCATE stop');
	return;
}

# Block of the batch in which a row is, in a table that nobody has updated yet
sub batch_of
{
	my ($table, $row) = @_;

	return $node->safe_psql('postgres',
		"SELECT (ctid::text::point)[0]::int / 64 * 64 FROM $table WHERE n = $row");
}

# Maintain in a session; returns the values that were decoded for being tried,
# which without preloading are those of the session
sub maintain
{
	my ($table, $session) = @_;
	my $own = $session // session_with_pid();
	my ($out, $err) = ask($own, qq{
		SELECT FROM pg_stat_nbmf_reset();
		CALL nbmf.maintain('$table');
		SELECT values_decoded FROM pg_stat_nbmf});

	close_session($own) if !defined $session;
	$out =~ s/\A\n+//;
	return $err eq '' ? $out : $err;
}

sub is_right
{
	my ($table, $what, $server) = @_;

	$server //= $node;
	is( $server->safe_psql(
			'postgres',
			"SELECT n FROM $table WHERE body::text IS DISTINCT FROM oracle LIMIT 20"),
		'',
		"$what: every row holds its document");
	is($server->safe_psql('postgres', "SELECT * FROM nbmf_verify_table('$table', 'body')"),
		'', "$what: all values verify");
	is( $server->safe_psql(
			'postgres', qq{
			SELECT n FROM $table WHERE oracle ~ 'id' AND (nbmf_info(body)).tier <> 'L2' LIMIT 20}),
		'',
		"$what: what gets smaller is re-encoded");
	return;
}

# How many values are still to be tried in a table, from a block on
sub untried
{
	my ($table, $block) = @_;

	return $node->safe_psql('postgres', qq{
		SELECT count(*) FROM $table
		WHERE (ctid::text::point)[0] >= $block AND (nbmf_info(body)).tier = 'L1'});
}

sub locks_of
{
	my ($session) = @_;

	return $node->safe_psql('postgres',
		"SELECT count(*) FROM pg_locks WHERE pid = $session->{pid} AND locktype = 'object'");
}

foreach my $preload ('', 'nbmf')
{
	my $how = $preload ? 'preloaded' : 'not preloaded';
	my $table = $preload ? 'seen_preloaded' : 'seen';

	if ($preload)
	{
		close_session($locker);
		$node->append_conf('postgresql.conf', "shared_preload_libraries = '$preload'");
		$node->restart;
		$locker = session_with_pid();
	}
	is($node->safe_psql('postgres', 'SELECT shared FROM pg_stat_nbmf_cache'),
		$preload ? 't' : 'f', "$how: so it is");
	make_table($table);
	make_table("other_$table");

	# in the first batch already
	my $worker = session_with_pid();
	stand_still($worker, $table, 2);
	is( progress('pid, datname, relation, "column", phase, blocks_done, values_seen, values_reencoded'),
		"$worker->{pid}|postgres|$table|body|re-encoding|0|0|0",
		"$how: a pass is seen from its beginning");
	my $blocks = $node->safe_psql('postgres', "SELECT pg_relation_size('$table') / 8192");
	is(progress('blocks_total'), $blocks, "$how: and how much there is to do");
	$node->safe_psql('postgres', "SELECT pg_terminate_backend($worker->{pid}, 10000)");
	await_answer($worker);
	is(progress('count(*)'), '0', "$how: a session that is no more is not seen");
	go_on();

	# in the third, which it has come to
	my $row = $rows * 6 / 10;
	my $block = batch_of($table, $row);
	cmp_ok($block, '>=', 64, "$how: there are batches");
	my $seen = $node->safe_psql('postgres',
		"SELECT count(*) FROM $table WHERE (ctid::text::point)[0] < $block");
	$worker = session_with_pid();
	stand_still($worker, $table, $row);
	is(progress('pid, blocks_total, blocks_done'), "$worker->{pid}|$blocks|$block",
		"$how: blocks that are done are counted");
	is( progress('values_seen, values_reencoded, values_skipped, values_damaged'),
		$node->safe_psql('postgres',
			"SELECT $seen, count(*) FILTER (WHERE (nbmf_info(body)).tier = 'L2'), 0, 0 FROM $table"),
		"$how: and values");
	is(progress("bytes_before > bytes_after AND bytes_after > 0, age(now(), started_at) < '5 minutes'"),
		't|t', "$how: and bytes");

	is(progress('count(*)', '-U', 'owner'), '1', "$how: the owner sees it");
	is(progress('count(*)', '-U', 'watcher'), '1', "$how: so does a role with pg_read_all_stats");
	is(progress('count(*)', '-U', 'stranger'), '0', "$how: another does not");

	# others do not wait
	my $second = session_with_pid($node);
	ask($second, q{SET client_min_messages = notice; SET statement_timeout = '30s'});
	my ($out, $err) = ask($second, "CALL nbmf.maintain('$table')");
	like($err, qr/NOTICE:  "$table" is being maintained by another session/,
		"$how: a second session says so");
	($out, $err) = ask($second, 'CALL nbmf.maintain()');
	like($err, qr/NOTICE:  "$table" is being maintained by another session/,
		"$how: also when it maintains all");
	like($err, qr/NOTICE:  "other_$table": \d+ of $rows values re-encoded, done/,
		"$how: and does the others");
	unlike($err, qr/ERROR|WARNING/, "$how: nothing is wrong with that");
	is(pass_of($table, 'next_block, pid'), "$block|$worker->{pid}", "$how: it leaves the first alone");

	# cancelled: the session goes on, without its lock
	$node->safe_psql('postgres', "SELECT pg_cancel_backend($worker->{pid})");
	($out, $err) = await_answer($worker);
	like($err, qr/canceling statement due to user request/, "$how: it is cancelled");
	is(progress('count(*)'), '0', "$how: it is not seen any more");
	is(locks_of($worker), '0', "$how: no lock is left behind");
	is(pass_of($table, 'next_block, phase'), "$block|re-encoding", "$how: where it stands is known");

	# terminated
	stand_still($second, $table, $row);
	is(progress('pid, blocks_done'), "$second->{pid}|$block",
		"$how: another goes on, from where the first was");
	$node->safe_psql('postgres', "SELECT pg_terminate_backend($second->{pid}, 10000)");
	await_answer($second);
	is(progress('count(*)'), '0', "$how: nor is one that is terminated");
	is(pass_of($table, 'next_block'), $block, "$how: it has not come further");

	# and gone on with
	go_on();
	my $untried = untried($table, $block);
	cmp_ok(untried($table, 0), '>', $untried + 50, "$how: there was something to be left as it is");
	is(maintain($table, $worker), $untried,
		"$how: what had been done is not done again");
	is(pass_of($table, 'next_block = blocks, phase, pass_before, tried_before > 0'),
		't|idle|0|t', "$how: then all is done");
	is_right($table, $how);
	is(maintain($table, $worker), '0', "$how: nothing is tried twice");
	close_session($worker);
}

#
# What ends it otherwise
#
my $worker = session_with_pid();
make_table('failed');
my $row = $rows * 6 / 10;
my $block = batch_of('failed', $row);
$node->safe_psql('postgres', qq{
	CREATE FUNCTION fail() RETURNS boolean LANGUAGE plpgsql AS \$\$
	BEGIN
		IF current_setting('session_replication_role') = 'replica' THEN
			RAISE 'made to fail';
		END IF;
		RETURN true;
	END \$\$;
	ALTER TABLE failed ADD CONSTRAINT fails CHECK (n <> $row OR fail())});
my ($out, $err) = ask($worker, q{CALL nbmf.maintain('failed')});
like($err, qr/ERROR:  made to fail/, 'failed: maintenance fails');
is(locks_of($worker), '0', 'failed: no lock is left behind');
is(pass_of('failed', 'next_block'), $block, 'failed: the batches before are done');
($out, $err) = ask($worker, 'SET client_min_messages = notice; CALL nbmf.maintain()');
like($err, qr/WARNING:  could not maintain table "failed"/,
	'failed: when all are maintained that is a warning');
is(locks_of($worker), '0', 'failed: no lock is left behind then either');
$node->safe_psql('postgres', 'ALTER TABLE failed DROP CONSTRAINT fails');
my $untried = untried('failed', $block);
is(maintain('failed'), $untried, 'failed: another session goes on from there');
is_right('failed', 'failed');

make_table('late');
$block = batch_of('late', $row);
stand_still($worker, 'late', $row);
ask($locker, 'SELECT 1');
$node->safe_psql('postgres', "SELECT pg_cancel_backend($worker->{pid})");
await_answer($worker);
ask($worker, "SET statement_timeout = '300ms'");
request($worker, q{CALL nbmf.maintain('late')});
($out, $err) = await_answer($worker);
ask($worker, 'RESET statement_timeout');
like($err, qr/canceling statement due to statement timeout/, 'late: the time is up');
is(locks_of($worker), '0', 'late: no lock is left behind');
is(pass_of('late', 'next_block'), $block, 'late: what was done is known');
go_on();

# A table that is rewritten under a pass that was stopped
$node->safe_psql('postgres', 'VACUUM FULL late');
$untried = untried('late', 0);
cmp_ok($untried, '>', untried('late', $block), 'rewritten: it is');
is(maintain('late'), $untried, 'rewritten: nothing is where it was, so all is tried');
is_right('late', 'rewritten');

# A column that is attached anew
$node->safe_psql('postgres', q{
	SELECT nbmf.detach('late', 'body');
	SELECT nbmf.attach('late', 'body')});
is(pass_of('late', 'tried_before, pass_before, next_block'), '0|0|0', 'attached anew: nothing is known');
maintain('late');
is_right('late', 'attached anew');

# Detached and dropped while maintenance sleeps
make_table('gone');
maintain('gone');
$node->safe_psql('postgres', q{
	TRUNCATE gone;
	ALTER TABLE gone DISABLE TRIGGER ALL;
	INSERT INTO gone SELECT n, d, d FROM record WHERE n <= 150;
	ALTER TABLE gone ENABLE ALWAYS TRIGGER zz_nbmf_body});
my $passed = pass_of('gone', 'tried_before');
request($worker, q{SET nbmf.maintain_wal_rate = 8; CALL nbmf.maintain('gone')});
$node->poll_query_until('postgres',
	"SELECT count(*) > 0 FROM nbmf.pass WHERE relation = 'gone'::regclass AND phase = 'idle' AND tried_before > $passed")
  or die 'maintenance does not come to an end';
my $attachment = $node->safe_psql('postgres',
	q{SELECT attachment FROM nbmf.attached WHERE relation = 'gone'::regclass});
is( $node->safe_psql('postgres', qq{
		SELECT FROM nbmf.detach('gone', 'body');
		DROP TABLE gone;
		SELECT state FROM pg_stat_activity WHERE pid = $worker->{pid}}),
	'active', 'gone: detached and dropped while maintenance sleeps');
($out, $err) = await_answer($worker);
unlike($err, qr/ERROR|WARNING/, 'gone: no error');
is( $node->safe_psql('postgres', qq{
		SELECT (SELECT count(*) FROM nbmf.pass WHERE attachment = $attachment),
			(SELECT count(*) FROM nbmf.dictionary_use WHERE attachment = $attachment)}),
	'0|0', 'gone: nothing is left of it');
ask($worker, 'RESET nbmf.maintain_wal_rate');

#
# kill -9 of the session, and of the server
#
foreach my $victim ('session', 'postmaster')
{
	make_table("killed_$victim");
	$block = batch_of("killed_$victim", $row);
	stand_still($worker, "killed_$victim", $row);
	is(progress('blocks_done'), $block, "$victim killed: in the middle of a pass");
	if ($victim eq 'postmaster')
	{
		kill_postmaster($node);
	}
	else
	{
		kill 'KILL', $worker->{pid};
	}
	close_session($_) foreach ($worker, $locker);
	$node->start if $victim eq 'postmaster';
	answers_again($node, 'postgres')
	  or die 'the server does not come back';
	($worker, $locker) = (session_with_pid(), session_with_pid());
	go_on();
	is(progress('count(*)'), '0', "$victim killed: nobody is at it");
	is(pass_of("killed_$victim", 'next_block'), $block, "$victim killed: where it stands is known");
	$untried = untried("killed_$victim", $block);
	is(maintain("killed_$victim"), $untried, "$victim killed: the next goes on from there");
	is_right("killed_$victim", "$victim killed");
}

#
# What must be looked at again
#
$node->append_conf('postgresql.conf', "shared_preload_libraries = ''");
close_session($_) foreach ($worker, $locker);
$node->restart;
($worker, $locker) = (session_with_pid(), session_with_pid());
make_table('again');
maintain('again', $worker);
is(maintain('again', $worker), '0', 'again: all is tried');

# rows that were locked
$node->safe_psql('postgres', q{
	SELECT nbmf.detach('again', 'body');
	UPDATE again SET body = ' ' || oracle, oracle = ' ' || oracle WHERE n IN (4, 700, 702);
	SELECT nbmf.attach('again', 'body')});
ask($locker, 'BEGIN; SELECT FROM again WHERE n IN (4, 702) FOR UPDATE');
maintain('again', $worker);
my $places = q{SELECT string_agg(n || ' ' || ctid, ',' ORDER BY n) FROM again WHERE n NOT IN (4, 702)};
my $where = $node->safe_psql('postgres', $places);
is(pass_of('again', 'values_skipped'), '2', 'locked: rows are left');
ask($locker, 'COMMIT');
maintain('again', $worker);
is( pass_of('again', 'values_reencoded, values_skipped'), '2|0', 'locked: and done the next time');
is($node->safe_psql('postgres', $places), $where, 'locked: nothing else is');
is_right('again', 'locked');
maintain('again', $worker);
is(maintain('again', $worker), '0', 'locked: then all is done');

# rows of a transaction that is in progress during a whole pass, and of one that
# is prepared, in subtransactions, too
sub insert_noise
{
	my ($table, $from, $to) = @_;

	return "INSERT INTO $table SELECT n, noise_text(n), noise_text(n) FROM generate_series($from, $to) AS n;";
}

ask($locker, 'BEGIN; SELECT txid_current(); ' . insert_noise('again', 20001, 20010)
	  . 'SAVEPOINT a;' . insert_noise('again', 20011, 20015) . 'RELEASE a');
$node->safe_psql('postgres', 'BEGIN;' . insert_noise('again', 20021, 20030)
	  . 'SAVEPOINT a;' . insert_noise('again', 20031, 20035) . "PREPARE TRANSACTION 'p'");
$node->safe_psql('postgres', insert_noise('again', 20041, 20047));
is(maintain('again', $worker), '7', 'in progress: what is there is tried');
ask($locker, 'COMMIT');
is(maintain('again', $worker), '22', 'in progress: later, too, what was not, and what is younger');
$node->safe_psql('postgres', "COMMIT PREPARED 'p'");
is(maintain('again', $worker), '22', 'prepared: as well');
is(maintain('again', $worker), '0', 'and then no more');


#
# Partitions of one parent, by two sessions at once
#
$node->safe_psql(
	'postgres', q{
	CREATE TABLE parts (n int, body nbmf, oracle text) PARTITION BY RANGE (n);
	CREATE TABLE parts1 PARTITION OF parts FOR VALUES FROM (0) TO (400) WITH (fillfactor = 10);
	CREATE TABLE parts2 PARTITION OF parts FOR VALUES FROM (400) TO (10000) WITH (fillfactor = 10);
	ALTER TABLE parts1 ADD CHECK (pause('parts', n));
	ALTER TABLE parts2 ADD CHECK (pause('parts', n));
	SELECT nbmf.attach('parts', 'body');
	INSERT INTO parts SELECT n, d, d FROM record});
stand_still($worker, 'parts', 300);
my $second = session_with_pid();
ask($second, 'SET client_min_messages = notice');
($out, $err) = ask($second, q{CALL nbmf.maintain('parts')});
like($err, qr/NOTICE:  "parts1" is being maintained by another session/, 'parts: one is left');
like($err, qr/NOTICE:  "parts2": 401 of 401 values re-encoded, done/, 'parts: the other is done');
unlike($err, qr/ERROR|WARNING/, 'parts: nothing is wrong with that');
is(progress('relation, pid'), "parts1|$worker->{pid}", 'parts: the one that is at work is seen');
go_on();
($out, $err) = await_answer($worker);
is($err, '', 'parts: nor with the first');
is_right('parts', 'parts');
foreach my $round (1 .. 5)
{
	$node->safe_psql('postgres', qq{
		INSERT INTO parts SELECT n, t, t FROM record, secret_text(n * $round) AS t});
	request($_, q{CALL nbmf.maintain('parts')}) foreach ($worker, $second);
	foreach my $session ($worker, $second)
	{
		($out, $err) = await_answer($session);
		unlike($err, qr/ERROR|WARNING/, "parts: at once, round $round");
	}
}
maintain('parts');
is($node->safe_psql('postgres', q{SELECT count(*) FROM parts WHERE body::text <> oracle}),
	'0', 'parts: every row holds its document');
close_session($second);

#
# A standby sees no pass, and goes on with one when it is promoted
#
make_table('streamed');
$node->backup('base');
my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($node, 'base', has_streaming => 1);
$standby->start;
$block = batch_of('streamed', $row);
stand_still($worker, 'streamed', $row);
$node->wait_for_catchup($standby, 'replay', $node->lsn('write'));
is($standby->safe_psql('postgres', 'SELECT count(*) FROM pg_stat_progress_nbmf'),
	'0', 'standby: nobody is at work here');
is( $standby->safe_psql('postgres',
		q{SELECT next_block FROM nbmf.pass WHERE relation = 'streamed'::regclass}),
	$block, 'standby: how far it is is known');
is( $standby->safe_psql('postgres', q{
		SELECT count(*) FILTER (WHERE body::text <> oracle),
			count(*) FILTER (WHERE (nbmf_info(body)).tier = 'L2') > 0 FROM streamed}),
	'0|t', 'standby: values are right');
isnt(sqlstate_of($standby, 'postgres', q{CALL nbmf.maintain('streamed')}),
	'none', 'standby: it cannot be gone on with there');
$standby->promote;
$untried = untried('streamed', $block);
my $there = session_with_pid($standby);
is(maintain('streamed', $there), $untried, 'promoted: now it can');
close_session($there);
is_right('streamed', 'promoted', $standby);
$standby->stop('fast');
$node->safe_psql('postgres', "SELECT pg_cancel_backend($worker->{pid})");
await_answer($worker);
go_on();

#
# Transaction ids that are far apart: new rows are never taken for old ones
#
sub jump
{
	my ($epoch, $xid) = @_;

	$node->safe_psql('postgres', 'UPDATE pg_database SET datallowconn = true');
	$node->command_ok([ 'vacuumdb', '--all', '--freeze', '--quiet' ], "$epoch:$xid: all is frozen");
	close_session($_) foreach ($worker, $locker);
	$node->stop;
	# the first one of a file of pg_xact, so that none has to be made
	command_ok([ 'pg_resetwal', '-e', $epoch, '-x', $xid, $node->data_dir ],
		"$epoch:$xid: the next transaction");
	$node->start;
	($worker, $locker) = (session_with_pid(), session_with_pid());
	cmp_ok($node->safe_psql('postgres', 'SELECT pg_current_xact_id()::text::numeric'),
		'>=', $epoch * 2**32 + $xid, "$epoch:$xid: so it is");
	return;
}

my $mega = 1 << 20;
make_table($_) foreach ('near', 'far');
maintain($_) foreach ('near', 'far');
is(maintain('near'), '0', 'near: all is tried');
jump(0, 1500 * $mega);
$node->safe_psql('postgres', insert_noise('near', 20001, 20009));
is(maintain('near'), '9', 'near: new rows are tried, and no others');
jump(0, 3000 * $mega);
$node->safe_psql('postgres', insert_noise($_, 30001, 30008)) foreach ('near', 'far');
is(maintain('near'), '8', 'near: again');
cmp_ok(maintain('far'), '>=', 8, 'far: no row is taken for old');
is(maintain($_), '0', "$_: and then no more") foreach ('near', 'far');
jump(1, 100 * $mega);
$node->safe_psql('postgres', insert_noise($_, 40001, 40007)) foreach ('near', 'far');
foreach my $table ('near', 'far')
{
	# the oldest look as if they were new, once
	cmp_ok(maintain($table), '>=', 7, "$table: new rows are tried in another epoch");
	is(maintain($table), '0', "$table: and then no more");
}
jump(2, 200 * $mega);
$node->safe_psql('postgres', insert_noise($_, 50001, 50006)) foreach ('near', 'far');
cmp_ok(maintain($_), '>=', 6, "$_: and a whole epoch later") foreach ('near', 'far');
is(maintain($_), '0', "$_: and then no more") foreach ('near', 'far');
is_right($_, $_) foreach ('near', 'far');

unlike(
	slurp_file($node->logfile),
	qr/PANIC|TRAP|signal 11|signal 6/,
	'no crash but those that were made');
$node->stop;
done_testing();

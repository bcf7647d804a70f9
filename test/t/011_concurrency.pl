# Training and maintenance beside everything else that happens to a table:
# nobody waits for them, nobody gets an error from them, and no value that
# somebody has changed is put back.
#
# NBMF_SOAK_SECONDS is how long the part with pgbench takes, 60 if not set.
use strict;
use warnings FATAL => 'all';

use NbmfTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time usleep);

my $node = new_node('main',
	conf => "max_connections = 60\nshared_buffers = 64MB\nfsync = off\n"
	  . "restart_after_crash = on\ndeadlock_timeout = 200ms\n"
	  . "client_min_messages = warning\nmax_wal_size = 4GB\n");
my $records = 1000;
my $seconds = $ENV{NBMF_SOAK_SECONDS} || 60;
my $timeout = $PostgreSQL::Test::Utils::timeout_default;

$node->start;
$node->safe_psql('postgres', 'CREATE EXTENSION nbmf');
create_records($node, 'postgres', $records);

sub objects
{
	return $node->safe_psql('postgres', 'SELECT count(*) FROM nbmf.object');
}

# Wait until a session waits for something, or does not any more
sub wait_until_waiting
{
	my ($session, $event) = @_;

	$node->poll_query_until('postgres',
		"SELECT count(*) > 0 FROM pg_stat_activity WHERE pid = $session->{pid} AND wait_event = '$event'"
	) or die "no wait for $event";
	return;
}

sub session_with_pid
{
	my $session = open_session($node, 'postgres');

	$session->{pid} = ask($session, 'SELECT pg_backend_pid()');
	return $session;
}

#
# A row that is locked is left for the next time
#
my $locker = session_with_pid();
my $worker = session_with_pid();
$node->safe_psql(
	'postgres', q{
	CREATE TABLE locked (n int PRIMARY KEY, body nbmf, extra int);
	INSERT INTO locked SELECT n, d FROM record;
	SELECT nbmf.attach('locked', 'body');
	CALL nbmf.train('locked', 'body')});
ask($locker, q{
	BEGIN;
	SELECT FROM locked WHERE n = 1 FOR UPDATE;
	SELECT FROM locked WHERE n = 2 FOR SHARE;
	SELECT FROM locked WHERE n = 3 FOR NO KEY UPDATE;
	UPDATE locked SET body = record_text(4711) WHERE n = 4;
	UPDATE locked SET extra = 1 WHERE n = 5;
	DELETE FROM locked WHERE n = 6});
my ($out, $err) = ask($worker, q{SET statement_timeout = '20s'; CALL nbmf.maintain('locked')});
is($err, '', 'maintenance does not wait for locked rows');
is( $node->safe_psql('postgres', q{
		SELECT string_agg(n::text, ' ' ORDER BY n) FROM locked WHERE (nbmf_info(body)).object IS NULL}),
	'1 2 3 4 5 6',
	'and leaves them alone');
ask($locker, 'COMMIT');
ask($worker, q{CALL nbmf.maintain('locked')});
is( $node->safe_psql('postgres', q{
		SELECT count(*), count((nbmf_info(body)).object),
			count(*) FILTER (WHERE body::text <> record_text(CASE n WHEN 4 THEN 4711 ELSE n END, 't' || n % 3))
		FROM locked}),
	'999|999|1',
	'the next time it does them, too');
is($node->safe_psql('postgres', 'SELECT body FROM locked WHERE n = 4'),
	$node->safe_psql('postgres', 'SELECT record_text(4711)'),
	'what was changed stays changed');

#
# Rows that change between being read and being written.  A constraint makes
# maintenance wait at its first update, when it has read all rows.
#
foreach my $isolation ('read committed', 'repeatable read', 'serializable')
{
	$node->safe_psql(
		'postgres', q{
		CREATE FUNCTION pause() RETURNS boolean LANGUAGE plpgsql AS $$
		BEGIN
			IF current_setting('session_replication_role') = 'replica' THEN
				PERFORM pg_advisory_lock_shared(42);
				PERFORM pg_advisory_unlock_shared(42);
			END IF;
			RETURN true;
		END $$;
		CREATE TABLE paused (n int PRIMARY KEY, body nbmf, extra int, CHECK (pause()));
		INSERT INTO paused SELECT n, d FROM record;
		SELECT nbmf.attach('paused', 'body');
		CALL nbmf.train('paused', 'body')});
	ask($locker, 'SELECT pg_advisory_lock(42)');
	ask($worker, "SET default_transaction_isolation = '$isolation'");
	request($worker, q{CALL nbmf.maintain('paused')});
	wait_until_waiting($worker, 'advisory');
	$node->safe_psql(
		'postgres', q{
		UPDATE paused SET body = record_text(5001) WHERE n = 101;
		UPDATE paused SET body = 'short' WHERE n = 102;
		UPDATE paused SET body = NULL WHERE n = 103;
		DELETE FROM paused WHERE n = 104;
		DELETE FROM paused WHERE n = 105;
		INSERT INTO paused VALUES (105, record_text(5005));
		UPDATE paused SET extra = 1 WHERE n = 106;
		UPDATE paused SET n = -n WHERE n = 107;
		INSERT INTO paused VALUES (5008, record_text(5008))});
	my $other = session_with_pid();
	ask($other, q{
		BEGIN;
		UPDATE paused SET body = record_text(5009) WHERE n = 109;
		DELETE FROM paused WHERE n = 110});
	ask($locker, 'SELECT pg_advisory_unlock(42)');
	($out, $err) = await_answer($worker);
	is($err, '', "$isolation: rows that change meanwhile are no error");
	ask($other, 'COMMIT');
	close_session($other);
	is( $node->safe_psql(
			'postgres', q{
			SELECT n, extra, CASE WHEN length(body::text) < 10 THEN body::text END,
				body::text = record_text(n + 4900), body::text = record_text(abs(n), 't' || abs(n) % 3)
			FROM paused WHERE n <= 0 OR n BETWEEN 101 AND 111 ORDER BY abs(n)}),
		"101|||t|f\n102||short|f|f\n103||||\n105|||t|f\n106|1||f|t\n-107|||f|t\n108|||f|t\n109|||t|f\n111|||f|t",
		"$isolation: nothing that was changed is put back");
	is($node->safe_psql('postgres', 'SELECT body::text = record_text(5005) FROM paused WHERE n = 105'),
		't', "$isolation: nor a row that took the place of another");
	is( $node->safe_psql('postgres', q{
			SELECT count(*) > 900, bool_and(body::text = d) FROM paused JOIN record USING (n)
			WHERE n NOT BETWEEN 101 AND 111 AND (nbmf_info(body)).object IS NOT NULL}),
		't|t',
		"$isolation: the others are maintained");
	$node->safe_psql('postgres', 'DROP TABLE paused; DROP FUNCTION pause()');
}
ask($worker, 'RESET default_transaction_isolation');

#
# Whoever has read a table and goes on to write does not get into a circle with
# nbmf.detach
#
$node->safe_psql('postgres', q{
	CREATE TABLE detached (n int, body nbmf);
	INSERT INTO detached SELECT n, d FROM record;
	SELECT nbmf.attach('detached', 'body')});
ask($locker, 'BEGIN; SELECT count(*) FROM detached');
request($worker, q{SELECT nbmf.detach('detached', 'body')});
wait_until_waiting($worker, 'relation');
($out, $err) = ask($locker, 'UPDATE detached SET n = -n; COMMIT');
is($err, '', 'the one who reads and writes gets no error');
($out, $err) = await_answer($worker);
is($err, '', 'nor does the one who detaches');
ask($locker, 'ROLLBACK');

#
# Cancelled
#
$node->safe_psql(
	'postgres', q{
	CREATE TABLE large (n int, body nbmf);
	INSERT INTO large SELECT n, record_text(n, 't' || n % 20) FROM generate_series(1, 20000) AS n;
	SELECT nbmf.attach('large', 'body')});
my $before = objects();
foreach my $ms (1, 5, 20, 60, 150)
{
	($out, $err) = ask($worker, "SET statement_timeout = $ms; CALL nbmf.train('large', 'body')");
	ask($worker, 'SET statement_timeout = 0');
	like($err, qr/canceling statement due to statement timeout/, "training is cancelled after $ms ms");
}
request($worker, q{CALL nbmf.train('large', 'body')});
wait_until_busy();
$node->safe_psql('postgres', "SELECT pg_cancel_backend($worker->{pid})");
($out, $err) = await_answer($worker);
like($err, qr/canceling statement due to user request/, 'training is cancelled by another session');
is(objects(), $before, 'what is cancelled leaves no object');
is( $node->safe_psql('postgres', "SELECT count(*) FROM pg_locks WHERE pid = $worker->{pid}"),
	'0', 'and no lock');
($out, $err) = ask($worker, q{CALL nbmf.train('large', 'body')});
is($err, '', 'then it can be done');
is(objects(), $before + 1, 'and is');

sub wait_until_busy
{
	$node->poll_query_until('postgres',
		"SELECT count(*) > 0 FROM pg_locks WHERE pid = $worker->{pid} AND mode = 'ShareUpdateExclusiveLock'"
	) or die 'training does not start';
	return;
}

# Training waits for another of the same column, and writers for neither
ask($locker, q{BEGIN; LOCK TABLE large IN SHARE UPDATE EXCLUSIVE MODE});
request($worker, q{CALL nbmf.train('large', 'body')});
wait_until_waiting($worker, 'relation');
is(sqlstate_of($node, 'postgres', q{SET lock_timeout = '5s'; UPDATE large SET body = body WHERE n = 1}),
	'none', 'writers do not wait for training');
ask($locker, 'ROLLBACK');
await_answer($worker);

# A table that is dropped while training waits for it, or while it waits for
# training, and a column that is detached
foreach my $case (
	[ 'DROP TABLE doomed', qr/relation with OID \d+ does not exist|relation "doomed" does not exist|could not open relation/ ],
	[ q{SELECT nbmf.detach('doomed', 'body')}, qr/column "body" of relation "doomed" is not attached/ ],
	[ 'ALTER TABLE doomed DROP COLUMN body CASCADE', qr/column "body" (?:of relation "doomed" )?does not exist/ ])
{
	my ($command, $error) = @$case;

	$node->safe_psql('postgres', q{
		CREATE TABLE doomed (n int, body nbmf);
		INSERT INTO doomed SELECT n, record_text(n) FROM generate_series(1, 3000) AS n;
		SELECT nbmf.attach('doomed', 'body')});
	$before = objects();
	ask($locker, "BEGIN; $command");
	request($worker, q{CALL nbmf.train('doomed', 'body')});
	wait_until_waiting($worker, 'relation');
	ask($locker, 'COMMIT');
	($out, $err) = await_answer($worker);
	like($err, $error, "$command first: training says so");
	is(objects(), $before, "$command first: no object is left behind");
	$node->safe_psql('postgres', 'DROP TABLE IF EXISTS doomed');

	$node->safe_psql('postgres', q{
		CREATE TABLE doomed (n int, body nbmf);
		INSERT INTO doomed SELECT n, record_text(n) FROM generate_series(1, 3000) AS n;
		SELECT nbmf.attach('doomed', 'body')});
	request($worker, q{CALL nbmf.train('doomed', 'body')});
	wait_until_busy();
	is(sqlstate_of($node, 'postgres', $command), 'none', "training first: $command waits for it");
	($out, $err) = await_answer($worker);
	is($err, '', "training first: no error, $command");
	is(objects(), $before + 1, 'training first: the object stays');
	$node->safe_psql('postgres', 'DROP TABLE IF EXISTS doomed');
}

# Two trainings of one column at once: the second finds the first's good enough
$node->safe_psql('postgres', q{
	CREATE TABLE doomed (n int, body nbmf);
	INSERT INTO doomed SELECT n, record_text(n) FROM generate_series(1, 3000) AS n;
	SELECT nbmf.attach('doomed', 'body')});
$before = objects();
request($_, q{CALL nbmf.train('doomed', 'body')}) foreach ($worker, $locker);
foreach my $session ($worker, $locker)
{
	($out, $err) = await_answer($session);
	is($err, '', 'two trainings at once: no error');
}
is(objects(), $before + 1, 'two trainings at once: one dictionary');
$node->safe_psql('postgres', 'DROP TABLE doomed');

# Maintenance that is cancelled has done its batches whole
request($worker, q{SET nbmf.maintain_wal_rate = 100; CALL nbmf.maintain('large')});
$node->poll_query_until('postgres',
	'SELECT count(*) > 100 FROM large WHERE (nbmf_info(body)).object IS NOT NULL')
  or die 'maintenance does not start';
my $start = time();
$node->safe_psql('postgres', "SELECT pg_cancel_backend($worker->{pid})");
($out, $err) = await_answer($worker);
like($err, qr/canceling statement due to user request/, 'maintenance is cancelled');
cmp_ok(time() - $start, '<', 5, 'without delay, when it sleeps');
is( ask($worker, 'SHOW session_replication_role; SELECT current_user = session_user'),
	"origin\nt", 'and leaves nothing behind');
is( $node->safe_psql('postgres', q{
		SELECT count(*), bool_and(body::text = record_text(n, 't' || n % 20)) FROM large}),
	'20000|t',
	'no value is changed');

# The rate of WAL
foreach my $rate (1000, 2000)
{
	$node->safe_psql('postgres', qq{
		TRUNCATE large;
		ALTER TABLE large DISABLE TRIGGER USER;
		INSERT INTO large SELECT n, record_text(n, 't' || n % 20) FROM generate_series(1, 8000) AS n;
		ALTER TABLE large ENABLE TRIGGER USER;
		CHECKPOINT});
	my $lsn = $node->safe_psql('postgres', 'SELECT pg_current_wal_insert_lsn()');
	$start = time();
	ask($worker, "SET nbmf.maintain_wal_rate = $rate; CALL nbmf.maintain('large')");
	my $elapsed = time() - $start;
	my $kb = $node->safe_psql('postgres', "SELECT (pg_current_wal_insert_lsn() - '$lsn') / 1024");
	cmp_ok($elapsed, '>=', 0.85 * $kb / $rate, "$rate kB/s: maintenance takes its time");
	cmp_ok($elapsed, '<=', 3 * $kb / $rate + 3, "$rate kB/s: and no more");
	is($node->safe_psql('postgres', 'SELECT count(*) FROM large WHERE (nbmf_info(body)).object IS NULL'),
		'0', "$rate kB/s: and is complete");
}
ask($worker, 'RESET nbmf.maintain_wal_rate');

$node->safe_psql('postgres', 'DROP TABLE large, locked');
close_session($_) foreach ($worker, $locker);

#
# All at once.  "other" is attached and detached all the time; the tables that
# are dropped are of one session; classes change under everybody.
#
$node->safe_psql(
	'postgres', q{
	CREATE TABLE soak (id bigserial PRIMARY KEY, tenant text, body nbmf, other nbmf, oracle text);
	CREATE TABLE parts (id bigserial, tenant text, body nbmf, other nbmf, oracle text) PARTITION BY RANGE (id);
	CREATE TABLE parts1 PARTITION OF parts FOR VALUES FROM (MINVALUE) TO (500);
	CREATE TABLE parts2 (oracle text, other nbmf, gone int, body nbmf, tenant text, id bigint NOT NULL DEFAULT nextval('parts_id_seq'));
	ALTER TABLE parts2 DROP gone;
	ALTER TABLE parts ATTACH PARTITION parts2 FOR VALUES FROM (500) TO (MAXVALUE);
	ALTER TABLE parts ADD PRIMARY KEY (id);
	CREATE INDEX ON soak (md5(body::text));
	CREATE INDEX ON parts USING hash (body);
	SELECT nbmf.attach('soak', 'body', class => 'chat', tenant_by => 'tenant');
	SELECT nbmf.attach('parts', 'body', class => 'chat', tenant_by => 'tenant');
	INSERT INTO soak (tenant, body, other, oracle) SELECT tenant, d, d, d FROM record;
	INSERT INTO parts (tenant, body, other, oracle) SELECT tenant, d, d, d FROM record});

my %work = (
	write => [ 4, q{
		\set id random(1, 3000)
		\set n random(1, 100000)
		\set what random(1, 10)
		\if :what = 1
			BEGIN;
			INSERT INTO soak (tenant, body, other, oracle)
				SELECT 't1', d, d, d FROM record_text(:n, 't1') AS d;
			INSERT INTO parts (tenant, body, other, oracle)
				SELECT 't1', d, d, d FROM record_text(:n, 't1') AS d;
			COMMIT;
		\elif :what = 2
			DELETE FROM soak WHERE id = :id;
			DELETE FROM parts WHERE id = :id;
		\elif :what = 3
			BEGIN;
			UPDATE soak SET body = d, oracle = d FROM record_text(:n, 't2') AS d WHERE id = :id;
			UPDATE soak SET body = d, oracle = d FROM record_text(:n, 't2') AS d WHERE id = :id + 1;
			UPDATE parts SET body = d, oracle = d FROM record_text(:n, 't2') AS d WHERE id = :id;
			COMMIT;
		\elif :what = 4
			BEGIN;
			UPDATE soak SET tenant = 't' || :n % 3, body = 'rolled back' WHERE id = :id;
			ROLLBACK;
		\elif :what = 5
			INSERT INTO soak (id, tenant, body, other, oracle)
				SELECT 1 + :id % 1000, 't0', d, d, d FROM record_text(:n) AS d
				ON CONFLICT (id) DO UPDATE SET body = excluded.body, other = excluded.other,
					oracle = excluded.oracle, tenant = excluded.tenant;
		\elif :what = 6
			SELECT count(*) FROM soak WHERE body::text <> oracle AND id BETWEEN :id AND :id + 50;
			SELECT count(*) FROM parts WHERE body = ANY (SELECT body FROM soak WHERE id = :id);
		\else
			UPDATE soak SET tenant = 't' || :n % 3, body = d, other = d, oracle = d
				FROM record_text(:n, 't' || :n % 3) AS d WHERE id = :id;
			UPDATE parts SET tenant = 't' || :n % 3, body = d, other = d, oracle = d
				FROM record_text(:n, 't' || :n % 3) AS d WHERE id = :id;
		\endif
	} ],
	train => [ 2, q{
		CALL nbmf.train('soak', 'body');
		CALL nbmf.train('parts', 'body');
		SELECT pg_sleep(0.1);
	} ],
	maintain => [ 1, q{
		CALL nbmf.maintain();
		CALL nbmf.maintain('parts');
	} ],
	maintain2 => [ 1, q{
		CALL nbmf.maintain('soak');
		SELECT pg_sleep(0.05);
	} ],
	vacuum => [ 1, q{
		VACUUM soak;
		VACUUM ANALYZE parts;
		SELECT pg_sleep(0.3);
	} ],
	attach => [ 1, q{
		SELECT nbmf.attach('soak', 'other', class => 'legal', tenant_by => 'tenant');
		CALL nbmf.train('soak', 'other');
		SELECT nbmf.attach('parts', 'other');
		SELECT pg_sleep(0.1);
		CALL nbmf.maintain('parts');
		SELECT nbmf.detach('parts', 'other');
		SELECT nbmf.detach('soak', 'other');
		SELECT pg_sleep(0.1);
	} ],
	class => [ 1, q{
		\set level random(1, 12)
		UPDATE nbmf.class SET l1_level = :level WHERE name = 'chat';
		UPDATE nbmf.class SET l2_level = :level + 1, share = (ARRAY['column', 'tenant', 'none'])[1 + :level % 3]
			WHERE name = 'chat';
		SELECT pg_sleep(0.2);
	} ],
	drop => [ 1, q{
		CREATE TABLE doomed (body nbmf) PARTITION BY HASH (body);
		DROP TABLE doomed;
		CREATE TABLE doomed (n int, body nbmf);
		SELECT nbmf.attach('doomed', 'body');
		INSERT INTO doomed SELECT n, d FROM record LIMIT 200;
		CALL nbmf.train('doomed', 'body');
		SELECT pg_sleep(0.05);
		TRUNCATE doomed;
		INSERT INTO doomed SELECT n, d FROM record LIMIT 200;
		SELECT pg_sleep(0.05);
		DROP TABLE doomed;
	} ],);

my %running;
foreach my $name (sort keys %work)
{
	my ($clients, $script) = @{ $work{$name} };
	my $file = $node->basedir . "/$name.sql";
	my $session = { out => '', err => '' };

	append_to_file($file, $script);
	$session->{run} = IPC::Run::start(
		[
			'pgbench', '-n', '-c', $clients, '-j', $clients, '-T', $seconds,
			'-f', $file, connection($node), 'postgres'
		],
		'>',
		\$session->{out},
		'2>',
		\$session->{err},
		IPC::Run::timeout($timeout + 2 * $seconds));
	$running{$name} = $session;
}
foreach my $name (sort keys %running)
{
	my $session = $running{$name};

	eval { $session->{run}->finish };
	is($session->{run}->full_result || 0, 0, "soak: $name ends well")
	  or diag($session->{err});
	is( join("\n", $session->{err} =~ /^.*(?:ERROR|aborted|FATAL|PANIC).*$/mg),
		'', "soak: $name gets no error");
	like($session->{out}, qr/transactions actually processed: [1-9]/, "soak: $name has done something");
	note("$name: $1 transactions") if $session->{out} =~ /actually processed: (\d+)/;
}

foreach my $table ('soak', 'parts')
{
	foreach my $round ('then', 'after maintenance')
	{
		is( $node->safe_psql('postgres', qq{
				SELECT id FROM $table WHERE body::text IS DISTINCT FROM oracle LIMIT 20}),
			'',
			"soak, $round: every row of $table holds its document");
		is($node->safe_psql('postgres', "SELECT * FROM nbmf_verify_table('$table', '$_')"),
			'', "soak, $round: all values of $table.$_ verify")
		  foreach ('body', 'other');
		is( $node->safe_psql('postgres', qq{
				SELECT id FROM $table WHERE (nbmf_info(body)).object NOT IN (SELECT id FROM nbmf.object)
					OR (nbmf_info(other)).object NOT IN (SELECT id FROM nbmf.object) LIMIT 20}),
			'',
			"soak, $round: nothing in $table refers to what is not there");
		is( $node->safe_psql('postgres', qq{
				SELECT t.id, o.tenant, t.tenant FROM $table AS t JOIN nbmf.object AS o
					ON o.id IN ((nbmf_info(body)).object, (nbmf_info(other)).object)
				WHERE o.tenant <> t.tenant LIMIT 20}),
			'',
			"soak, $round: nothing in $table refers to what is another tenant's");
		$node->safe_psql('postgres', 'CALL nbmf.maintain()');
	}
}
is( $node->safe_psql('postgres', q{
		SET enable_seqscan = off; SET enable_hashjoin = off; SET enable_mergejoin = off;
		SELECT a.id FROM (SELECT id, oracle FROM soak WHERE id % 5 = 0) AS a
		WHERE NOT EXISTS (SELECT FROM soak AS b WHERE md5(b.body::text) = md5(a.oracle) AND b.id = a.id)}),
	'',
	'soak: the index finds every row');
is( join("\n", slurp_file($node->logfile) =~ /^.*(?:deadlock detected|PANIC|TRAP|terminated by signal).*$/mg),
	'', 'no deadlock and no crash');

#
# A class is gone when the training of its documents ends
#
$worker = session_with_pid();
$node->safe_psql(
	'postgres', q{
	INSERT INTO nbmf.class (name) SELECT 'own' || i FROM generate_series(1, 8) AS i;
	CREATE TABLE classes (n int, class text, body nbmf);
	INSERT INTO classes SELECT n, 'own' || 1 + n % 8, record_text(n) FROM generate_series(1, 24000) AS n;
	SELECT nbmf.attach('classes', 'body', class_by => 'class')});
request($worker, q{CALL nbmf.train('classes', 'body')});
wait_until_busy();
usleep(300_000);
$node->safe_psql('postgres', q{DELETE FROM nbmf.class WHERE name LIKE 'own%'});
($out, $err) = await_answer($worker);
is($err, '', 'a class can be deleted while its documents are trained with');
answers_again($node, 'postgres')
  or die 'the server does not come back';
$node->safe_psql('postgres', q{
	INSERT INTO classes SELECT n, 'own1', d FROM record;
	CALL nbmf.maintain('classes')});
is( $node->safe_psql('postgres', q{
		SELECT count(*) FROM classes WHERE body::text NOT IN (record_text(n), record_text(n, 't' || n % 3))}),
	'0',
	'and its values go on being values');
close_session($worker);
$node->stop;
done_testing();

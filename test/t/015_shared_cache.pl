# The cache of digested dictionaries that all sessions of a server share: that
# it saves work, makes room, is of the size that was asked for, and never gives
# a session anything but what it asked for, whoever else is using it and
# however sessions end.
use strict;
use warnings FATAL => 'all';

use NbmfTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(usleep);

my $node = new_node('main',
	conf => "shared_preload_libraries = 'nbmf'\nrestart_after_crash = on\n"
	  . "max_connections = 60\nshared_buffers = 64MB\nfsync = off\nmax_wal_size = 4GB\n"
	  . "max_prepared_transactions = 5\nclient_min_messages = warning\n");
my $timeout = $PostgreSQL::Test::Utils::timeout_default;
my $records = 500;

$node->start;
$node->safe_psql('postgres', 'CREATE EXTENSION nbmf');
create_records($node, 'postgres', $records);

# Table NAME (n, body, oracle), trained: its values refer to a dictionary of its
# own, since the letters of its documents are others
sub make_table
{
	my ($db, $name, $shift) = @_;

	$node->safe_psql(
		$db, qq{
		CREATE TABLE $name (n int PRIMARY KEY, body nbmf, oracle text);
		SELECT nbmf.attach('$name', 'body');
		INSERT INTO $name SELECT n, t, t FROM record, translate(d, 'abcdefghijklmnopqrstuvwxyz',
			right('abcdefghijklmnopqrstuvwxyz', 26 - $shift) || left('abcdefghijklmnopqrstuvwxyz', $shift)) AS t;
		CALL nbmf.train('$name', 'body');
		UPDATE $name SET body = oracle});
	return;
}

sub cache
{
	my ($columns, $db) = @_;

	return $node->safe_psql($db // 'postgres', "SELECT $columns FROM pg_stat_nbmf_cache");
}

# Restart with that much memory
sub restart
{
	my ($size) = @_;

	$node->append_conf('postgresql.conf', "nbmf.shared_cache = '$size'");
	$node->restart;
	return;
}

# How many rows of the tables are not what they were when written
sub wrong
{
	my ($db, @tables) = @_;

	return $node->safe_psql(
		$db,
		join(' UNION ALL ',
			map { "(SELECT '$_', n FROM $_ WHERE body::text IS DISTINCT FROM oracle LIMIT 5)" } @tables));
}

my @tables = map { "t$_" } (1 .. 12);
make_table('postgres', $tables[ $_ - 1 ], $_) foreach (1 .. 12);
is( $node->safe_psql('postgres', join(' UNION ALL ',
			map { "SELECT DISTINCT (nbmf_info(body)).object FROM $_" } @tables) . ' ORDER BY 1'),
	join("\n", 1 .. 12),
	'each table has a dictionary');

#
# A session uses what another has digested
#
$node->restart;
is(cache('shared, size_bytes, used_bytes, entries, hits, misses, evictions'),
	't|67108864|0|0|0|0|0', 'a server starts with an empty cache of the default size');
is(wrong('postgres', 't1'), '', 'values can be read');
is(cache('used_bytes > 16384, entries, hits, misses, evictions'),
	't|1|0|1|0', 'the first session digests the dictionary');
is(wrong('postgres', 't1'), '', 'read by a second session');
is(cache('entries, hits, misses'), '1|1|1', 'which does not');
$node->safe_psql('postgres', q{UPDATE t1 SET body = oracle WHERE n <= 50});
is(cache('entries, misses'), '2|2', 'encoding wants its own digest');
$node->safe_psql('postgres', q{UPDATE t1 SET body = oracle WHERE n <= 50});
is(cache('entries, misses'), '2|2', 'which another session uses as well');
$node->safe_psql('postgres', q{CALL nbmf.maintain('t1')});
is(cache('entries, misses'), '3|3', 'so does encoding at another level');
is(wrong('postgres', @tables), '', 'all values are right');
is(cache('entries, misses, evictions'), '14|14|0', 'each dictionary is digested once');
is( $node->safe_psql('postgres', q{
		SET force_parallel_mode = on;
		SET parallel_setup_cost = 0;
		SET parallel_tuple_cost = 0;
		SET min_parallel_table_scan_size = 0;
		SELECT count(*) FROM t1 JOIN t2 USING (n) WHERE t1.body::text = t1.oracle AND t2.body::text = t2.oracle}),
	$records,
	'parallel workers read the values');
is(cache('entries, misses'), '14|14', 'and digest nothing');

# One dictionary after the other, in one query
is( $node->safe_psql('postgres', 'SELECT count(*) FROM ' . join(' JOIN ', $tables[0], map { "$_ USING (n)" } @tables[1 .. 11])
		  . ' WHERE ' . join(' AND ', map { "$_.body::text = $_.oracle" } @tables)),
	$records,
	'a query uses many dictionaries in turn');

# What two databases have under the same number is not the same
$node->safe_psql('postgres', 'CREATE DATABASE other TEMPLATE template0');
$node->safe_psql('other', 'CREATE EXTENSION nbmf');
create_records($node, 'other', $records);
make_table('other', $tables[ $_ - 1 ], $_ + 7) foreach (1 .. 3);
is($node->safe_psql('other', 'SELECT string_agg(id::text, $$ $$ ORDER BY id) FROM nbmf.object'),
	'1 2 3', 'other database: the ids are the same');
is(wrong('other', @tables[ 0 .. 2 ]), '', 'other database: values are right');
is(wrong('postgres', @tables), '', 'other database: and those of the first');

# even if it is a copy
$node->safe_psql('postgres', 'CREATE DATABASE copied TEMPLATE other');
is(wrong('copied', @tables[ 0 .. 2 ]), '', 'copied database: values are right');
make_table('other', 't4', 3);
make_table('copied', 't4', 9);
is( $node->safe_psql('copied', q{SELECT max(id), 'nbmf.object'::regclass::oid FROM nbmf.object}),
	$node->safe_psql('other', q{SELECT 4, 'nbmf.object'::regclass::oid}),
	'copied database: the next id is the same');
is(wrong($_, 't4'), '', "copied database: but not the dictionary: $_") foreach ('other', 'copied', 'other');

# (nor was it when they were written: what is digested wrong reads back right)
$node->restart;
is(wrong($_, 't4'), '', "copied database: after a restart: $_") foreach ('copied', 'other', 'copied');
$node->safe_psql('copied', q{
	DROP TABLE t1, t2, t3, t4;
	DROP EXTENSION nbmf;
	CREATE EXTENSION nbmf});
make_table('copied', 't1', 5);
is(wrong('copied', 't1'), '', 'copied database: and those of a new extension');

# The extension created again: the same ids are other dictionaries, for sessions
# that know the old ones, too
my @sessions = map { open_session($node, 'other') } (1, 2);
foreach my $round (1 .. 3)
{
	ask($_, q{SELECT count(*) FROM t1 WHERE body::text = oracle}) foreach @sessions;
	$node->safe_psql('other', 'DROP TABLE t1; DROP TABLE IF EXISTS t2, t3, t4; DROP EXTENSION nbmf; CREATE EXTENSION nbmf');
	make_table('other', 't1', 2 * $round);
	is( ask($sessions[ $round % 2 ], q{
			UPDATE t1 SET body = oracle WHERE n % 2 = 0;
			SELECT string_agg(DISTINCT (nbmf_info(body)).object::text, ' '), count(*) FILTER (WHERE body::text = oracle) FROM t1}),
		"1|$records", "created again, round $round: values are right");
	is(ask($sessions[ 1 - $round % 2 ], q{SELECT count(*) FROM t1 WHERE body::text = oracle}),
		$records, "created again, round $round: in the other session, too");
}
close_session($_) foreach @sessions;
$node->restart;
is(wrong('other', 't1'), '', 'created again: values are right after a restart');
is(wrong('postgres', @tables), '', 'and so are those of the first database');

#
# Less room than there are dictionaries
#
my $entry = $node->safe_psql('postgres', 'SELECT used_bytes / entries FROM pg_stat_nbmf_cache');
note("a digest takes $entry bytes");
restart('384kB');
is(cache('size_bytes'), 384 * 1024, 'small: the size is as set');
foreach my $round (1 .. 2)
{
	is(wrong('postgres', $_), '', "small, round $round: values of $_ are right") foreach @tables;
}
is(cache('used_bytes <= size_bytes, used_bytes > size_bytes / 4, entries < 12, evictions > 12'),
	't|t|t|t', 'small: dictionaries make room for each other');

# Sessions that end in every way while they use an entry
sub session_in_use
{
	my ($table, $more) = @_;
	my $session = open_session($node, 'postgres');

	$session->{pid} = ask($session, 'SELECT pg_backend_pid()');
	ask($session, "BEGIN; SELECT count(*) FROM $table WHERE body::text = oracle; UPDATE $table SET body = oracle WHERE n = 1");
	return $session;
}

sub fill
{
	wrong('postgres', $_) foreach @tables;
	return;
}

foreach my $table (@tables)
{
	my $session = session_in_use($table);

	$node->safe_psql('postgres', "SELECT pg_terminate_backend($session->{pid}, 10000)");
	close_session($session);
	$session = session_in_use($table);
	ask($session, 'SELECT 1 / 0; ROLLBACK');
	ask($session, "BEGIN; SAVEPOINT a; SELECT count(body::text) FROM $table; SELECT 1 / 0; ROLLBACK TO a; COMMIT");
	ask($session, "BEGIN; SELECT count(body::text) FROM $table; PREPARE TRANSACTION 'p'; ROLLBACK PREPARED 'p'");
	ask($session, "DO \$\$ DECLARE v nbmf; BEGIN SELECT body INTO v FROM $table WHERE n = 1; COMMIT; PERFORM length(v::text); ROLLBACK; PERFORM length(v::text); END \$\$");
	ask($session, "SET statement_timeout = 3; SELECT count(body::text) FROM $table, generate_series(1, 100); SET statement_timeout = 0");
	ask($session, "BEGIN; DECLARE c CURSOR WITH HOLD FOR SELECT body::text FROM $table; FETCH c; COMMIT; FETCH c");

	# idle, in a session that goes on, it holds nothing
	push @sessions, $session;
	close_session(session_in_use($table));
}
my $evictions = cache('evictions');
fill();
cmp_ok(cache('evictions'), '>', $evictions + 8, 'small: no entry is held by sessions that are done');
close_session($_) foreach @sessions;
@sessions = ();

# Entries in use stay, and those who find no room do without
@sessions = map { session_in_use($_) } @tables;
is(wrong('postgres', @tables), '', 'in use: others read all the same');
is( join(' ', map { scalar ask($sessions[$_], "SELECT count(*) FROM $tables[$_] WHERE body::text = oracle") } (0 .. 11)),
	join(' ', ($records) x 12), 'in use: so do those who use them');
ask($_, 'COMMIT') foreach @sessions;
$evictions = cache('evictions');
fill();
cmp_ok(cache('evictions'), '>', $evictions, 'in use: when they are done there is room again');
close_session($_) foreach @sessions;

#
# Many at once
#
my %work = (
	write => [ 4, q{
		\set t random(1, 12)
		\set id random(1, 500)
		\set n random(1, 100000)
		UPDATE t:t SET body = s, oracle = s FROM record_text(:n) AS s WHERE n = :id;
		INSERT INTO t:t SELECT :id + 1000, s, s FROM record_text(:n) AS s
			ON CONFLICT (n) DO UPDATE SET body = excluded.body, oracle = excluded.oracle;
	} ],
	read => [ 4, q{
		\set t random(1, 12)
		\set u random(1, 12)
		\set id random(1, 480)
		SELECT 1 / (count(*) = 0)::int FROM t:t WHERE body::text <> oracle AND n BETWEEN :id AND :id + 20;
		SELECT 1 / (count(*) = 0)::int FROM t:t AS a JOIN t:u AS b USING (n)
			WHERE n BETWEEN :id AND :id + 20 AND (a.body::text <> a.oracle OR b.body::text <> b.oracle);
	} ],
	connect => [ 1, q{
		\set t random(1, 12)
		SELECT 1 / (count(*) = 0)::int FROM t:t WHERE body::text <> oracle AND n < 20;
	} ],
	roll_back => [ 1, q{
		\set t random(1, 12)
		BEGIN;
		SAVEPOINT a;
		SELECT count(body::text) FROM t:t;
		ROLLBACK TO a;
		UPDATE t:t SET body = 'rolled back' WHERE n = 1;
		ROLLBACK;
	} ],
	maintain => [ 1, q{
		\set t random(1, 12)
		\set level random(1, 12)
		UPDATE nbmf.class SET l1_level = :level, l2_level = :level + 3 WHERE name = 'general';
		CALL nbmf.maintain(('t' || :t)::regclass);
	} ],);

sub soak
{
	my ($what, $seconds) = @_;
	my %running;

	foreach my $name (sort keys %work)
	{
		my ($clients, $script) = @{ $work{$name} };
		my $file = $node->basedir . "/$name.sql";
		my $session = { out => '', err => '' };

		unlink $file;
		append_to_file($file, $script);
		$session->{run} = IPC::Run::start(
			[
				'pgbench', '-n', '-c', $clients, '-j', 1, '-T', $seconds,
				($name eq 'connect' ? '-C' : ()),
				'-f', $file, connection($node), 'postgres'
			],
			'>',
			\$session->{out},
			'2>',
			\$session->{err},
			IPC::Run::timeout($timeout));
		$running{$name} = $session;
	}
	foreach my $name (sort keys %running)
	{
		my $session = $running{$name};

		eval { $session->{run}->finish };
		is(join("\n", $session->{err} =~ /^.*(?:ERROR|aborted|FATAL|PANIC).*$/mg), '', "$what: $name gets no error");
		like($session->{out}, qr/transactions actually processed: [1-9]/, "$what: $name has done something");
	}
	is(wrong('postgres', @tables), '', "$what: all values are right");
	is_deeply([ verify_columns($node, 'postgres') ], ['12'], "$what: all values verify");
	return;
}

soak('small', 5);
cmp_ok(cache('evictions'), '>', $evictions + 50, 'small: there was much to do');
note('small: ' . cache('entries || $$ entries, $$ || evictions || $$ evictions$$'));

#
# No room at all, and none to speak of
#
restart('0');
is(cache('shared, size_bytes'), 'f|16777216', 'none: sessions have their own');
is(wrong('postgres', @tables), '', 'none: values are right');
is( $node->safe_psql('postgres', q{
		SELECT count(body::text) > 0 FROM t1;
		SELECT entries > 0, misses = entries FROM pg_stat_nbmf_cache}),
	"t\nt|t", 'none: and digest for themselves');
foreach my $size ('1kB', '40kB')
{
	restart($size);
	is(wrong('postgres', @tables), '', "$size: values are right");
	$node->safe_psql('postgres', 'UPDATE t2 SET body = oracle WHERE n < 20');
	is(wrong('postgres', 't2'), '', "$size: and can be written");
	is(cache('shared, entries, used_bytes'), 't|0|0', "$size: no dictionary fits");
	my $own = $node->safe_psql('postgres', q{
		SET nbmf.dictionary_cache = 0;
		SELECT count(*) FROM t1 JOIN t2 USING (n) WHERE t1.body::text <> t1.oracle OR t2.body::text <> t2.oracle});
	is($own, '0', "$size: nor in the session's own");
}

#
# kill -9 of a session that uses an entry
#
restart('384kB');
foreach my $round (1 .. 2)
{
	@sessions = map { session_in_use($_) } @tables[ 0 .. 3 ];
	isnt(cache('entries'), '0', "killed, round $round: there are entries");
	kill 'KILL', $sessions[0]->{pid};
	close_session($_) foreach @sessions;
	@sessions = ();
	answers_again($node, 'postgres')
	  or die 'the server does not come back';
	is(cache('entries, used_bytes, hits, misses, evictions'),
		'0|0|0|0|0', "killed, round $round: the server starts anew with an empty cache");
	is(wrong('postgres', @tables), '', "killed, round $round: values are right");
	fill();
	is(cache('entries > 0, evictions > 6'), 't|t', "killed, round $round: there is room for all in turn");
}
soak('killed', 2);

unlike(
	slurp_file($node->logfile),
	qr/PANIC|TRAP|signal 11|signal 6/,
	'no crash but those that were made');
$node->stop;
done_testing();

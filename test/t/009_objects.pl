# Dictionaries and attached columns where they have to travel: dump and
# restore, a standby and its promotion, logical replication and decoding,
# prepared transactions, and the extension dropped and created again.
#
# A value with a dictionary is a reference to a row of nbmf.object.  So this
# proves that the row is there wherever the value is, that its id never means
# another one, and that what must not be dumped is not.
use strict;
use warnings FATAL => 'all';

use NbmfTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = new_node(
	'main',
	allows_streaming => 'logical',
	conf => "max_prepared_transactions = 10\nmax_worker_processes = 20\n"
	  . "max_connections = 40\nshared_buffers = 16MB\nfsync = off\n"
	  . "client_min_messages = warning\n");
$node->start;

my $records = 600;

sub new_database
{
	my ($db) = @_;

	$node->safe_psql('postgres', "CREATE DATABASE $db TEMPLATE template0");
	return;
}

# How many values of a table refer to an object, and to which
sub objects_of
{
	my ($server, $db, $table, $condition) = @_;

	return $server->safe_psql(
		$db, qq{
		SELECT string_agg(DISTINCT (nbmf_info(body)).object::text, ' ')
		FROM $table WHERE } . ($condition // 'true'));
}

sub rows_of
{
	my ($server, $db, $table) = @_;

	return $server->safe_psql($db,
		"SELECT n, nbmf_kind(body), md5(body::text) FROM $table ORDER BY n");
}

# No value refers to an object that is not there
sub missing_objects
{
	my ($server, $db, @tables) = @_;

	return $server->safe_psql(
		$db,
		join(
			' UNION ALL ',
			map {
				"SELECT '$_', n FROM $_ WHERE (nbmf_info(body)).object"
				  . ' NOT IN (SELECT id FROM nbmf.object)'
			} @tables));
}

#
# The origin: classes that are changed, new and only for the edge; a table with
# everything, a partitioned one, and one whose tenants must stay apart
#
new_database('origin');
$node->safe_psql('origin', 'CREATE EXTENSION nbmf');
create_records($node, 'origin', $records);
$node->safe_psql(
	'origin', q{
	UPDATE nbmf.class SET l2_level = 19 WHERE name = 'chat';
	INSERT INTO nbmf.class (name, l1_level) VALUES ('own', 5);
	INSERT INTO nbmf.class (name, edge_only) VALUES ('hidden', true);

	CREATE TABLE memory (n int PRIMARY KEY, tenant text, kind text, made timestamptz, body nbmf);
	CREATE TABLE parts (n int, body nbmf(lossless, 17)) PARTITION BY RANGE (n);
	CREATE TABLE parts1 PARTITION OF parts FOR VALUES FROM (0) TO (300);
	CREATE TABLE parts2 (body nbmf(lossless, 17), n int);
	ALTER TABLE parts ATTACH PARTITION parts2 FOR VALUES FROM (300) TO (1000000);
	CREATE SCHEMA "Odd Name";
	CREATE TABLE "Odd Name"."The Table" (n int, tenant text, body nbmf, "Body Col" nbmf);
	CREATE TABLE hidden (n int, body nbmf);
	CREATE TABLE gone (body nbmf);

	SELECT nbmf.attach('gone', 'body', class => 'chat');
	SELECT nbmf.attach('memory', 'body', class => 'chat', class_by => 'kind',
		age_by => 'made', tenant_by => 'tenant');
	SELECT nbmf.attach('parts', 'body');
	SELECT nbmf.attach('"Odd Name"."The Table"', 'body', class => 'legal', tenant_by => 'tenant');
	SELECT nbmf.attach('"Odd Name"."The Table"', 'Body Col', class => 'own');
	SELECT nbmf.attach('hidden', 'body', class => 'hidden');
	SELECT nbmf.attach('gone', 'body') FROM nbmf.detach('gone', 'body');
	SELECT nbmf.detach('gone', 'body');
	DROP TABLE gone;

	INSERT INTO memory SELECT n, tenant, CASE WHEN n % 2 = 0 THEN 'own' END, now(), d FROM record;
	INSERT INTO parts SELECT n, d FROM record;
	INSERT INTO "Odd Name"."The Table" SELECT n, tenant, secret_text(n, tenant), d FROM record;
	INSERT INTO hidden SELECT n, reverse(d) || 'h1dd3n' FROM record;
	CALL nbmf.maintain();
	INSERT INTO memory SELECT n + 10000, tenant, 'chat', now(), d FROM record WHERE n < 50;
	INSERT INTO hidden SELECT n + 10000, reverse(d) FROM record WHERE n < 50;
	INSERT INTO parts SELECT n + 10000, d FROM record WHERE n < 50;

	-- a copy outside of any attached column keeps its references
	CREATE TABLE copied AS SELECT n, body FROM "Odd Name"."The Table";
	-- ids that were used and are no more
	SELECT nextval('nbmf.object_id'), nextval('nbmf.attachment_id')});

my @tables =
  ('memory', 'parts', '"Odd Name"."The Table"', 'hidden', 'copied');
my $attached = q{
	SELECT relation, "column", attachment, class, class_by, age_by, tenant_by, group_by
	FROM nbmf.attached ORDER BY attachment};
my $triggers = q{
	SELECT pg_get_triggerdef(oid), tgenabled, tgparentid = 0 FROM pg_trigger
	WHERE tgfoid = 'nbmf.encode()'::regprocedure ORDER BY 1};
my $classes = 'SELECT * FROM nbmf.class ORDER BY name';
my $objects = q{
	SELECT id, attachment, class, tenant, edge_only, md5(payload), ratio, created_at
	FROM nbmf.object WHERE NOT edge_only ORDER BY id};
my $sequences = q{
	SELECT 'object', last_value, is_called FROM nbmf.object_id
	UNION ALL SELECT 'attachment', last_value, is_called FROM nbmf.attachment_id};

is( $node->safe_psql(
		'origin', q{
		SELECT class, tenant, edge_only, count(*),
			bool_and(position(convert_to('s3cr3t-' || tenant || '-s3cr3t', 'UTF8') IN payload) > 0)
		FROM nbmf.object WHERE class = 'legal' GROUP BY 1, 2, 3 ORDER BY 2}),
	"legal|t0|t|1|t\nlegal|t1|t|1|t\nlegal|t2|t|1|t",
	'the origin: each tenant has a dictionary, and the secret is in it');
is( $node->safe_psql(
		'origin', q{
		SELECT string_agg(DISTINCT class, ' ' ORDER BY class) FROM nbmf.object}),
	'chat general hidden legal own',
	'the origin: every class has dictionaries');
foreach my $table (@tables)
{
	cmp_ok(
		$node->safe_psql('origin',
			"SELECT count(*) FROM $table WHERE (nbmf_info(body)).object IS NOT NULL"
		),
		'>=',
		$records,
		"the origin: values of $table have a dictionary");
}
my ($chat, $last_object) = split /\|/, $node->safe_psql('origin', q{
	SELECT (SELECT max(id) FROM nbmf.object WHERE class = 'chat'), last_value FROM nbmf.object_id});

# Pieces of the payloads, to be looked for in the dumps
my @secret_pieces = (
	's3cr3t',
	unpack('H*', 's3cr3t'),
	'h1dd3n',
	unpack('H*', 'h1dd3n'),
	split /\n/,
	$node->safe_psql(
		'origin', q{
		SELECT encode(substr(payload, length(payload) / 2, 24), 'hex') FROM nbmf.object WHERE edge_only}
	));
my @open_pieces = split /\n/, $node->safe_psql('origin', q{
	SELECT encode(substr(payload, length(payload) / 2, 24), 'hex')
	FROM nbmf.object WHERE NOT edge_only AND class = 'general'});

#
# Dump and restore
#
my $dir = $node->basedir;
my @connection = connection($node);
my %way = dump_ways($dir, '--column-inserts');

# All of a dump that is not rows of the user's tables
sub without_rows
{
	my ($dump) = @_;

	$dump =~ s/^COPY (?!nbmf\.)[^\n]*;\n.*?^\\\.$//gms;
	$dump =~ s/^INSERT INTO (?!nbmf\.)[^\n]*$//gm;
	return $dump;
}

foreach my $name (sort keys %way)
{
	command_ok([ @{ $way{$name}->{dump} }, @connection, 'origin' ],
		"$name: dumped");
	my $file = "$dir/$name.sql";
	command_ok(
		[ 'pg_restore', '-f', $file, $way{$name}->{restore}->[-1] ],
		"$name: turned into SQL")
	  if !-f $file;
	my $dump = without_rows(slurp_file($file));

	foreach my $piece (@open_pieces)
	{
		ok(index($dump, $piece) >= 0, "$name: the dump has dictionaries");
	}
	is( join("\n", grep { index($dump, $_) >= 0 } @secret_pieces),
		'', "$name: the dump has nothing of those that are for the edge only");

	new_database($name);
	command_ok([ @{ $way{$name}->{restore} }, @connection, '-d', $name ],
		"$name: restored");
	foreach my $what ($attached, $triggers, $classes, $objects, $sequences)
	{
		is_same($node->safe_psql($name, $what),
			$node->safe_psql('origin', $what),
			"$name: the same: " . ($what =~ s/\s+/ /gr));
	}
	is( $node->safe_psql(
			$name, 'SELECT count(*) FROM nbmf.object WHERE edge_only'),
		'0',
		"$name: none for the edge only is there");
	foreach my $table (@tables)
	{
		is_same(
			rows_of($node, $name, $table),
			rows_of($node, 'origin', $table),
			"$name: rows of $table are the same");
	}
	is(missing_objects($node, $name, @tables),
		'', "$name: nothing refers to what is not there");

	# goes on where the origin was
	$node->safe_psql(
		$name, q{
		INSERT INTO memory VALUES (-1, 't0', 'chat', now(), record_text(4711));
		INSERT INTO "Odd Name"."The Table" VALUES (-1, 't0', secret_text(4711), record_text(4711));
		INSERT INTO parts VALUES (700000, record_text(4711))});
	is(objects_of($node, $name, 'memory', 'n = -1'),
		$chat, "$name: a new value uses the restored dictionary");
	is(objects_of($node, $name, '"Odd Name"."The Table"', 'n = -1'),
		'', "$name: one of a tenant has none");
	$node->safe_psql(
		$name, q{
		CALL nbmf.maintain();
		CREATE TABLE late (body nbmf);
		SELECT nbmf.attach('late', 'body')});
	foreach my $table (@tables)
	{
		next if $table eq 'copied';
		is_same(
			$node->safe_psql(
				$name,
				"SELECT n, nbmf_kind(body), md5(body::text) FROM $table WHERE n BETWEEN 0 AND 100000 ORDER BY n"
			),
			rows_of($node, 'origin', $table),
			"$name: maintenance changes no value of $table");
		is( $node->safe_psql(
				$name,
				"SELECT count(*) FROM $table WHERE (nbmf_info(body)).object IS NULL"
			),
			'0',
			"$name: after maintenance all of $table have a dictionary");
	}
	is( $node->safe_psql(
			$name, qq{
			SELECT count(*), min(id) > $last_object, bool_and(edge_only) FROM nbmf.object
			WHERE id > $last_object OR edge_only}),
		'4|t|t',
		"$name: what was not dumped is learned again, and has new ids");
	is( $node->safe_psql(
			$name,
			q{SELECT attachment > (SELECT max(attachment) FROM nbmf.attached WHERE relation <> 'late'::regclass) + 1
			  FROM nbmf.attached WHERE relation = 'late'::regclass}),
		't',
		"$name: an id of an attached column is not used again");
	my @verified = verify_columns($node, $name);
	is(scalar(@verified), 1, "$name: all columns verify");
	$node->safe_psql('postgres', "DROP DATABASE $name");
}

# One table alone, to where there is no such attached column
command_ok(
	[ 'pg_dump', '-t', 'memory', '-f', "$dir/single.sql", @connection, 'origin' ],
	'single: dumped');
unlike(slurp_file("$dir/single.sql"),
	qr/nbmf\.object|s3cr3t.*nbmf\.class/, 'single: there is nothing but the table');
new_database('single');
$node->safe_psql('single', 'CREATE EXTENSION nbmf');
command_ok(
	[
		'psql', '-Xq', '-v', 'ON_ERROR_STOP=1', '-f', "$dir/single.sql",
		@connection, '-d', 'single'
	],
	'single: restored');
is_same(
	rows_of($node, 'single', 'memory'),
	rows_of($node, 'origin', 'memory'),
	'single: rows are the same');
$node->safe_psql(
	'single', q{
	INSERT INTO memory VALUES (-1, 't0', 'chat', now(), '{"new": 1}'), (-2, 't0', 'none', now(), NULL);
	UPDATE memory SET body = body, kind = 'own' WHERE n % 7 = 0;
	CALL nbmf.maintain()});
is($node->safe_psql('single', 'SELECT body FROM memory WHERE n = -1'),
	'{"new": 1}', 'single: rows can be written');
is( $node->safe_psql(
		'single', q{
		SELECT nbmf.detach('memory', 'body');
		SELECT nbmf.attach('memory', 'body', class => 'chat');
		CALL nbmf.maintain();
		SELECT count(*) FROM memory WHERE (nbmf_info(body)).object IS NULL AND n > 0}),
	"\n\n0",
	'single: and the column can be attached anew');
is_same(
	$node->safe_psql('single',
		'SELECT n, nbmf_kind(body), md5(body::text) FROM memory WHERE n > 0 ORDER BY n'
	),
	rows_of($node, 'origin', 'memory'),
	'single: rows are still the same');

# and to where another column has its number
my $number = $node->safe_psql('origin',
	q{SELECT attachment FROM nbmf.attached WHERE relation = 'memory'::regclass});
new_database('taken');
$node->safe_psql(
	'taken', qq{
	CREATE EXTENSION nbmf;
	SELECT setval('nbmf.attachment_id', $number, false);
	CREATE TABLE first (n int, body nbmf);
	SELECT nbmf.attach('first', 'body', class => 'chat')});
create_records($node, 'taken', $records);
$node->safe_psql('taken', 'INSERT INTO first SELECT n, d FROM record; CALL nbmf.maintain()');
command_ok(
	[
		'psql', '-Xq', '-v', 'ON_ERROR_STOP=1', '-f', "$dir/single.sql",
		@connection, '-d', 'taken'
	],
	'taken: restored');
$node->safe_psql('taken', q{
	INSERT INTO memory VALUES (-1, 't0', 'chat', now(), record_text(4711));
	CALL nbmf.maintain()});
is_same(
	$node->safe_psql('taken',
		'SELECT n, nbmf_kind(body), md5(body::text) FROM memory WHERE n > 0 ORDER BY n'
	),
	rows_of($node, 'origin', 'memory'),
	'taken: rows are the same');
is(objects_of($node, 'taken', 'memory', 'n = -1'),
	'', 'taken: a new value does not use the dictionary of another column');
$node->psql('taken', q{SELECT nbmf.detach('memory', 'body')});
is($node->safe_psql('taken', q{SELECT relation FROM nbmf.attached}),
	'first', 'taken: detaching it leaves the other column attached');

$node->safe_psql('postgres', "DROP DATABASE $_") foreach ('single', 'taken');

#
# Decoding the WAL
#
my $have_test_decoding =
  -e $node->config_data('--pkglibdir') . '/test_decoding.so';
my $plugin = $have_test_decoding ? 'test_decoding' : 'pgoutput';
my $changes =
  $have_test_decoding
  ? q{SELECT data FROM pg_logical_slot_get_changes('slot', NULL, NULL)}
  : q{SELECT bool_or(position('"id": 50001, "tenant"'::bytea IN data) > 0)
	  FROM pg_logical_slot_get_binary_changes('slot', NULL, NULL, 'proto_version', '1',
		'publication_names', 'all_tables')};

$node->safe_psql('origin', 'CREATE PUBLICATION all_tables FOR TABLE memory, parts')
  if !$have_test_decoding;
$node->safe_psql('origin',
	"SELECT pg_create_logical_replication_slot('slot', '$plugin')");
$node->safe_psql(
	'origin', q{
	CREATE TABLE decoded (n int PRIMARY KEY, body nbmf);
	SELECT nbmf.attach('decoded', 'body');
	INSERT INTO decoded SELECT n, d FROM record;
	CALL nbmf.train('decoded', 'body');
	INSERT INTO decoded SELECT n + 10000, record_text(n + 10000) FROM record;
	BEGIN;
	UPDATE decoded SET body = record_text(20001) WHERE n = 10001;
	INSERT INTO decoded VALUES (20002, (SELECT string_agg(record_text(n), ' ') FROM generate_series(1, 3000) n));
	COMMIT;
	CALL nbmf.maintain('decoded');
	UPDATE decoded SET n = -n WHERE n = 5;
	DELETE FROM decoded WHERE n = 6})
  if $have_test_decoding;
if ($have_test_decoding)
{
	cmp_ok($node->safe_psql('origin',
			q{SELECT count(*) FROM decoded WHERE (nbmf_info(body)).object IS NOT NULL}),
		'>', $records, 'decoding: there are values with a dictionary');
	my $decoded = $node->safe_psql('origin', $changes);
	my @texts = split /\n/, $node->safe_psql('origin', q{
		SELECT record_text(n) FROM generate_series(10002, 10000 + 600) AS n});

	ok( !(grep { index($decoded, $_) < 0 } @texts),
		'decoding: every insert shows its text');
	like($decoded, qr/UPDATE: n\[integer\]:10001 body\[nbmf\]:'\{"id": 20001, /,
		'decoding: so does an update');
	like($decoded, qr/INSERT: n\[integer\]:20002 body\[nbmf\]:'\{"id": 1, .*"id": 3000,/,
		'decoding: so does a value out of line');
	like($decoded, qr/UPDATE: n\[integer\]:7 body\[nbmf\]:'\{"id": 7, /,
		'decoding: so does what maintenance writes');
}
else
{
	$node->safe_psql('origin',
		q{INSERT INTO memory VALUES (50001, 't0', 'chat', now(), record_text(50001))});
	is($node->safe_psql('origin', $changes), 't',
		'decoding: an insert shows its text');
}
$node->safe_psql('origin', q{SELECT pg_drop_replication_slot('slot')});

#
# Prepared transactions, across a crash
#
my $prepared = "n int PRIMARY KEY, body nbmf";
$node->safe_psql(
	'origin', qq{
	CREATE TABLE prepared ($prepared);
	SELECT nbmf.attach('prepared', 'body');
	INSERT INTO prepared SELECT n, d FROM record;
	CALL nbmf.train('prepared', 'body');
	BEGIN;
	INSERT INTO prepared SELECT -n, record_text(n + 5) FROM generate_series(1, 100) AS n;
	UPDATE prepared SET body = record_text(n + 6) WHERE n > 0 AND n % 3 = 0;
	PREPARE TRANSACTION 'values';
	BEGIN;
	CREATE TABLE attached_later (n int, body nbmf);
	SELECT nbmf.attach('attached_later', 'body');
	PREPARE TRANSACTION 'attachment'});
$node->stop('immediate');
$node->start;
$node->safe_psql('origin', 'CALL nbmf.maintain()');
my $session = open_session($node, 'origin');
is(ask($session, 'SELECT count(*) FROM prepared WHERE n < 0'),
	'0', 'prepared: not there before it is committed');
$node->safe_psql('origin',
	q{COMMIT PREPARED 'values'; COMMIT PREPARED 'attachment'});
is( ask($session, q{
		SELECT count(*), count((nbmf_info(body)).object), bool_and(body::text = record_text(-n + 5))
		FROM prepared WHERE n < 0}),
	'100|100|t',
	'prepared: values can be read after a restart');
is( ask($session, q{
		SELECT count(*), bool_and(body::text = record_text(n + 6)) FROM prepared WHERE n > 0 AND n % 3 = 0}),
	'200|t',
	'prepared: so can those that were changed');
is( ask($session, q{
		INSERT INTO attached_later SELECT n, d FROM record;
		CALL nbmf.maintain('attached_later');
		SELECT count(*) FROM attached_later JOIN record USING (n)
		WHERE body::text = d AND (nbmf_info(body)).object IS NOT NULL}),
	$records,
	'prepared: a column attached so is attached');
close_session($session);

#
# A standby
#
$node->safe_psql(
	'origin', q{
	CREATE TABLE on_standby (n int PRIMARY KEY, body nbmf);
	SELECT nbmf.attach('on_standby', 'body')});
$node->backup('base');
my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($node, 'base', has_streaming => 1);
$standby->start;
my $long = open_session($standby, 'origin');
is(ask($long, 'SELECT count(*), bool_and(nbmf_verify(body)) FROM memory'),
	$node->safe_psql('origin', 'SELECT count(*), true FROM memory'),
	'standby: a session reads values with dictionaries');
$node->safe_psql(
	'origin', q{
	INSERT INTO on_standby SELECT n, d FROM record;
	CALL nbmf.maintain('on_standby');
	INSERT INTO on_standby SELECT n + 10000, d FROM record});
$node->wait_for_catchup($standby, 'replay', $node->lsn('write'));
foreach my $table (@tables, 'on_standby')
{
	is_same(
		rows_of($standby, 'origin', $table),
		rows_of($node, 'origin', $table),
		"standby: rows of $table are the same");
}
is( ask($long, q{
		SELECT count(*), count((nbmf_info(body)).object), bool_and(body::text = d)
		FROM on_standby JOIN record ON record.n = on_standby.n % 10000}),
	2 * $records . '|' . 2 * $records . '|t',
	'standby: an older session reads them as well');
foreach my $call (q{CALL nbmf.train('on_standby', 'body')},
	'CALL nbmf.maintain()', q{SELECT nbmf.attach('copied', 'body')})
{
	like(sqlstate_of($standby, 'origin', $call),
		qr/^(25006|55000)$/, "standby: $call is refused");
}
$standby->promote;
$node->stop('fast');
is( ask($long, q{
		INSERT INTO on_standby SELECT n + 20000, d FROM record;
		SELECT count(*), count(DISTINCT (nbmf_info(body)).object), max((nbmf_info(body)).object) IN
			(SELECT id FROM nbmf.object) FROM on_standby WHERE n > 20000}),
	"$records|1|t",
	'promoted: the same session writes with the dictionary');
my $highest = $standby->safe_psql('origin', 'SELECT max(id) FROM nbmf.object');
$standby->safe_psql(
	'origin', q{
	SELECT nbmf.attach('copied', 'body');
	CALL nbmf.train('copied', 'body');
	CALL nbmf.maintain()});
is( $standby->safe_psql('origin',
		q{SELECT o.id > } . $highest . q{ FROM nbmf.object AS o JOIN nbmf.attached AS a USING (attachment)
		  WHERE a.relation = 'copied'::regclass}),
	't',
	'promoted: training gives a new id');
is( $standby->safe_psql('origin',
		'SELECT count(*) FROM copied JOIN record USING (n) WHERE body::text = secret_text(n, tenant)'),
	$records,
	'promoted: maintenance changes no value');
is(missing_objects($standby, 'origin', @tables, 'on_standby'),
	'', 'promoted: nothing refers to what is not there');
is(scalar(verify_columns($standby, 'origin')), 1, 'promoted: all columns verify');
close_session($long);
$standby->stop('fast');
$node->start;

#
# Logical replication, to a subscriber that has dictionaries of its own
#
my $subscriber =
  new_node('subscriber', allows_streaming => 'logical', conf => "shared_buffers = 16MB\n"
	  . "fsync = off\nclient_min_messages = warning\n");
$subscriber->start;
foreach my $server ($node, $subscriber)
{
	$server->safe_psql('postgres', q{
		CREATE EXTENSION nbmf;
		CREATE TABLE by_text (n int PRIMARY KEY, body nbmf);
		CREATE TABLE by_binary (n int PRIMARY KEY, body nbmf);
		CREATE TABLE by_full (n int, body nbmf);
		ALTER TABLE by_full REPLICA IDENTITY FULL});
	create_records($server, 'postgres', $records);
}
my @replicated = ('by_text', 'by_binary', 'by_full');
# ids differ, and so does what they were learned from
$subscriber->safe_psql('postgres',
	q{SELECT setval('nbmf.object_id', 100); SELECT setval('nbmf.attachment_id', 50)});
foreach my $table (@replicated)
{
	$_->safe_psql('postgres', "SELECT nbmf.attach('$table', 'body')")
	  foreach ($node, $subscriber);
	$subscriber->safe_psql('postgres', qq{
		INSERT INTO $table SELECT n, d || ' ' FROM record;
		CALL nbmf.train('$table', 'body');
		TRUNCATE $table});
	$node->safe_psql('postgres', qq{
		INSERT INTO $table SELECT n, d FROM record WHERE n % 2 = 0;
		CALL nbmf.maintain('$table')});
}
my $connstr = $node->connstr . ' dbname=postgres';
$node->safe_psql('postgres', q{
	CREATE PUBLICATION by_text FOR TABLE by_text, by_full;
	CREATE PUBLICATION by_binary FOR TABLE by_binary});
$subscriber->safe_psql('postgres', qq{
	CREATE SUBSCRIPTION by_text CONNECTION '$connstr' PUBLICATION by_text;
	CREATE SUBSCRIPTION by_binary CONNECTION '$connstr' PUBLICATION by_binary WITH (binary = true)});
$subscriber->wait_for_subscription_sync($node, $_) foreach ('by_text', 'by_binary');

sub compare_replicated
{
	my ($what) = @_;

	$node->wait_for_catchup($_) foreach ('by_text', 'by_binary');
	foreach my $table (@replicated)
	{
		is_same(
			rows_of($subscriber, 'postgres', $table),
			rows_of($node, 'postgres', $table),
			"replication: $what: $table is the same");
	}
	is(missing_objects($subscriber, 'postgres', @replicated),
		'', "replication: $what: nothing refers to what is not there");
	return;
}

compare_replicated('initial copy');
foreach my $table (@replicated)
{
	$node->safe_psql('postgres', qq{
		INSERT INTO $table SELECT n, d FROM record WHERE n % 2 = 1;
		UPDATE $table SET body = record_text(n + 1000) WHERE n % 5 = 0;
		UPDATE $table SET n = -n WHERE n % 7 = 0;
		DELETE FROM $table WHERE n % 11 = 0});
}
compare_replicated('changes');
foreach my $table (@replicated)
{
	unlike(
		$subscriber->safe_psql('postgres', qq{
			SELECT string_agg(DISTINCT coalesce((nbmf_info(body)).object, 0)::text, ' ')
			FROM $table WHERE n % 2 <> 0}),
		qr/\b0\b/,
		"replication: what is applied to $table uses the subscriber's dictionary");
}
$node->safe_psql('postgres', 'CALL nbmf.maintain()');
compare_replicated('maintenance of the publisher');
$subscriber->safe_psql('postgres',
	join(';', map { "CALL nbmf.train('$_', 'body')" } @replicated)
	  . '; CALL nbmf.maintain()');
compare_replicated('maintenance of the subscriber');
foreach my $table (@replicated)
{
	is( $subscriber->safe_psql('postgres', qq{
			SELECT count(*) FROM $table WHERE (nbmf_info(body)).object IS NULL
				OR (nbmf_info(body)).object <= 100}),
		'0',
		"replication: all of $table have the subscriber's own dictionaries");
	$node->safe_psql('postgres', qq{
		UPDATE $table SET body = record_text(n + 2000) WHERE n % 4 = 0;
		DELETE FROM $table WHERE n % 13 = 0});
}
compare_replicated('changes of what was maintained');
$subscriber->stop('fast');

#
# The extension is dropped and created again while sessions go on
#
new_database('again');
$node->safe_psql('again', 'CREATE EXTENSION nbmf');
create_records($node, 'again', $records);
my @sessions = map { open_session($node, 'again') } (1, 2);
foreach my $round (1, 2, 3)
{
	ask($sessions[0], q{CREATE EXTENSION IF NOT EXISTS nbmf; ALTER EXTENSION nbmf UPDATE});
	ask($sessions[0], qq{
		CREATE TABLE IF NOT EXISTS first (n int, extra int);
		ALTER TABLE first ADD body nbmf;
		TRUNCATE first;
		SELECT nbmf.attach('first', 'body');
		INSERT INTO first (n, body) SELECT n, translate(d, 'aeinst', substr('intaesintaes', $round, 6)) FROM record;
		CALL nbmf.train('first', 'body')});
	foreach my $i (0, 1)
	{
		ask($sessions[$i], qq{
			INSERT INTO first (n, body)
			SELECT n + 10000, translate(d, 'aeinst', substr('intaesintaes', $round, 6)) FROM record});
		is( ask($sessions[ 1 - $i ], qq{
				SELECT count(*), string_agg(DISTINCT (nbmf_info(body)).object::text, ' '),
					bool_and(body::text = translate(d, 'aeinst', substr('intaesintaes', $round, 6)))
				FROM first JOIN record ON record.n = first.n - 10000}),
			$records * (1 + $i) . '|1|t',
			"again, round $round: ids start anew, and no session mistakes them");
	}
	is( (ask($sessions[$round % 2], 'DROP EXTENSION nbmf'))[1] =~
		  /cannot drop extension nbmf because other objects depend on it/
		? 'refused'
		: 'done',
		'refused',
		"again, round $round: not dropped while there are columns");
	like((ask($sessions[1], 'ALTER EXTENSION nbmf SET SCHEMA pg_catalog'))[1],
		qr/does not support SET SCHEMA/, "again, round $round: not moved either");
	ask($sessions[$round % 2], 'DROP EXTENSION nbmf CASCADE');
	is( ask($sessions[1], q{
			SELECT to_regtype('nbmf'), to_regclass('nbmf.object'),
				(SELECT count(*) FROM pg_trigger WHERE tgname ~ 'nbmf'),
				(SELECT string_agg(attname, ' ' ORDER BY attnum) FROM pg_attribute
				 WHERE attrelid = 'first'::regclass AND attnum > 0 AND NOT attisdropped)}),
		'||0|n extra',
		"again, round $round: dropped with its columns");
}
close_session($_) foreach @sessions;

foreach my $server ($node, $standby, $subscriber)
{
	unlike(
		slurp_file($server->logfile),
		qr/PANIC|TRAP|terminated by signal/,
		$server->name . ' has not crashed');
}
$node->stop;
done_testing();

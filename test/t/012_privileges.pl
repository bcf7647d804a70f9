# Who may do what with attached columns, and as whom the code of users runs:
# a table's owner can put code of their own into casts, defaults, generated
# columns, indexes, constraints, domains, triggers and policies, and none of
# it may run as the superuser who calls nbmf.maintain() for the whole database.
# Nor may an owner, whatever they make, bring down the server, spoil what
# belongs to others, or keep their tables from being maintained.
use strict;
use warnings FATAL => 'all';

use NbmfTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = new_node(
	'main',
	allows_streaming => 'logical',
	conf => "restart_after_crash = on\nshared_buffers = 16MB\nfsync = off\n"
	  . "client_min_messages = warning\n");
my $records = 400;

$node->start;
$node->safe_psql('postgres', 'CREATE EXTENSION nbmf');
create_records($node, 'postgres', $records);
$node->safe_psql(
	'postgres', q{
	CREATE ROLE alice LOGIN;
	CREATE ROLE mallory LOGIN;
	CREATE ROLE other_super SUPERUSER LOGIN;
	GRANT CREATE ON SCHEMA public TO alice, mallory;
	GRANT SELECT ON record TO PUBLIC});

# Run SQL as a role; returns what went wrong, "" if nothing did
sub run_as
{
	my ($role, $sql) = @_;
	my ($ret, $out, $err) = $node->psql('postgres', $sql,
		extra_params => [ '-U', $role, '-v', 'VERBOSITY=terse' ]);

	return $ret == 0 ? '' : $err;
}

# Whether the server has lived through it, too.  The rest of the tests is run in
# any case.
my $crashes = 0;

sub lives
{
	my ($name) = @_;
	my $before = $crashes;

	answers_again($node, 'postgres')
	  or die 'the server does not come back';
	$crashes = () = slurp_file($node->logfile) =~ /terminated by signal|TRAP/g;
	is($crashes - $before, 0, $name);
	return;
}

# How many values of a column wait for maintenance: it gives each a dictionary,
# and what is that small also pays
sub waiting
{
	my ($table, $column) = @_;

	$column //= 'body';
	return $node->safe_psql('postgres',
		"SELECT count(*) FROM $table WHERE (nbmf_info($column)).object IS NULL"
	);
}

#
# An owner
#
is( run_as(
		'alice', q{
		CREATE TABLE hers (n int, body nbmf);
		SELECT nbmf.attach('hers', 'body');
		INSERT INTO hers SELECT n, d FROM record;
		CALL nbmf.train('hers', 'body');
		INSERT INTO hers SELECT n + 10000, d FROM record;
		CALL nbmf.maintain('hers');
		CALL nbmf.maintain()}),
	'',
	'an owner attaches, trains and maintains');
is(waiting('hers'), '0', 'and it has its effect');
foreach my $sql (
	q{SELECT nbmf.attach('hers', 'body')}, q{SELECT nbmf.detach('hers', 'body')},
	q{CALL nbmf.train('hers', 'body')}, q{CALL nbmf.maintain('hers')},
	q{SELECT * FROM nbmf_estimate('hers', 'body')},
	q{SELECT * FROM nbmf_verify_table('hers', 'body')},
	'SELECT payload FROM nbmf.object', q{SELECT nextval('nbmf.object_id')},
	q{SELECT nextval('nbmf.attachment_id')}, q{SELECT setval('nbmf.object_id', 1)},
	q{INSERT INTO nbmf.class (name) VALUES ('mine')}, 'UPDATE nbmf.class SET l1_level = 1',
	'DELETE FROM nbmf.attachment', q{SELECT nbmf.apply_preset('development')},
	'TRUNCATE nbmf.class', 'DO $$ BEGIN LOCK TABLE nbmf.object; END $$')
{
	is(sqlstate_of($node, 'postgres', $sql, '-U', 'mallory'),
		'42501', "others may not: $sql");
}
is( run_as('mallory', 'CALL nbmf.maintain()'),
	'', 'maintenance of all tables is of those that one owns');
is( $node->safe_psql('postgres', 'SELECT count(*) FROM nbmf.object'),
	'1', 'and does nothing to others');

#
# Code of users.  Each place records who runs it; the plant is by an owner.
#
is( run_as(
		'mallory', q{
		CREATE TABLE ran (place text, who text, role text);
		GRANT ALL ON ran TO PUBLIC;
		CREATE FUNCTION note(place text) RETURNS void LANGUAGE plpgsql AS $$
		BEGIN
			INSERT INTO public.ran VALUES (place, current_user, current_setting('session_replication_role'));
		END $$;
		CREATE FUNCTION in_index(v nbmf) RETURNS int LANGUAGE plpgsql IMMUTABLE AS $$
		BEGIN PERFORM public.note('index'); RETURN length(v::text); END $$;
		CREATE FUNCTION in_predicate(v nbmf) RETURNS boolean LANGUAGE plpgsql IMMUTABLE AS $$
		BEGIN PERFORM public.note('predicate'); RETURN true; END $$;
		CREATE FUNCTION in_generated(v nbmf) RETURNS int LANGUAGE plpgsql IMMUTABLE AS $$
		BEGIN PERFORM public.note('generated'); RETURN length(v::text); END $$;
		CREATE FUNCTION in_check(v nbmf) RETURNS boolean LANGUAGE plpgsql IMMUTABLE AS $$
		BEGIN PERFORM public.note('check'); RETURN true; END $$;
		CREATE FUNCTION in_domain(v nbmf) RETURNS boolean LANGUAGE plpgsql IMMUTABLE AS $$
		BEGIN PERFORM public.note('domain'); RETURN true; END $$;
		CREATE FUNCTION in_policy(v nbmf) RETURNS boolean LANGUAGE plpgsql AS $$
		BEGIN PERFORM public.note('policy'); RETURN true; END $$;
		CREATE FUNCTION in_default() RETURNS int LANGUAGE plpgsql AS $$
		BEGIN PERFORM public.note('default'); RETURN 1; END $$;
		CREATE FUNCTION in_trigger() RETURNS trigger LANGUAGE plpgsql AS $$
		BEGIN PERFORM public.note('trigger ' || TG_ARGV[0]); RETURN NEW; END $$;
		CREATE TYPE mood AS ENUM ('chat', 'general');
		CREATE FUNCTION in_cast(m mood) RETURNS text LANGUAGE plpgsql AS $$
		BEGIN PERFORM public.note('cast'); RETURN 'chat'; END $$;
		CREATE CAST (mood AS text) WITH FUNCTION in_cast(mood);
		CREATE TYPE pair AS (a int);
		CREATE FUNCTION in_pair_cast(p pair) RETURNS text LANGUAGE plpgsql AS $$
		BEGIN PERFORM public.note('cast'); RETURN 'someone'; END $$;
		CREATE CAST (pair AS text) WITH FUNCTION in_pair_cast(pair);
		CREATE DOMAIN checked AS nbmf CHECK (in_domain(VALUE));
		-- an operator and functions in the way of those of the server
		CREATE FUNCTION same_tid(tid, tid) RETURNS boolean LANGUAGE plpgsql AS $$
		BEGIN PERFORM public.note('operator'); RETURN true; END $$;
		CREATE OPERATOR = (LEFTARG = tid, RIGHTARG = tid, FUNCTION = same_tid);
		CREATE TABLE trap (
			n int, m mood, p pair, body checked CHECK (in_check(body)),
			len int GENERATED ALWAYS AS (in_generated(body)) STORED,
			def int DEFAULT in_default());
		CREATE INDEX trap_index ON trap (in_index(body)) WHERE in_predicate(body);
		CREATE TRIGGER a BEFORE UPDATE ON trap FOR EACH ROW EXECUTE FUNCTION in_trigger('before');
		CREATE TRIGGER b AFTER UPDATE ON trap FOR EACH ROW EXECUTE FUNCTION in_trigger('always');
		ALTER TABLE trap ENABLE ALWAYS TRIGGER b;
		ALTER TABLE trap ENABLE ROW LEVEL SECURITY;
		CREATE POLICY p ON trap USING (in_policy(body)) WITH CHECK (in_policy(body));
		SELECT nbmf.attach('trap', 'body', class => 'legal', class_by => 'm', tenant_by => 'p');
		INSERT INTO trap (n, m, p, body) SELECT n, 'chat', '(1)', d FROM record;
		TRUNCATE ran}),
	'',
	'traps are set');
foreach my $call (
	q{SELECT count(*) FROM nbmf_estimate('trap', 'body')},
	q{CALL nbmf.train('trap', 'body')},
	q{SELECT count(*) FROM nbmf_verify_table('trap', 'body')},
	q{CALL nbmf.maintain('trap')},
	q{UPDATE nbmf.class SET share = 'tenant' WHERE name = 'chat'; },
	'CALL nbmf.maintain()',
	q{SELECT nbmf.detach('trap', 'body')},
	q{SELECT nbmf.attach('trap', 'body')},
	'CALL nbmf.maintain()')
{
	is(run_as('other_super', $call), '', "a superuser may: $call");
	is( $node->safe_psql('postgres',
			q{SELECT DISTINCT place, who FROM ran WHERE who <> 'mallory' ORDER BY 1}),
		'',
		'and code of the owner has not run as the superuser');
	$node->safe_psql('postgres', 'DELETE FROM ran WHERE who <> $$mallory$$');
}
is(waiting('trap'), '0', 'the table is maintained');
is( $node->safe_psql(
		'postgres', q{
		SELECT string_agg(DISTINCT place, ' ' ORDER BY place) FROM ran}),
	'check domain generated index predicate trigger always',
	'code of the owner did run, so the traps are where they should be')
  or diag('a place may be missing without harm, "trigger before" may not be there');
$node->safe_psql('postgres', q{UPDATE nbmf.class SET share = 'column' WHERE name = 'chat'});

# What is deferred would run when the superuser's transaction commits
is( run_as(
		'mallory', q{
		DROP TABLE trap;
		CREATE TABLE deferred (n int, body nbmf);
		SELECT nbmf.attach('deferred', 'body');
		INSERT INTO deferred SELECT n, d FROM record;
		CREATE CONSTRAINT TRIGGER c AFTER UPDATE ON deferred DEFERRABLE INITIALLY DEFERRED
			FOR EACH ROW EXECUTE FUNCTION in_trigger('deferred');
		ALTER TABLE deferred ENABLE ALWAYS TRIGGER c;
		TRUNCATE ran}),
	'',
	'a deferred trap is set');
run_as('other_super', 'CALL nbmf.maintain()');
is( $node->safe_psql('postgres',
		q{SELECT DISTINCT place, who FROM ran WHERE who <> 'mallory'}),
	'',
	'a deferred trigger does not run as the superuser');
$node->safe_psql('postgres', 'DROP TABLE deferred');

# The setting that keeps triggers from firing
my $session = open_session($node, 'postgres');
$node->safe_psql(
	'postgres', q{
	CREATE FUNCTION fails(v nbmf) RETURNS int LANGUAGE plpgsql IMMUTABLE AS $$
	BEGIN
		IF current_setting('session_replication_role') = 'replica' THEN RAISE 'made to fail'; END IF;
		RETURN 1;
	END $$;
	CREATE TABLE failing (n int, body nbmf);
	SELECT nbmf.attach('failing', 'body');
	INSERT INTO failing SELECT n, d FROM record;
	CREATE INDEX ON failing (fails(body))});
ask($session, q{CALL nbmf.maintain('failing')});
is( ask($session, 'SHOW session_replication_role; SELECT current_user; SELECT count(*) FROM pg_locks WHERE pid = pg_backend_pid() AND mode ~ $$Exclusive$$ AND locktype = $$relation$$'),
	"origin\n" . $node->safe_psql('postgres', 'SELECT current_user') . "\n0",
	'after an error the session is what it was');
ask($session, 'SET session_replication_role = local; SET ROLE alice');
ask($session, q{CALL nbmf.maintain('hers')});
is(ask($session, 'SHOW session_replication_role; SELECT current_user'),
	"local\nalice", 'and after success');
close_session($session);

# A table that cannot be maintained is no reason to leave out the others
sub goes_on
{
	my ($name) = @_;
	# names and numbers before and after that of the obstacle
	my ($before, $after) = ("z$name", "a$name");

	$node->safe_psql('postgres', qq{
		CREATE TABLE $after (n int, body nbmf);
		SELECT nbmf.attach('$after', 'body');
		INSERT INTO $after SELECT n, d FROM record});
	my ($ret, $out, $err) = $node->psql('postgres', 'SET client_min_messages = notice; CALL nbmf.maintain()');
	is($ret, 0, "$name: maintenance of all tables goes on");
	like($err, qr/\Q$name\E/, "$name: and says which one it is");
	is(waiting($after), '0', "$name: others are maintained");
	$node->safe_psql('postgres', "DROP TABLE $after");
	return;
}

goes_on('failing');
$node->safe_psql('postgres', 'DROP TABLE failing');
$node->safe_psql(
	'postgres', q{
	CREATE TABLE published (n int, body nbmf);
	SELECT nbmf.attach('published', 'body');
	INSERT INTO published SELECT n, d FROM record;
	CREATE PUBLICATION p FOR TABLE published});
goes_on('published');
$node->safe_psql('postgres', q{
	ALTER TABLE published REPLICA IDENTITY FULL;
	CALL nbmf.maintain()});
is(waiting('published'), '0', 'published: maintained when it has an identity');
$node->safe_psql('postgres', 'DROP PUBLICATION p; DROP TABLE published');
is( run_as('alice', q{
		CREATE TABLE revoked (n int, body nbmf);
		SELECT nbmf.attach('revoked', 'body');
		INSERT INTO revoked SELECT n, d FROM record;
		REVOKE ALL ON revoked FROM alice}),
	'',
	'an owner revokes their own rights');
goes_on('revoked');
$node->safe_psql('postgres', 'DROP TABLE revoked');

# Row-level security that is forced on the owner: hidden rows are not taken
# for rows that somebody changed, and who bypasses it maintains all
is( run_as('alice', q{
		CREATE TABLE forced (n int, body nbmf);
		SELECT nbmf.attach('forced', 'body');
		INSERT INTO forced SELECT n, d FROM record;
		ALTER TABLE forced ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
		CREATE POLICY half ON forced USING (n > 200)}),
	'',
	'row-level security is forced on an owner');
foreach my $sql (q{CALL nbmf.train('forced', 'body')}, q{CALL nbmf.maintain('forced')})
{
	is(sqlstate_of($node, 'postgres', $sql, '-U', 'alice'), '42501', "forced: $sql");
}
is(run_as('alice', 'CALL nbmf.maintain()'), '', 'forced: maintenance of all tables goes on');
is(waiting('forced'), $records, 'forced: and leaves that table out');
$node->safe_psql('postgres', q{CALL nbmf.maintain('forced')});
is(waiting('forced'), '0', 'forced: a superuser maintains all rows');
is( $node->safe_psql('postgres', 'SELECT count(*) FROM forced JOIN record USING (n) WHERE body::text = d'),
	$records, 'forced: values are the same');
$node->safe_psql('postgres', 'DROP TABLE forced');

#
# What is not plain: modifiers, domains, generated columns, names
#
$node->safe_psql(
	'postgres', q{
	CREATE DOMAIN note AS nbmf(lossless, 9) NOT NULL CHECK (length(VALUE::text) > 3);
	CREATE DOMAIN finer_note AS note CHECK (VALUE ->> 'id' IS NOT NULL);
	CREATE TABLE modified (n int PRIMARY KEY, body nbmf(lossless, 17));
	CREATE TABLE of_domain (n int PRIMARY KEY, tenant text, body finer_note,
		len int GENERATED ALWAYS AS (length(body::text)) STORED,
		who text GENERATED ALWAYS AS (body ->> 'tenant') STORED);
	CREATE INDEX of_domain_id ON of_domain ((body ->> 'id'));
	CREATE INDEX of_domain_hash ON of_domain USING hash (body);
	CREATE SCHEMA "Odd Name";
	CREATE TABLE "Odd Name"."The ""Table""" (n int, "Ten ant" text, "Kind'\" text, "Body Col" nbmf);
	CREATE TABLE long_names (n int,
		a_column_with_a_name_of_the_greatest_length_that_there_can_be_1 nbmf,
		a_column_with_a_name_of_the_greatest_length_that_there_can_be_2 nbmf);
	SELECT nbmf.attach('modified', 'body');
	SELECT nbmf.attach('of_domain', 'body', class => 'legal', tenant_by => 'tenant');
	SELECT nbmf.attach('"Odd Name"."The ""Table"""', 'Body Col', class => 'legal',
		class_by => 'Kind''\', tenant_by => 'Ten ant');
	SELECT nbmf.attach('long_names', 'a_column_with_a_name_of_the_greatest_length_that_there_can_be_1');
	INSERT INTO modified SELECT n, d FROM record;
	INSERT INTO of_domain SELECT n, tenant, d FROM record;
	INSERT INTO "Odd Name"."The ""Table""" SELECT n, 'o''' || tenant || '"', 'legal', d FROM record;
	INSERT INTO long_names SELECT n, d, d FROM record});
is( run_as('other_super', q{
		SELECT nbmf.attach('long_names', 'a_column_with_a_name_of_the_greatest_length_that_there_can_be_2')}),
	'', 'columns whose names begin alike can both be attached');
$node->safe_psql('postgres', 'CALL nbmf.maintain()');
foreach my $case (
	[ 'modified', 'body' ],
	[ 'of_domain', 'body' ],
	[ '"Odd Name"."The ""Table"""', '"Body Col"' ],
	[ 'long_names', 'a_column_with_a_name_of_the_greatest_length_that_there_can_be_1' ])
{
	my ($table, $column) = @$case;

	is(waiting($table, $column), '0', "$table is maintained");
	is( $node->safe_psql('postgres',
			"SELECT count(*) FROM $table JOIN record USING (n) WHERE $column\::text = d"),
		$records,
		"$table: values are the same");
	my $places = "SELECT md5(string_agg(ctid::text, ' ' ORDER BY n)) FROM $table";
	my $before = $node->safe_psql('postgres', $places);
	$node->safe_psql('postgres', 'CALL nbmf.maintain()');
	is($node->safe_psql('postgres', $places), $before, "$table: the second time there is nothing to do");
}
is( $node->safe_psql('postgres', q{
		SELECT count(*) FROM of_domain WHERE len <> length(body::text) OR who <> body ->> 'tenant'}),
	'0', 'of_domain: generated columns are right');
is( $node->safe_psql('postgres', q{
		SET enable_seqscan = off;
		SELECT count(*) FROM record AS r WHERE EXISTS
			(SELECT FROM of_domain AS o WHERE o.body ->> 'id' = r.n::text AND o.n = r.n)}),
	$records, 'of_domain: the index finds every row');
is( $node->safe_psql('postgres', q{
		UPDATE of_domain SET tenant = 't9' WHERE n = 3;
		SELECT (nbmf_info(body)).object FROM of_domain WHERE n = 3}),
	'', 'of_domain: a value that changes its tenant leaves the dictionary');

# A trigger before the row sees a generated column as it was before
isnt(sqlstate_of($node, 'postgres', q{
		SELECT nbmf.detach('of_domain', 'body');
		SELECT nbmf.attach('of_domain', 'body', class => 'legal', tenant_by => 'who')}),
	'none', 'a generated column cannot be the tenant');

#
# What a user's own trigger can do with the extension's functions
#
$node->safe_psql('postgres', q{
	CREATE TABLE victim (n int, body nbmf);
	SELECT nbmf.attach('victim', 'body');
	INSERT INTO victim SELECT n, d FROM record;
	CALL nbmf.maintain('victim');
	CREATE TABLE before_forging AS SELECT * FROM nbmf.attached});
my $id = $node->safe_psql('postgres',
	q{SELECT attachment FROM nbmf.attached WHERE relation = 'victim'::regclass});

run_as('mallory', qq{
	CREATE TABLE forged (n int, body nbmf);
	CREATE TRIGGER t BEFORE INSERT OR UPDATE OF body ON forged
		FOR EACH ROW EXECUTE FUNCTION nbmf.encode('$id', '')});
run_as('mallory', q{INSERT INTO forged SELECT n, d FROM record});
is( $node->safe_psql('postgres', 'SELECT count(*) FROM forged WHERE (nbmf_info(body)).object IS NOT NULL'),
	'0', "a forged trigger does not lend another's dictionary");
run_as('mallory', q{
	UPDATE forged SET body = secret_text(n)});
run_as('mallory', q{CALL nbmf.train('forged', 'body')});
is( $node->safe_psql('postgres', "SELECT count(*) FROM nbmf.object WHERE attachment = $id"),
	'1', 'nor adds to them');
run_as('mallory', q{SELECT nbmf.detach('forged', 'body')});
is( $node->safe_psql('postgres', q{SELECT count(*) FROM nbmf.attached WHERE relation = 'victim'::regclass}),
	'1', 'nor detaches its column');
run_as('mallory', 'DROP TABLE forged');

run_as('mallory', q{
	CREATE TABLE forged (body nbmf);
	CREATE TRIGGER t BEFORE INSERT OR UPDATE OF body ON forged
		FOR EACH ROW EXECUTE FUNCTION nbmf.encode('x', '')});
is(run_as('other_super', 'SELECT * FROM nbmf.attached'), '', 'nor spoils nbmf.attached');
is(run_as('other_super', 'CALL nbmf.maintain()'), '', 'nor maintenance');
run_as('mallory', 'DROP TABLE forged');

foreach my $type ('bytea', 'text', 'jsonb', 'int')
{
	my $value = { bytea => q{'\x0102'}, text => q{'text'}, jsonb => '1', int => '1' }->{$type};

	run_as('mallory', qq{
		CREATE TABLE forged (body $type);
		INSERT INTO forged VALUES ($value);
		CREATE TRIGGER t BEFORE INSERT OR UPDATE OF body ON forged
			FOR EACH ROW EXECUTE FUNCTION nbmf.encode('$id', '')});
	run_as('mallory', "INSERT INTO forged VALUES ($value)");
	lives("a forged trigger on a column of type $type does not crash");
	is(run_as('other_super', 'CALL nbmf.maintain()'), '', "nor keeps maintenance from its work, $type");
	lives("which does not crash either, $type");
	run_as('mallory', 'DROP TABLE forged');
}
foreach my $function ('keep_class', 'guard_object', 'notify_settings')
{
	run_as('mallory', qq{
		CREATE TABLE forged (a int, b int, c int, d int, e int, f int, g text);
		CREATE TRIGGER t BEFORE INSERT OR UPDATE ON forged FOR EACH ROW EXECUTE FUNCTION nbmf.$function()});
	run_as('mallory', 'INSERT INTO forged (a) VALUES (NULL) RETURNING *');
	run_as('mallory', 'INSERT INTO forged (a) VALUES (1)');
	lives("nbmf.$function() in another's trigger does not crash");
	run_as('mallory', 'DROP TABLE forged');
}

$node->stop;
done_testing();

# A shared object that is damaged, or gone: a dictionary and a model, each with
# values that need it beside values that do not.
#
# The values that need it raise an error that names it; everything else goes on.
# nbmf_verify says false, nbmf_verify_table names value and object, and
# nbmf.maintain warns of the object once and maintains the rest of the table.
use strict;
use warnings FATAL => 'all';

use NbmfTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = new_node('main', conf => "fsync = off\nautovacuum = off\n");
$node->start;
$node->safe_psql('postgres', 'CREATE EXTENSION nbmf');

# Values with a dictionary, and values with a model
$node->safe_psql(
	'postgres', q{
	UPDATE nbmf.class SET codec = 'neural' WHERE name = 'chat';
	CREATE TABLE record AS SELECT n, format(
		'{"role": "%s", "model": "large", "content": "somebody asks %s about %s", "tokens": %s}',
		CASE n % 2 WHEN 0 THEN 'user' ELSE 'assistant' END, n,
		(ARRAY['orders', 'invoices', 'refunds'])[n * 7919 % 3 + 1], n * 31 % 977) AS d
		FROM generate_series(1, 8000) AS n;
	CREATE TABLE memory (n int, kind text, body nbmf);
	SELECT nbmf.attach('memory', 'body', class_by => 'kind');
	INSERT INTO memory SELECT n, 'general', d FROM record WHERE n <= 600;
	INSERT INTO memory SELECT n, 'chat', d FROM record;
	CALL nbmf.train('memory', 'body');
	CALL nbmf.maintain('memory')});
my ($dictionary, $model) = split /\|/, $node->safe_psql(
	'postgres', q{
	SELECT max(id) FILTER (WHERE class = 'general' AND kind = 'dictionary'),
		max(id) FILTER (WHERE kind = 'model') FROM nbmf.object});
ok($dictionary && $model, 'there are a dictionary and a model');

# Change rows of nbmf.object behind the back of its trigger.  They are read with a
# snapshot that sees old versions too, until VACUUM removes them.
sub change_objects
{
	my ($sql) = @_;

	$node->safe_psql('postgres', qq{
		ALTER TABLE nbmf.object DISABLE TRIGGER guard_object;
		$sql;
		ALTER TABLE nbmf.object ENABLE ALWAYS TRIGGER guard_object});
	$node->safe_psql('postgres', 'VACUUM nbmf.object');
	# what sessions and the server have loaded is whole
	$node->restart;
	return;
}

sub maintain
{
	my ($result, $out, $err) =
	  $node->psql('postgres', q{CALL nbmf.maintain('memory')});

	is($result, 0, 'nbmf.maintain() ends well');
	return $err;
}

change_objects('CREATE TABLE kept AS SELECT * FROM nbmf.object');
foreach my $object ($dictionary, $model)
{
	my $name = $object eq $model ? 'model' : 'dictionary';
	my $class = $object eq $model ? 'chat' : 'general';

	foreach my $how ('damaged', 'missing')
	{
		my $said = $how eq 'missing' ? 'not there' : 'damaged';

		# values of both classes that maintenance has yet to encode
		$node->safe_psql('postgres', q{
			INSERT INTO memory SELECT n + 100000, 'general', d || '!' FROM record WHERE n <= 600;
			INSERT INTO memory SELECT n + 200000, 'chat', d || '!' FROM record WHERE n <= 600});
		my $needing = $node->safe_psql('postgres',
			"SELECT count(*) FROM memory WHERE (nbmf_info(body)).object = $object");

		change_objects($how eq 'missing'
			? "DELETE FROM nbmf.object WHERE id = $object"
			: "UPDATE nbmf.object SET payload = set_byte(payload, 20, get_byte(payload, 20) # 1) WHERE id = $object"
		);
		is( $node->safe_psql('postgres', q{SELECT count(*) FROM memory WHERE NOT nbmf_verify(body)}),
			$needing,
			"$name $how: nbmf_verify is false for the values that need it");
		is( $node->safe_psql('postgres', q{
				SELECT count(*), sqlstate, detail FROM nbmf_verify_table('memory', 'body') GROUP BY 2, 3}),
			"$needing|XX001|Shared object $object, which the value needs, is $said.",
			"$name $how: nbmf_verify_table names the object");
		my ($result, $out, $err) = $node->psql('postgres',
			"SELECT body::text FROM memory WHERE (nbmf_info(body)).object = $object LIMIT 1");
		like(
			$err,
			$how eq 'missing'
			? qr/cannot read nbmf value without shared object $object/
			: qr/shared object $object is damaged\n.*It belongs to column "body" of relation "memory"/,
			"$name $how: reading a value says so");

		$err = maintain();
		is(scalar(() = $err =~ /WARNING/g), 1, "$name $how: there is one warning")
		  or diag($err);
		like(
			$err,
			qr/WARNING:  "memory": shared object $object is $how\n.*HINT:  Restore that row of nbmf\.object/s,
			"$name $how: it names the object and says what to do");
		my ($skipped, $damaged) =
		  $err =~ /; (\d+) values were locked.*, (\d+) are damaged/;
		cmp_ok($skipped + $damaged, '>=', $object eq $model && $how eq 'missing' ? 8000 : 600,
			"$name $how: the values that need it are counted");
		# (what gets less than a sixteenth smaller stays as it is)
		cmp_ok(
			$node->safe_psql('postgres', q{
				SELECT count(*) FROM memory WHERE kind <> } . "'$class'" . q{
				AND n > 100000 AND (nbmf_info(body)).tier <> 'L1'}),
			'>', 500,
			"$name $how: the others are maintained");
		$node->safe_psql('postgres', 'DELETE FROM memory WHERE n > 100000');

		change_objects(
			"DELETE FROM nbmf.object WHERE id = $object; INSERT INTO nbmf.object SELECT * FROM kept WHERE id = $object"
		);
		is( $node->safe_psql('postgres', q{
				SELECT count(*) FROM memory JOIN record USING (n) WHERE body::text = d}),
			'8600',
			"$name $how: with the row back, all values read");
	}
}

# A new value wants the damaged dictionary: it is refused; one that is there and
# plain stays what it is, and the next pass comes back to it
$node->safe_psql('postgres', q{
	ALTER TABLE memory DISABLE TRIGGER USER;
	INSERT INTO memory SELECT n + 100000, 'general', d FROM record WHERE n <= 600;
	ALTER TABLE memory ENABLE TRIGGER USER});
change_objects(
	"UPDATE nbmf.object SET payload = set_byte(payload, 20, get_byte(payload, 20) # 1) WHERE id = $dictionary"
);
is(sqlstate_of($node, 'postgres', q{INSERT INTO memory SELECT 1, 'general', d FROM record WHERE n = 1}),
	'XX001', 'a new value that wants it is refused');
like(maintain(), qr/WARNING.*shared object $dictionary is damaged/, 'maintenance warns');
is( $node->safe_psql('postgres', q{
		SELECT count(*) FROM memory WHERE n > 100000 AND (nbmf_info(body)).tier = 'L1'}),
	'600',
	'what would get the dictionary stays');
change_objects(
	"DELETE FROM nbmf.object WHERE id = $dictionary; INSERT INTO nbmf.object SELECT * FROM kept WHERE id = $dictionary"
);
unlike(maintain(), qr/WARNING/, 'with the row back, maintenance has nothing to warn of');
is( $node->safe_psql('postgres', q{
		SELECT count(*) FROM memory WHERE n > 100000 AND (nbmf_info(body)).tier = 'L1'}),
	'0',
	'and comes back to what it left');

$node->stop;
done_testing();

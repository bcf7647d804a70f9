# Damage on disk.  Bytes of frames are changed in the files of a table and of
# its TOAST table while the server is down, with data checksums off.
#
# Whatever the bytes are, reading a value gives its content or an error with a
# fitting SQLSTATE, never other content and never a crash, and
# nbmf_verify_table names exactly the rows whose values do not read.
use strict;
use warnings FATAL => 'all';

use NbmfTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = PostgreSQL::Test::Cluster->new('main');
my @extra = ('-E', 'UTF8', '--locale=C');
push @extra, '--no-data-checksums' if $node->pg_version >= 18;
$node->init(extra => \@extra);
$node->append_conf('postgresql.conf',
	"autovacuum = off\nlog_statement = none\nrestart_after_crash = on\n");
$node->start;
is($node->safe_psql('postgres', 'SHOW data_checksums'),
	'off', 'data checksums are off');

$node->safe_psql('postgres', 'CREATE EXTENSION nbmf');
create_aliases($node, 'postgres');
create_documents($node, 'postgres', @unicode_any);

# v is the last column, so that what lies behind it is another row.  No two
# frames are the same, so that each is found in the file by its bytes; long
# ones are left out, for they would take all the damage.
$node->safe_psql(
	'postgres', q{
	CREATE TABLE damage (id int, v nbmf);
	INSERT INTO damage SELECT min(id), body FROM document
		WHERE length(body) BETWEEN 20 AND 150000 GROUP BY body ORDER BY 1;
	INSERT INTO damage SELECT 1000 + i, repeat(md5(i::text) || ' ', i) FROM generate_series(1, 80) AS i;
	INSERT INTO damage SELECT 2000 + i, noise(i, 2500)::text FROM generate_series(1, 40) AS i;
	INSERT INTO damage SELECT 3000 + i, numbers(i, 5 + i)::text FROM generate_series(1, 40) AS i;
	CREATE TABLE oracle AS SELECT id, ctid AS tid, nbmf_kind(v) AS kind, v::text AS body FROM damage;

	-- what reading a value gives: its digest and kind, or the SQLSTATE
	CREATE FUNCTION read(tab regclass) RETURNS TABLE (id int, tid tid, result text)
	LANGUAGE plpgsql AS $$
	DECLARE
		t record;
	BEGIN
		FOR t IN EXECUTE format('SELECT o.id, d.ctid AS tid FROM %s AS d JOIN oracle AS o ON o.tid = d.ctid', tab)
		LOOP
			id := t.id;
			tid := t.tid;
			BEGIN
				EXECUTE format('SELECT nbmf_kind(v) || '' '' || md5(v::text) FROM %s WHERE ctid = $1', tab)
					INTO result USING t.tid;
			EXCEPTION WHEN OTHERS THEN
				result := SQLSTATE;
			END;
			RETURN NEXT;
		END LOOP;
	END $$;
});

# Where each value's frame is: file, and pieces of [position in the frame,
# position in the file, length].  A toasted frame is cut into chunks.
sub read_file
{
	my ($file) = @_;

	open my $handle, '<:raw', $file or die "$file: $!";
	local $/ = undef;
	my $bytes = <$handle>;
	close $handle;
	return $bytes;
}

sub write_file
{
	my ($file, $bytes) = @_;

	open my $handle, '+<:raw', $file or die "$file: $!";
	print $handle $bytes;
	close $handle or die "$file: $!";
	return;
}

sub find_frames
{
	my ($table) = @_;
	my ($heap, $toast) = split /\|/, $node->safe_psql(
		'postgres', qq{
		SELECT pg_relation_filepath(oid), pg_relation_filepath(reltoastrelid)
		FROM pg_class WHERE oid = '$table'::regclass});
	my $rows = $node->safe_psql('postgres',
		"SELECT ctid, frame_of(v) FROM $table ORDER BY ctid");
	my %place;

	$node->safe_psql('postgres', 'CHECKPOINT');
	$node->stop;
	my %file =
	  map { $_ => read_file($node->data_dir . '/' . $_) } ($heap, $toast);
	foreach my $row (split /\n/, $rows)
	{
		my ($tid, $hex) = split /\|/, $row;
		my $frame = pack('H*', substr($hex, 2));
		my $found = index($file{$heap}, $frame);
		my @pieces;

		if ($found >= 0)
		{
			die "$tid is there twice"
			  if index($file{$heap}, $frame, $found + 1) >= 0;
			$place{$tid} =
			  { file => $heap, pieces => [ [ 0, $found, length $frame ] ] };
			next;
		}
		# TOAST_MAX_CHUNK_SIZE; the last chunk is short, its place may be
		# ambiguous, and then it is spared
		for (my $at = 0; $at < length $frame; $at += 1996)
		{
			my $chunk = substr($frame, $at, 1996);

			$found = index($file{$toast}, $chunk);
			die "no chunk of $tid at $at" if $found < 0;
			next
			  if length $chunk < 16
			  || index($file{$toast}, $chunk, $found + 1) >= 0;
			push @pieces, [ $at, $found, length $chunk ];
		}
		$place{$tid} = { file => $toast, pieces => \@pieces };
	}
	return (\%place, \%file);
}

# The position in the file of a position in the frame, or undef
sub position
{
	my ($place, $at) = @_;

	foreach my $piece (@{ $place->{pieces} })
	{
		my ($from, $where, $len) = @$piece;

		return $where + $at - $from if $at >= $from && $at < $from + $len;
	}
	return;
}

sub restore_files
{
	my ($files) = @_;

	write_file($node->data_dir . '/' . $_, $files->{$_}) foreach keys %$files;
	return;
}

# XOR bytes of a file: position => mask
sub flip
{
	my ($file, %masks) = @_;
	my $path = $node->data_dir . '/' . $file;
	my $bytes = read_file($path);

	foreach my $position (keys %masks)
	{
		substr($bytes, $position, 1) =
		  chr(ord(substr($bytes, $position, 1)) ^ $masks{$position});
	}
	write_file($path, $bytes);
	return;
}

# Read all values and verify the table.  Returns what reads wrong (neither the
# content nor an error), and the two lists of rows that do not read: those of
# the readers and those of nbmf_verify_table.
sub examine
{
	my ($table) = @_;
	my $wrong = $node->safe_psql(
		'postgres', qq{
		CREATE TEMP TABLE result AS SELECT * FROM read('$table');
		SELECT r.tid, r.id, r.result, o.kind FROM result AS r JOIN oracle AS o USING (id)
		WHERE r.result <> o.kind || ' ' || md5(o.body)
			AND r.result NOT IN ('XX001', '0A000')
		ORDER BY r.id});
	my $failed = $node->safe_psql(
		'postgres', qq{
		SELECT tid, result FROM read('$table') WHERE result ~ '^[0-9A-Z]{5}\$' ORDER BY tid}
	);
	my $named = $node->safe_psql('postgres',
		"SELECT ctid, sqlstate FROM nbmf_verify_table('$table', 'v') ORDER BY ctid"
	);

	return ($wrong, $failed, $named);
}

my ($place, $pristine) = find_frames('damage');
my @tids = sort keys %$place;
my @inline = grep { $place->{$_}->{file} eq $place->{'(0,1)'}->{file} } @tids;
my @toasted =
  grep { $place->{$_}->{file} ne $place->{'(0,1)'}->{file} } @tids;
cmp_ok(scalar(@inline), '>', 100, 'there are values in their rows');
cmp_ok(scalar(@toasted), '>', 30, 'there are toasted values');

# One byte each, where it must be noticed: the codec made a reserved one, the
# tier made the reserved one, the checksum, and the last byte of the content
sub damage_chosen
{
	my ($name, $at, $mask, $state, @chosen) = @_;
	my $expected = join("\n", map { "$_|$state" } @chosen);
	my %masks;

	restore_files($pristine);
	foreach my $tid (@chosen)
	{
		my $p = $place->{$tid};
		my $last = $p->{pieces}->[-1];
		my $where =
		  position($p, $at >= 0 ? $at : $last->[0] + $last->[2] + $at);

		die "no byte $at in $tid" if !defined $where;
		$masks{ $p->{file} }->{$where} = $mask;
	}
	flip($_, %{ $masks{$_} }) foreach keys %masks;
	$node->start;
	my ($wrong, $failed, $named) = examine('damage');
	is($wrong, '', "$name: nothing reads wrong");
	is($failed, $expected, "$name: the damaged values do not read");
	is($named, $expected, "$name: nbmf_verify_table names them");
	return;
}

sub by_tid
{
	my ($block_a, $line_a) = $a =~ /(\d+),(\d+)/;
	my ($block_b, $line_b) = $b =~ /(\d+),(\d+)/;

	return $block_a <=> $block_b || $line_a <=> $line_b;
}

my @some =
  sort by_tid (@inline[ 0, 7, 19, 40, 60, 80, 99 ], @toasted[ 0, 5, 11, 20 ]);

damage_chosen('tier 3', 0, 0xc0, '0A000', @some);

# nothing but a read says what is wrong: SELECT, COPY and casts alike
my $first = $some[0];
foreach my $sql (
	"SELECT v FROM damage WHERE ctid = '$first'",
	"SELECT v = 'something else' FROM damage WHERE ctid = '$first'",
	"SELECT v::jsonb FROM damage WHERE ctid = '$first'",
	"SELECT nbmf_kind(v) FROM damage WHERE ctid = '$first'",
	"COPY damage TO STDOUT",
	"COPY damage TO STDOUT (FORMAT binary)",
	"CREATE INDEX ON damage USING hash (v)")
{
	is(sqlstate_of($node, 'postgres', $sql), '0A000', "damaged: $sql");
}
is( $node->safe_psql(
		'postgres', 'ANALYZE damage; SELECT count(*) FROM damage'),
	scalar(@tids),
	'ANALYZE does not mind');

# what nbmf_verify_table says besides
is( $node->safe_psql(
		'postgres', qq{
		SELECT * FROM nbmf_verify_table('damage', 'v') WHERE ctid = '$first'}),
	"damage|$first|0A000|nbmf value is damaged|The value uses a codec or flag that this version does not know.",
	'nbmf_verify_table says what is wrong');
my (undef, undef, $stderr) = $node->psql('postgres',
	q{SELECT count(*) FROM nbmf_verify_table('damage', 'v')});
is($stderr, '', 'and warns of nothing');
$node->stop;

damage_chosen('a bit of the checksum',
	3, 0x10, 'XX001', grep { $place->{$_}->{pieces}->[0]->[2] > 10 } @some);
$node->stop;
damage_chosen('the last byte', -1, 0x01, 'XX001', @some[ 0, 3, 7 .. $#some ]);

# A value is damaged, not its row: it can be replaced and deleted
$node->safe_psql(
	'postgres', qq{
	UPDATE damage SET v = 'whole again' WHERE ctid = '$some[0]';
	DELETE FROM damage WHERE ctid = '$some[3]'});
is( $node->safe_psql(
		'postgres',
		"SELECT ctid FROM nbmf_verify_table('damage', 'v') ORDER BY ctid"),
	join("\n", @some[ 7 .. $#some ]),
	'damaged values can be replaced and deleted');
$node->stop;

# The kind is what tells \x41 from A.  It lies in the header, bits 4 and 5.
damage_chosen('another kind', 0, 0x20, 'XX001', @some);
$node->stop;

# Anywhere: 60 values a round, one byte each, half of them near the beginning
srand(4711);
my $total = 0;
my $noticed = 0;
for my $round (1 .. 6)
{
	my %masks;
	my %hit;
	my $flips = '';

	while (keys %hit < 60)
	{
		my $tid = $tids[ rand @tids ];
		my $p = $place->{$tid};
		my $piece = $p->{pieces}->[ rand @{ $p->{pieces} } ];
		my $at = int(rand($piece->[2]));

		next if $hit{$tid} || !defined position($p, 0);
		$at = int(rand($piece->[2] < 12 ? $piece->[2] : 12)) if rand() < 0.5;
		$at += $piece->[0];
		my $mask = 1 + int(rand(255));
		$hit{$tid} = 1;
		$masks{ $p->{file} }->{ position($p, $at) } = $mask;
		$flips .= sprintf("%s: byte %d, mask %02x\n", $tid, $at, $mask);
	}
	restore_files($pristine);
	flip($_, %{ $masks{$_} }) foreach keys %masks;
	$node->start;
	my ($wrong, $failed, $named) = examine('damage');
	my $right = is($wrong, '', "round $round: nothing reads wrong");
	$right &= is($named, $failed,
		"round $round: nbmf_verify_table names what does not read");
	is(join(' ', grep { !$hit{$_} } map { s/\|.*//r } split /\n/, $named),
		'', "round $round: nothing else is named");
	is($node->safe_psql('postgres', 'ANALYZE damage; SELECT 1'),
		'1', "round $round: ANALYZE does not mind");
	diag($flips) if !$right;
	$total   += keys %hit;
	$noticed += () = $named =~ /\n|.\z/g;
	$node->stop;
}

# the tier may change unnoticed, and zstd has bits that say nothing
cmp_ok($noticed, '>', 0.9 * $total, "damage is noticed: $noticed of $total");

# The length of a value is the server's, not nbmf's, and a SELECT cannot know
# that it is wrong.  nbmf_verify_table looks, and does not follow it.
restore_files($pristine);
my (%masks, @long, @short);
foreach my $tid (@inline)
{
	my $at = position($place->{$tid}, 0) - 1;
	my $length = ord(substr($pristine->{ $place->{$tid}->{file} }, $at, 1));

	# a header of one byte
	next if !($length & 1);
	if ($length < 0x40 && @long < 5)
	{
		# 127 bytes at least: past the end of the row
		$masks{$at} = $length ^ 0xff;
		push @long, $tid;
	}
	elsif ($length > 0x60 && @short < 5)
	{
		$masks{$at} = $length ^ ($length - 0x08);
		push @short, $tid;
	}
}
is_deeply(
	[ scalar(@long), scalar(@short) ],
	[ 5, 5 ],
	'there are short values');
flip($place->{ $long[0] }->{file}, %masks);
$node->start;
is( $node->safe_psql(
		'postgres',
		"SELECT ctid, sqlstate, detail FROM nbmf_verify_table('damage', 'v')
		 WHERE detail ~ 'end of its row' ORDER BY ctid"),
	join("\n",
		map { "$_|XX001|The value goes on past the end of its row." }
		sort by_tid @long),
	'values that go past the end of their rows are named');
is( $node->safe_psql(
		'postgres',
		"SELECT ctid FROM nbmf_verify_table('damage', 'v') ORDER BY ctid"),
	join("\n", sort by_tid @long, @short),
	'so are values that end early, and no others');
$node->stop;

# Every value that the length byte can have, on values of each codec: 0x01
# says "TOAST pointer", and the byte behind it which sort of pointer, some of
# which are addresses in memory.  (A server with assertions dies of those
# before nbmf sees them.)
my $assertions;
my @victims;
my %seen;
foreach my $tid (sort by_tid @inline)
{
	my $at = position($place->{$tid}, 0);
	my $file = $pristine->{ $place->{$tid}->{file} };
	my $head = ord(substr($file, $at, 1));

	next if !(ord(substr($file, $at - 1, 1)) & 1) || $seen{$head}++ >= 12;
	push @victims, $tid;
}
$node->start;
$assertions = $node->safe_psql('postgres', 'SHOW debug_assertions') eq 'on';
$node->stop;
for my $round (($assertions ? 1 : 0) .. 7)
{
	my @set =
	  $round == 0
	  ? (0x01)
	  : (0x00, 0x02, 0x03, map { 2 + int(rand(254)) } (1 .. 20));
	my %expected;

	%masks = ();
	restore_files($pristine);
	foreach my $tid (@victims)
	{
		my $at = position($place->{$tid}, 0) - 1;
		my $length =
		  ord(substr($pristine->{ $place->{$tid}->{file} }, $at, 1));
		my $new = $set[ rand @set ];

		next if $new == $length;
		$masks{$at} = $length ^ $new;
		$expected{$tid} = 1;
	}
	flip($place->{ $victims[0] }->{file}, %masks);
	$node->start;
	my ($ret, $out, $err) = $node->psql('postgres',
		"SELECT ctid FROM nbmf_verify_table('damage', 'v') ORDER BY ctid");
	is($ret, 0, "lengths, round $round: verified") or diag($err);
	is( $out,
		join("\n", sort by_tid keys %expected),
		"lengths, round $round: nbmf_verify_table names exactly the damaged values"
	);
	answers_again($node, 'postgres') if $ret != 0;
	$node->stop;
}

# A TOAST chunk that is gone.  TOAST tables cannot be changed, so for a moment
# it is an ordinary one; and fetching sees deleted chunks until VACUUM.
restore_files($pristine);
$node->start;
my ($gone, $none) = @toasted[ 2, 7 ];
my $toast = $node->safe_psql('postgres',
	q{SELECT reltoastrelid::regclass FROM pg_class WHERE oid = 'damage'::regclass}
);
# by content: chunk 1 of one value, all chunks of another
my %chunk;
foreach my $tid ($gone, $none)
{
	$chunk{$tid} = $node->safe_psql(
		'postgres', qq{
		SELECT t.chunk_id FROM damage AS d, $toast AS t
		WHERE d.ctid = '$tid' AND t.chunk_seq = 0
			AND t.chunk_data = substr(frame_of(d.v), 1, length(t.chunk_data))});
	like($chunk{$tid}, qr/^\d+$/, "the TOAST chunks of $tid are found");
}
$node->safe_psql(
	'postgres', qq{
	SET allow_system_table_mods = on;
	UPDATE pg_class SET relkind = 'r' WHERE oid = '$toast'::regclass;
	DELETE FROM $toast WHERE chunk_id = $chunk{$gone} AND chunk_seq = 1
		OR chunk_id = $chunk{$none};
	UPDATE pg_class SET relkind = 't' WHERE oid = '$toast'::regclass;
	VACUUM $toast});
my $lost = join("\n", map { "$_|XX001" } sort by_tid ($gone, $none));
my ($wrong, $failed, $named) = examine('damage');

is($wrong, '', 'lost chunks: nothing reads wrong');
is($named, $lost, 'lost chunks: nbmf_verify_table names the values');
like($failed, qr/^\Q$none\E\|XX001$/m,
	'lost chunks: the value does not read');
is( $node->safe_psql(
		'postgres', qq{
		SELECT message ~ '(missing|unexpected) chunk number .* for toast value'
		FROM nbmf_verify_table('damage', 'v')}),
	"t\nt",
	'lost chunks: the message is that of the fetch');

# header functions read the first chunk only
is( $node->safe_psql(
		'postgres', "SELECT nbmf_kind(v) FROM damage WHERE ctid = '$gone'"),
	$node->safe_psql(
		'postgres', "SELECT kind FROM oracle WHERE tid = '$gone'"),
	'lost chunks: the header of the other one can be read');

# In one transaction, nothing of the errors that were caught stays behind
is( $node->safe_psql(
		'postgres', q{
		BEGIN;
		SELECT count(*) FROM nbmf_verify_table('damage', 'v');
		CREATE TABLE made_after AS SELECT 'still here'::nbmf AS v;
		SELECT count(*) FROM nbmf_verify_table('damage', 'v');
		COMMIT;
		SELECT v FROM made_after}),
	"2\n2\nstill here",
	'nbmf_verify_table leaves its transaction whole');
$node->stop;

unlike(
	slurp_file($node->logfile),
	qr/PANIC|TRAP|terminated by signal/,
	'the server has never crashed');
done_testing();

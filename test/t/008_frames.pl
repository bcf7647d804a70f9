# Frames outlive the server that wrote them: pg_upgrade and base backups carry
# the bytes on disk to later versions of PostgreSQL and of nbmf.
#
# The first part carries the frames of a table to a fresh cluster as bytes, the
# second does what pg_upgrade does.  The third has frames as literals in this
# file: whatever later versions write, they must read these, and refuse the
# bad ones with the same SQLSTATEs.  A literal here is never to be changed
# once a release has it.
use strict;
use warnings FATAL => 'all';

use Cwd qw(cwd);
use NbmfTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $old = new_node('old');
$old->start;
$old->safe_psql('postgres', 'CREATE EXTENSION nbmf');
create_aliases($old, 'postgres');
create_documents($old, 'postgres', @unicode_any);
$old->safe_psql(
	'postgres', q{
	CREATE TABLE frames (id int PRIMARY KEY, v nbmf(semantic, 19), other nbmf);
	CREATE INDEX frames_v ON frames USING hash (v);
	INSERT INTO frames SELECT id, body, body FROM document});

my $oracle = oracle_of($old, 'postgres');
my $frames =
  q{SELECT id, length(frame_of(v)), md5(frame_of(v)), md5(frame_of(other))
	FROM frames ORDER BY id};
my $old_frames = $old->safe_psql('postgres', $frames);

#
# As bytes, into a fresh cluster
#
my $file = $old->basedir . '/frames';
$old->safe_psql('postgres',
	"COPY (SELECT id, frame_of(v), frame_of(other) FROM frames) TO '$file'");

my $new = new_node('new');
$new->start;
$new->safe_psql(
	'postgres', 'CREATE EXTENSION nbmf;
	CREATE TABLE bytes (id int, v bytea, other bytea);
	CREATE TABLE frames (id int PRIMARY KEY, v nbmf, other nbmf)');
create_aliases($new, 'postgres');
$new->safe_psql(
	'postgres', qq{
	COPY bytes FROM '$file';
	INSERT INTO frames SELECT id, frame_as_nbmf(v), frame_as_nbmf(other) FROM bytes}
);
is_same($new->safe_psql('postgres', $frames),
	$old_frames,
	'fresh cluster: frames are the same, nothing is encoded again');
foreach my $column ('v', 'other')
{
	is_same(list_documents($new, 'postgres', 'frames', $column),
		$oracle, "fresh cluster: $column holds the documents");
}
is( $new->safe_psql(
		'postgres',
		'SELECT id FROM frames WHERE NOT nbmf_verify(v) OR NOT nbmf_verify(other)'
	),
	'',
	'fresh cluster: every value verifies');
is_deeply([ verify_columns($new, 'postgres') ],
	['2'], 'fresh cluster: both columns verify');
is( $new->safe_psql(
		'postgres',
		'SELECT id FROM frames WHERE v <> other OR v <> v::text::nbmf
			OR nbmf_hash(v) <> nbmf_hash(v::text::nbmf)'),
	'',
	'fresh cluster: equal to what the text gives now');

#
# Frames written by version 0.1.0: text, kind, codec, frame
#
my @golden = (
	[ q{''}, 'text', 'stored', '0099e9d851' ],
	[ q{'hello'}, 'text', 'stored', '00a36d9f8868656c6c6f' ],
	[
		q{repeat('ab', 63) || 'a'}, 'text',
		'zstd_block', '027fb63043a31061620100bad46101'
	],
	[
		q{repeat('ab', 64)}, 'text',
		'zstd_block', '028000d1e8dfc81061620100bbd46101'
	],
	[
		q{repeat('agent memory ', 20)},
		'text', 'zstd_block',
		'0280843abc22b9686167656e74206d656d6f727920010074a0e617'
	],
	[
		q{repeat('x', 16511)}, 'text',
		'zstd_block', '02bfff265ea89210787801007ac00eb0'
	],
	[
		q{repeat('x', 16512)}, 'text',
		'zstd_block', '02c000005c875ca710787801007bc00eb0'
	],
	[
		q{repeat('xy', 65536)}, 'text',
		'zstd_block', '02c1bf805db4f2821078790100fbffe50e0b'
	],
	[
		q{repeat('xy', 65537)},
		'text', 'zstd',
		'01c1bf820ab3ada300405400001078790100fbffe50e0b1100007879'
	],
	[
		q{repeat('z', 2113663)},
		'text',
		'zstd',
		'01dfffffe5fd916b0058540000107a7a0100fbff39c0020200107a020010'
		  . '7a0200107a0200107a0200107a0200107a0200107a0200107a0200107a02'
		  . '00107a0200107a0200107a0200107a0200107a0200107afb03027a'
	],
	[
		q{repeat('z', 2113664)},
		'text',
		'zstd',
		'01e00000008c0c54e30058540000107a7a0100fbff39c0020200107a0200'
		  . '107a0200107a0200107a0200107a0200107a0200107a0200107a0200107a'
		  . '0200107a0200107a0200107a0200107a0200107a0200107a0304027a'
	],
	# made by hand: a block of 100 times the same byte, another of four bytes
	[ q{repeat('a', 100)}, 'text', 'zstd_blocks', '0364b3cfdeb123030061' ],
	[
		q{repeat('a', 100) || 'tail'}, 'text',
		'zstd_blocks', '03689ac8ff05220300612100007461696c'
	],
	[ q{'null'}, 'json', 'stored', '10eb184f016e756c6c' ],
	[
		q{'{"a": [1, 2.50], "a": "\u00e9"}'},
		'json',
		'stored',
		'1042a747d17b2261223a205b312c20322e35305d2c202261223a20225c75'
		  . '30306539227d'
	],
	[
		q{'[' || repeat('{"role": "user"}, ', 30) || 'null]'},
		'json',
		'zstd_block',
		'1281a27c249746c05b7b22726f6c65223a202275736572227d2c206e756c'
		  . '6c5d01000f5435c3'
	],
	[
		q{U&'\65e5\672c\8a9e'}, 'text',
		'stored', '00e1f51937e697a5e69cace8aa9e'
	],
	[ q{'\x'}, 'bytea', 'stored', '20fbdc478e' ],
	[ q{'\x00ff'}, 'bytea', 'stored', '20df10823f00ff' ],
	[
		q{'\x' || repeat('00ff', 100)}, 'bytea',
		'zstd_block', '22804815c323b71000ff0100c3288705'
	],
	[ q{'{1}'}, 'vector', 'stored', '30e08965ed0000803f' ],
	[
		q{'{NaN,Infinity,-Infinity,-0,1e-45}'},
		'vector', 'stored',
		'30e97a44560000c07f0000807f000080ff0000008001000000'
	],
	[
		q{'{' || repeat('0.5,', 99) || '-2}'},
		'vector',
		'zstd_block',
		'3281105320f04a280000003fc0010088ab8e08'
	],);

foreach my $case (@golden)
{
	my ($text, $kind, $codec, $hex) = @$case;

	is( $new->safe_psql(
			'postgres', qq{
			SELECT nbmf_kind(v), (nbmf_info(v)).codec, v::text = ($text)::text, nbmf_verify(v),
				(nbmf_info(v)).raw_bytes, v = ($text)::text::nbmf,
				nbmf_hash(v) = nbmf_hash(($text)::text::nbmf)
			FROM (SELECT frame_as_nbmf('\\x$hex') AS v) AS f}),
		$new->safe_psql(
			'postgres', qq{
			SELECT '$kind', '$codec', true, true,
				CASE '$kind' WHEN 'vector' THEN 4 * cardinality(t::real[])
					WHEN 'bytea' THEN octet_length(t::bytea) ELSE octet_length(t) END,
				true, true
			FROM (SELECT ($text)::text AS t) AS t}),
		"golden: $text");

	# the tier says where a value is kept, not what it is
	my $tier =
	  sprintf('%02x', hex(substr($hex, 0, 2)) | 0x80) . substr($hex, 2);
	is( $new->safe_psql(
			'postgres', qq{
			SELECT nbmf_kind(v), (nbmf_info(v)).tier, v::text = ($text)::text
			FROM (SELECT frame_as_nbmf('\\x$tier') AS v) AS f}),
		"$kind|L3|t",
		"golden: $text, of tier L3");

	# cut anywhere, none of it reads
	is( $new->safe_psql(
			'postgres', qq{
			DO \$\$
			BEGIN
				FOR len IN 0 .. length('\\x$hex'::bytea) - 1 LOOP
					BEGIN
						PERFORM frame_as_nbmf(substr('\\x$hex'::bytea, 1, len))::text;
						RAISE EXCEPTION 'cut to % bytes, it reads', len;
					EXCEPTION WHEN data_corrupted THEN
					END;
				END LOOP;
			END \$\$}),
		'',
		"golden: $text, cut anywhere");
}

# The hash is part of what is on disk: of hash indexes and partitions
is( $new->safe_psql(
		'postgres', q{
		SELECT nbmf_hash('hello'), nbmf_hash_extended('hello', 0),
			nbmf_hash('{}'), nbmf_hash('\x00ff'), nbmf_hash('{1,2}'),
			nbmf_hash_extended('{1,2}', 8816678312871386365)}),
	'-981821938|-765606470141438450|-590517039|2006772526|1633664305|2372904690902852158',
	'hashes are as ever');

#
# Frames that are not good.  Content is made with the checksum of its bytes,
# to which the kind adds, so what is wrong is wrong in one place only.
#
sub stored
{
	my ($kind, $bytes) = @_;
	my $hex = unpack('H*', $bytes);
	my $frame = $new->safe_psql('postgres',
		"SELECT encode(frame_of(('\\x$hex'::bytea)::nbmf), 'hex')");
	my $checksum = unpack('V', pack('H*', substr($frame, 2, 8)));

	die "not stored: $frame" if substr($frame, 0, 2) ne '20';
	return sprintf('%02x', $kind << 4)
	  . unpack('H*',
		pack('V', ($checksum + ($kind - 2) * 0x9E3779B1) % 4294967296))
	  . $hex;
}

sub length_code
{
	my ($length) = @_;

	return 'f0' . sprintf('%08x', $length - 270549120);
}

is(stored(0, 'hello'), '00a36d9f8868656c6c6f', 'frames can be forged');

my $agent = '843abc22b9686167656e74206d656d6f727920010074a0e617';
my @bad = (
	[ 'nothing at all', '', 'XX001' ],
	[ 'a first byte', '02', 'XX001' ],
	[ 'a checksum cut short', '00a36d9f', 'XX001' ],
	[ 'a wrong checksum', '00a36d9f8968656c6c6f', 'XX001' ],
	[ 'a wrong byte', '00a36d9f8868656c6c70', 'XX001' ],
	[ 'a byte more', '00a36d9f8868656c6c6f00', 'XX001' ],
	[ 'another kind', '20a36d9f8868656c6c6f', 'XX001' ],
	[ 'JSON of a text', '10a36d9f8868656c6c6f', 'XX001' ],
	[ 'a payload cut short', '0280' . substr($agent, 0, -2), 'XX001' ],
	[ 'a payload with a byte more', "0280${agent}00", 'XX001' ],
	[ 'blocks without a last one', '0364b3cfdeb122030061', 'XX001' ],
	[ 'a block of the reserved type', '0364b3cfdeb127030061', 'XX001' ],
	[
		'a block that goes on past the end', '0364b3cfdeb12100006161',
		'XX001'
	],
	[ 'no payload', '020010203040', 'XX001' ],
	[ 'a length one too small', '0280' . '83' . substr($agent, 2), 'XX001' ],
	[ 'a length one too large', '0280' . '85' . substr($agent, 2), 'XX001' ],
	[ 'another zstd codec', '0180' . $agent, 'XX001' ],
	[
		'128 KB and a byte in a block',
		'02c1bf81' . substr($agent, 2),
		'XX001'
	],
	[
		'1 GB in 12 bytes',
		'01' . length_code(0x3fffff00) . '010203040506', 'XX001'
	],
	[
		'1 GB in 12 bytes of a block',
		'02' . length_code(0x3fffff00) . '010203040506',
		'XX001'
	],
	[
		'more than any length',
		'01' . length_code(0x3fffff01) . '010203040506', 'XX001'
	],
	[ 'the largest length code', '01f0ffffffff010203040506', 'XX001' ],
	[ 'no length code', '01ff010203040506070809', 'XX001' ],
	[ 'tier 3', 'c0a36d9f8868656c6c6f', '0A000' ],
	(   map {
			[
				"codec $_", sprintf('%02x', $_) . 'a36d9f8868656c6c6f',
				'0A000'
			]
		} 7 .. 9, 11, 12, 14, 15),
	[ 'a model that is not there', '0a7f200000001122', 'XX001' ],
	[ 'a model that is not there, long', '0d7f' . length_code(20000) . '200000001122', 'XX001' ],
	[ 'model 0', '0a00200000001122', 'XX001' ],
	[ '1 GB of a model', '0d7f' . length_code(0x3fffff00) . '200000001122', 'XX001' ],
	[ 'an object that is not there', '057f200000000000001122', 'XX001' ],
	[ 'object 0', '0500200000000000001122', 'XX001' ],
	[ 'a vector of nothing', stored(3, ''), 'XX001' ],
	[ 'a vector of 3 bytes', stored(3, 'abc'), 'XX001' ],
	[ 'a vector of 5 bytes', stored(3, 'abcde'), 'XX001' ],
	[ 'text with a zero byte', stored(0, "ab\0cd"), 'XX001' ],
	[ 'text with invalid UTF-8', stored(0, "ab\xff"), 'XX001' ],
	[ 'JSON with invalid UTF-8', stored(1, "\"\xc3\""), 'XX001' ],);

# Whatever is done with it, except what looks at the header only
my @readers = (
	'v::text', 'nbmf_out(v)',
	'nbmf_send(v)', 'v::varchar',
	'v::json', 'v::jsonb',
	'v::bytea', 'v::real[]',
	q{v -> 'a'}, q{v ->> 0},
	q{v #> '{a}'}, 'nbmf_digest(v)',
	'v::nbmf(lossless, 7)', 'ARRAY[v]::text');
foreach my $case (@bad)
{
	my ($name, $hex, $state) = @$case;

	is( $new->safe_psql(
			'postgres', q{
			CREATE FUNCTION pg_temp.state_of(expression text, frame bytea) RETURNS text
			LANGUAGE plpgsql AS $$
			DECLARE
				result text;
			BEGIN
				EXECUTE format('SELECT %s FROM (SELECT frame_as_nbmf($1) AS v) AS f', expression)
					INTO result USING frame;
				RETURN 'reads: ' || result;
			EXCEPTION WHEN OTHERS THEN
				RETURN SQLSTATE;
			END $$;
		}
			  . "SELECT e, pg_temp.state_of(e, '\\x$hex') FROM unnest(ARRAY["
			  . join(', ', map { "\$e\$$_\$e\$" } @readers)
			  . "]) AS e"),
		join("\n", map { "$_|$state" } @readers),
		"bad: $name");
	is( $new->safe_psql(
			'postgres', "SELECT nbmf_verify(frame_as_nbmf('\\x$hex'))"),
		'f',
		"bad: $name, does not verify");

	# these read the header, so they know or they do not, but they end
	like(
		$new->safe_psql(
			'postgres', qq{
			DO \$\$
			DECLARE
				expression text;
				v nbmf := frame_as_nbmf('\\x$hex');
				result text;
			BEGIN
				FOREACH expression IN ARRAY
					'{nbmf_kind(\$1),nbmf_info(\$1),nbmf_hash(\$1),"nbmf_hash_extended(\$1, 7)",\$1 = \$1}'::text[]
				LOOP
					BEGIN
						EXECUTE 'SELECT ' || expression INTO result USING v;
					EXCEPTION WHEN data_corrupted OR feature_not_supported THEN
					END;
				END LOOP;
			END \$\$;
			SELECT 'ends'}),
		qr/^ends$/,
		"bad: $name, header functions end");
}

# Sound as text, but not the JSON that it says it is: no damage, a forgery
my $forged = stored(1, '{"a": }');
is( $new->safe_psql(
		'postgres', "SELECT nbmf_verify(frame_as_nbmf('\\x$forged'))"),
	'f',
	'forged JSON does not verify');
is( sqlstate_of(
		$new, 'postgres', "SELECT frame_as_nbmf('\\x$forged')::jsonb"),
	'22P02',
	'forged JSON is no jsonb');
is( $new->safe_psql(
		'postgres', "SELECT frame_as_nbmf('\\x$forged')::json"),
	'"{\\"a\\": }"',
	'forged JSON is a string to json');

unlike(
	slurp_file($new->logfile),
	qr/PANIC|TRAP|terminated by signal/,
	'nothing has crashed');
$new->stop;

#
# pg_upgrade, to the same version.  It loads the library from the server's own
# directory, where a build that is only staged is not.
#
SKIP:
{
	my ($ret) = $old->psql('postgres', q{LOAD '$libdir/nbmf'});

	skip 'nbmf is not in the directory of the server', 7 if $ret != 0;

	my $upgraded = new_node('upgraded');
	my $bindir = $old->config_data('--bindir');

	$old->stop;
	# it writes into the current directory
	my $cwd = cwd();
	chdir $old->basedir or die $!;
	command_ok(
		[
			'pg_upgrade', '--no-sync',
			'-d', $old->data_dir,
			'-D', $upgraded->data_dir,
			'-b', $bindir,
			'-B', $bindir,
			'-p', $old->port,
			'-P', $upgraded->port,
			'-s', $old->host
		],
		'pg_upgrade');
	chdir $cwd or die $!;
	$upgraded->start;
	is_same($upgraded->safe_psql('postgres', $frames),
		$old_frames, 'pg_upgrade: frames are the same');
	foreach my $column ('v', 'other')
	{
		is_same(list_documents($upgraded, 'postgres', 'frames', $column),
			$oracle, "pg_upgrade: $column holds the documents");
	}
	is_deeply([ verify_columns($upgraded, 'postgres') ],
		['2'], 'pg_upgrade: both columns verify');
	is( $upgraded->safe_psql(
			'postgres', q{
			SET enable_seqscan = off; SET enable_hashjoin = off; SET enable_mergejoin = off;
			SELECT d.id FROM document AS d
			WHERE NOT EXISTS (SELECT FROM frames AS f
							  WHERE f.v = d.body::nbmf AND f.id + 0 = d.id)}),
		'',
		'pg_upgrade: the hash index finds every document');
	is( $upgraded->safe_psql(
			'postgres',
			q{SELECT format_type(atttypid, atttypmod) FROM pg_attribute
			  WHERE attrelid = 'frames'::regclass AND attname = 'v'}),
		'nbmf(semantic,19)',
		'pg_upgrade: the modifier is there');
	$upgraded->stop;
}
done_testing();

# COPY out of one database and into another: as text, csv and binary, through
# files of the server and through psql with another client encoding, and
# between databases of different encodings.  What comes in is what went out,
# character for character and of the same kind.
#
# The binary form is also what a hostile or broken client can send, so forged
# input must end in an error with a fitting SQLSTATE, or in a sound value.
use strict;
use warnings FATAL => 'all';

use NbmfTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = new_node('main');
$node->start;

my $dir = $node->basedir;
my %options = (
	text => '(FORMAT text)',
	csv => '(FORMAT csv, HEADER)',
	binary => '(FORMAT binary)');

sub create_database
{
	my ($name, $encoding, @unicode) = @_;

	$node->safe_psql('postgres',
			"CREATE DATABASE $name TEMPLATE template0 ENCODING '$encoding'"
		  . " LC_COLLATE 'C' LC_CTYPE 'C'");
	$node->safe_psql(
		$name, q{
		CREATE EXTENSION nbmf;
		CREATE TABLE origin (id int PRIMARY KEY, v nbmf);
		CREATE TABLE copy (LIKE origin);
		CREATE TABLE copy_level (id int, v nbmf(lossless, 1))});
	if (@unicode)
	{
		create_documents($node, $name, @unicode);
		$node->safe_psql(
			$name,
			'INSERT INTO origin SELECT id, body FROM document;
			 INSERT INTO origin VALUES (0, NULL)');
	}
	return;
}

# All of the origin and its copy, of which the first is known to be right
sub oracle_with_null
{
	my ($db) = @_;

	return "0|||\n" . oracle_of($node, $db);
}

create_database('utf8', 'UTF8', @unicode_any);
create_database('latin1', 'LATIN1', @unicode_latin1);
create_database('euc_jp', 'EUC_JP', @unicode_japanese);
create_database('sql_ascii', 'SQL_ASCII');
create_database('target', 'UTF8');

my $oracle = oracle_with_null('utf8');

is_same(list_documents($node, 'utf8', 'origin', 'v'),
	$oracle, 'the origin holds the documents');

# Files of the server, between two databases
foreach my $format (sort keys %options)
{
	my $file = "$dir/server.$format";

	$node->safe_psql('utf8',
		"COPY (SELECT * FROM origin ORDER BY id) TO '$file' $options{$format}"
	);
	$node->safe_psql(
		'target', qq{
		TRUNCATE copy, copy_level;
		COPY copy FROM '$file' $options{$format};
		COPY copy_level FROM '$file' $options{$format}});
	is_same(list_documents($node, 'target', 'copy', 'v'),
		$oracle, "$format: the copy holds the documents");
	is_same(list_documents($node, 'target', 'copy_level', 'v'),
		$oracle, "$format: so it does at another level");
	is_deeply([ verify_columns($node, 'target') ],
		['3'], "$format: all columns verify");

	# out again: the same file to the byte
	$node->safe_psql('target',
		"COPY (SELECT * FROM copy_level ORDER BY id) TO '$file.2' $options{$format}"
	);
	ok( slurp_file("$file.2") eq slurp_file($file),
		"$format: the copy's file is the same");
}

# psql, whose encoding is not the server's.  Every database that knows the
# characters can talk to it.
sub copy_through_client
{
	my ($from, $to, $format, $encoding, $where) = @_;
	my $file = "$dir/$from.$to.$encoding.$format";

	local $ENV{PGCLIENTENCODING} = $encoding;
	$node->safe_psql($from,
		"\\copy (SELECT * FROM origin WHERE $where ORDER BY id) TO '$file' $options{$format}"
	);
	$node->safe_psql($to,
		"TRUNCATE copy;\n\\copy copy FROM '$file' $options{$format}");
	return slurp_file($file);
}

foreach my $format (sort keys %options)
{
	my $bytes =
	  copy_through_client('latin1', 'latin1', $format, 'UTF8', 'true');

	like($bytes, qr/Gr\xc3\xbc\xc3\x9fe/,
		"$format: client encoding UTF8 shows in the file");
	is_same(
		list_documents($node, 'latin1', 'copy', 'v'),
		oracle_with_null('latin1'),
		"$format: LATIN1 to LATIN1 by UTF8");

	$bytes =
	  copy_through_client('latin1', 'target', $format, 'LATIN1', 'true');
	like($bytes, qr/Gr\xfc\xdfe/,
		"$format: client encoding LATIN1 shows in the file");
	is_same(
		list_documents($node, 'target', 'copy', 'v'),
		oracle_with_null('latin1'),
		"$format: LATIN1 to UTF8 by LATIN1");

	copy_through_client('target', 'target', $format, 'UTF8', 'true');
	$node->safe_psql('target',
		'TRUNCATE origin; INSERT INTO origin SELECT * FROM copy');

	$bytes = copy_through_client('euc_jp', 'target', $format, 'UTF8', 'true');
	is_same(
		list_documents($node, 'target', 'copy', 'v'),
		oracle_with_null('euc_jp'),
		"$format: EUC_JP to UTF8 by UTF8");
	$node->safe_psql('target',
		'TRUNCATE origin; INSERT INTO origin SELECT * FROM copy');
	copy_through_client('target', 'euc_jp', $format, 'SJIS', 'true');
	is_same(
		list_documents($node, 'euc_jp', 'copy', 'v'),
		oracle_with_null('euc_jp'),
		"$format: UTF8 to EUC_JP by SJIS");

	# SQL_ASCII takes the bytes as they come
	$bytes =
	  copy_through_client('latin1', 'sql_ascii', $format, 'LATIN1', 'true');
	is_same(
		$node->safe_psql(
			'sql_ascii',
			'SELECT id, nbmf_kind(v), length(v::text), md5(v::text) FROM copy ORDER BY id'
		),
		"0|||\n"
		  . $node->safe_psql(
			'latin1',
			'SELECT id, kind, length(body), md5(body) FROM document ORDER BY id'
		  ),
		"$format: LATIN1 to SQL_ASCII, bytes as they are");

	# what the client cannot show is refused, not replaced
	{
		local $ENV{PGCLIENTENCODING} = 'LATIN1';
		is( sqlstate_of(
				$node, 'utf8',
				"COPY (SELECT * FROM origin) TO STDOUT $options{$format}"),
			'22P05',
			"$format: characters that the client does not know");
	}
}
is_deeply([ verify_columns($node, 'sql_ascii') ],
	['3'], 'all columns of the SQL_ASCII database verify');
is_deeply([ verify_columns($node, 'euc_jp') ],
	['3'], 'all columns of the EUC_JP database verify');

# Forged binary input: a file with one row, whose second field is the payload
sub forge
{
	my ($field) = @_;
	my $file = "$dir/forged";

	unlink $file;
	append_to_file($file,
			"PGCOPY\n\xff\r\n\0"
		  . pack('N N', 0, 0)
		  . pack('n N N', 2, 4, 1)
		  . $field
		  . pack('n', 0xffff));
	return $file;
}

sub field
{
	my ($bytes) = @_;

	return pack('N', length $bytes) . $bytes;
}

my $postmaster = slurp_file($node->data_dir . '/postmaster.pid');
$postmaster =~ s/\n.*//s;

# [name, field, SQLSTATE in a UTF8 database, in a SQL_ASCII one if different]
my @refused = (
	[ 'nothing', field(''), '08P01' ],
	[ 'a version and nothing', field("\x01"), '08P01' ],
	[ 'version 0', field("\x00\x00abc"), '22P03' ],
	[ 'version 2', field("\x02\x00abc"), '22P03' ],
	[ 'version 255', field("\xff\x00abc"), '22P03' ],
	[ 'kind 4', field("\x01\x04abc"), '22P03' ],
	[ 'kind 16', field("\x01\x10abc"), '22P03' ],
	[ 'kind 255', field("\x01\xffabc"), '22P03' ],
	[ 'empty JSON', field("\x01\x01"), '22P02' ],
	[ 'JSON that is not', field("\x01\x01{\"a\": }"), '22P02' ],
	[ 'JSON that ends early', field("\x01\x01[1, 2"), '22P02' ],
	[ 'JSON that goes on', field("\x01\x01{} {}"), '22P02' ],
	[
		'JSON with a line break in a string', field("\x01\x01\"a\nb\""),
		'22P02'
	],
	[ 'JSON with a broken escape', field("\x01\x01\"\\u12\""), '22P02' ],
	[ 'JSON that is a vector', field("\x01\x01{1,2}"), '22P02' ],
	[ 'JSON with a zero byte', field("\x01\x01[1]\0"), '22021' ],
	[ 'JSON with invalid UTF-8', field("\x01\x01\"\xc3\""), '22021', 'none' ],
	[ 'text that is a zero byte', field("\x01\x00\0"), '22021' ],
	[ 'text with a zero byte', field("\x01\x00abc\0def"), '22021' ],
	[
		'text with invalid UTF-8', field("\x01\x00ab\xff\xfe"),
		'22021', 'none'
	],
	[ 'text with cut UTF-8', field("\x01\x00ab\xe6\x97"), '22021', 'none' ],
	[
		'text with a surrogate', field("\x01\x00\xed\xa0\x80"),
		'22021', 'none'
	],
	[ 'an empty vector', field("\x01\x03"), '22P03' ],
	[ 'a vector of 3 bytes', field("\x01\x03abc"), '22P03' ],
	[ 'a vector of 5 bytes', field("\x01\x03abcde"), '22P03' ],
	[
		'a field longer than the file',
		pack('N', 1000) . "\x01\x00abc",
		'22P04'
	],
	[
		'a field of negative length',
		pack('N', 0x80000000) . "\x01\x00abc",
		'22P04'
	],
	[
		'a field of 2 GB',
		pack('N', 0x7fffffff) . "\x01\x00abc",
		qr/^(54000|22P04)$/
	],);

foreach my $db ('utf8', 'sql_ascii')
{
	$node->safe_psql($db, 'TRUNCATE copy');
	foreach my $case (@refused)
	{
		my ($name, $field, @states) = @$case;
		my $expected = $db eq 'utf8' ? $states[0] : $states[-1];
		my $file = forge($field);

		foreach my $how (
			"COPY copy FROM '$file' (FORMAT binary)",
			"\\copy copy FROM '$file' (FORMAT binary)")
		{
			my $got = sqlstate_of($node, $db, $how);

			like(
				$got,
				ref $expected ? $expected : qr/^$expected$/,
				"$db: $name, by " . ($how =~ /^COPY/ ? 'server' : 'client'));
			last if $expected eq 'none';
		}
	}
}
is($node->safe_psql('utf8', 'SELECT * FROM copy'),
	'', 'nothing of that was stored');

# What looks forged and is sound: the content decides
my $nan =
  pack('N*', 0x7fc00000, 0xffc00000, 0x7f800001, 0xffffffff, 0x3f800000);
my @accepted = (
	[ 'null', pack('N', 0xffffffff), '|' ],
	[ 'empty text', field("\x01\x00"), 'text|' ],
	[ 'empty bytea', field("\x01\x02"), 'bytea|\x' ],
	[ 'bytea with anything', field("\x01\x02\0\xff\0"), 'bytea|\x00ff00' ],
	[ 'text that is JSON', field("\x01\x00{\"a\":1}"), 'json|{"a":1}' ],
	[ 'text that is a vector', field("\x01\x00{1,2}"), 'vector|{1,2}' ],
	[ 'text that is bytea', field("\x01\x00\\x0a"), 'bytea|\x0a' ],
	[ 'JSON that is a number', field("\x01\x01-0"), 'json|-0' ],
	[
		'NaNs of every sort', field("\x01\x03$nan"),
		'vector|{NaN,NaN,NaN,NaN,1}'
	],
	[
		'infinities and zeros',
		field("\x01\x03" . pack('N*', 0x7f800000, 0xff800000, 0x80000000, 1)),
		'vector|{Infinity,-Infinity,-0,1e-45}'
	],);

foreach my $case (@accepted)
{
	my ($name, $field, $expected) = @$case;
	my $file = forge($field);

	is( $node->safe_psql(
			'utf8', qq{
			TRUNCATE copy;
			COPY copy FROM '$file' (FORMAT binary);
			SELECT nbmf_kind(v), v FROM copy}),
		$expected,
		"accepted: $name");
	is( $node->safe_psql(
			'utf8', q{
			SELECT v IS NULL OR v = v::text::nbmf AND nbmf_hash(v) = nbmf_hash(v::text::nbmf)
				AND nbmf_send(v) = nbmf_send(v::text::nbmf) AND nbmf_verify(v)
			FROM copy}),
		't',
		"accepted: $name, the same value as its text");
}

my $now = slurp_file($node->data_dir . '/postmaster.pid');
$now =~ s/\n.*//s;
is($now, $postmaster, 'the server is the same');
unlike(
	slurp_file($node->logfile),
	qr/PANIC|TRAP|terminated by signal/,
	'and nothing in it has crashed');

$node->stop;
done_testing();

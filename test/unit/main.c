/*
 * main.c
 *		The unit tests of the pure C rooms: src/codec and src/crypto.
 *
 *	unit [--quick] GOLDEN_DIR		run the tests; --quick for slow machines
 *									(valgrind): the same cases, fewer sizes
 *	unit --write-golden GOLDEN_DIR	add the golden files that are not there yet
 */
#include "unit.h"

#include <stdio.h>
#include <string.h>

int
main(int argc, char **argv)
{
	bool quick = false;

	if (argc == 3 && strcmp(argv[1], "--write-golden") == 0)
		return golden_write(argv[2]);
	if (argc == 3 && strcmp(argv[1], "--quick") == 0)
		quick = true;
	else if (argc != 2 || argv[1][0] == '-')
	{
		fprintf(stderr, "usage: unit [--quick | --write-golden] GOLDEN_DIR\n");
		return 2;
	}

	test_checksum(quick);
	test_digest(quick);
	test_frame(quick);
	test_kind(quick);
	test_round_trip(quick);
	test_workspace(quick);
	test_dict(quick);
	test_neural(quick);
	test_damage(quick);
	test_fingerprint(quick, argv[argc - 1]);
	test_match(quick);
	test_golden(argv[argc - 1]);
	return tap_finish();
}

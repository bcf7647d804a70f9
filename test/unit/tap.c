/*
 * tap.c
 *		Counting and reporting for tap.h.
 */
#include "tap.h"

#include <stdarg.h>
#include <stdio.h>

/* Failed checks of one test that are printed; the rest are only counted */
#define SHOWN_MAX 10

static int passed;
static int failed;
static int failed_checks; /* of the running test */

void
tap_run(const char *name, TapTest test)
{
	failed_checks = 0;
	test();
	if (failed_checks > SHOWN_MAX)
		printf("# ... and %d more\n", failed_checks - SHOWN_MAX);
	if (failed_checks > 0)
		failed++;
	else
		passed++;
	printf("%s %d - %s\n", failed_checks > 0 ? "not ok" : "ok", passed + failed, name);
	fflush(stdout);
}

bool
tap_check(bool ok, const char *file, int line, const char *what, const char *fmt, ...)
{
	va_list args;

	if (ok || ++failed_checks > SHOWN_MAX)
		return ok;
	printf("# %s:%d: not true: %s: ", file, line, what);
	va_start(args, fmt);
	vprintf(fmt, args);
	va_end(args);
	putchar('\n');
	return false;
}

/*
 * Print the plan and the totals; returns the program's exit status.
 */
int
tap_finish(void)
{
	printf("1..%d\n%d passed, %d failed\n", passed + failed, passed, failed);
	return failed > 0 || passed == 0 ? 1 : 0;
}
